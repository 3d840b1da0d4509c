"""Encoders with their grey-image preprocessing inside: from timm, transformers, torchxrayvision, a run or a file."""

from mococxr.encoders.encoder import Encoder, at_stages, build, load_weights, read_spec, save_encoder
from mococxr.encoders.names import EncoderName, arm_name, encoder_names, quoted, split_outside_quotes
from mococxr.encoders.published import INSTALL, LICENCE, LITE0, encoder_folder, published_folder
from mococxr.encoders.sources import (
    SOURCES,
    initial_encoder,
    load_encoder,
    open_encoder,
    resolve_encoder,
    resolve_encoders,
)
from mococxr.encoders.spec import (
    BUILT_IN,
    IMAGENET_MEAN,
    IMAGENET_STD,
    OFFLINE_BACKBONE,
    EncoderSource,
    EncoderSpec,
    Parts,
    display_name,
    grey_value,
    short_name,
    spec_of,
)
from mococxr.encoders.stages import STAGES
from mococxr.encoders.training_data import SETS, TrainedOn, shared_sets, trained_on
from mococxr.encoders.weights import imagenet_on_disk
