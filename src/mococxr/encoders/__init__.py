"""Encoders with their grey-image preprocessing inside: from timm, transformers, torchxrayvision, a run or a file."""

from mococxr.encoders.encoder import Encoder as Encoder
from mococxr.encoders.encoder import build as build
from mococxr.encoders.encoder import load_weights as load_weights
from mococxr.encoders.encoder import read_spec as read_spec
from mococxr.encoders.encoder import save_encoder as save_encoder
from mococxr.encoders.sources import SOURCES as SOURCES
from mococxr.encoders.sources import EncoderSource as EncoderSource
from mococxr.encoders.sources import initial_encoder as initial_encoder
from mococxr.encoders.sources import load_encoder as load_encoder
from mococxr.encoders.sources import open_encoder as open_encoder
from mococxr.encoders.sources import resolve_encoder as resolve_encoder
from mococxr.encoders.spec import BUILT_IN as BUILT_IN
from mococxr.encoders.spec import IMAGENET_MEAN as IMAGENET_MEAN
from mococxr.encoders.spec import IMAGENET_STD as IMAGENET_STD
from mococxr.encoders.spec import OFFLINE_BACKBONE as OFFLINE_BACKBONE
from mococxr.encoders.spec import EncoderSpec as EncoderSpec
from mococxr.encoders.spec import display_name as display_name
from mococxr.encoders.spec import short_name as short_name
from mococxr.encoders.spec import spec_of as spec_of
from mococxr.encoders.training_data import SETS as SETS
from mococxr.encoders.training_data import TrainedOn as TrainedOn
from mococxr.encoders.training_data import shared_sets as shared_sets
from mococxr.encoders.training_data import trained_on as trained_on
