"""Encoders with their grey-image preprocessing inside: from timm, transformers, torchxrayvision, a run or a file."""

from mococxr.encoders.encoder import Encoder, build, load_weights
from mococxr.encoders.folder import load_encoder, read_spec, save_encoder
from mococxr.encoders.names import short_name, shown_name
from mococxr.encoders.sources import EncoderSource, initialise, open_encoder, resolve_encoder, start
from mococxr.encoders.spec import IMAGENET_MEAN, IMAGENET_STD, OFFLINE_BACKBONE, EncoderSpec, spec_of
from mococxr.encoders.training_data import SETS, TrainedOn, shared_sets, trained_on
from mococxr.encoders.weights import load_imagenet, read_weights

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "OFFLINE_BACKBONE",
    "SETS",
    "Encoder",
    "EncoderSource",
    "EncoderSpec",
    "TrainedOn",
    "build",
    "initialise",
    "load_encoder",
    "load_imagenet",
    "load_weights",
    "open_encoder",
    "read_spec",
    "read_weights",
    "resolve_encoder",
    "save_encoder",
    "shared_sets",
    "short_name",
    "shown_name",
    "spec_of",
    "start",
    "trained_on",
]
