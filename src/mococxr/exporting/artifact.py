"""What is exported: a run's encoder, or a fitted classifier, read from its folder and described without identity.

N  frames    T  targets    D  length of a feature    H, W  height and width of a frame in px
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mococxr.classifier.origin import origin_of
from mococxr.classifier.saved import Model, load_model
from mococxr.encoders import STAGES, Encoder, EncoderSpec, load_encoder
from mococxr.errors import InputError, RunError
from mococxr.heads.classifier import EnsembleMember

Facts = dict[str, Any]
TOLERANCE = 1e-4
"""Largest difference between what is exported and what it was made from, see `difference`."""


@dataclass(frozen=True)
class Artifact:
    """An encoder or a classifier, and the records of how it was made.

    Args:
        encoders: in eval mode; of a classifier, its first checkpoint. One, but for a classifier of several side by side.
        model: None for an encoder.
        sha256: of the weights file it was read from.
        origins: how each encoder came to be (`origin.origin_of`); of a classifier, as `model.json` kept it.
    """

    encoders: tuple[Encoder, ...]
    model: Model | None
    sha256: str
    origins: tuple[Facts, ...]

    @property
    def encoder(self) -> Encoder:
        """The first, and as a rule the only one."""
        return self.encoders[0]

    @property
    def origin(self) -> Facts:
        """Of the first encoder."""
        return self.origins[0]

    @property
    def spec(self) -> EncoderSpec:
        """Of the encoder."""
        return self.encoder.spec

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shorter side of the frames that each encoder is shown, px."""
        return self.model.sizes if self.model else (self.spec.size,)

    @property
    def size(self) -> int:
        """That of the first."""
        return self.sizes[0]

    @property
    def whole(self) -> bool:
        """Whether frames are whole images, of any longer side, and not squares."""
        return bool(self.model and self.model.record["preprocessing"]["crop_mode"] == "full")

    @property
    def members(self) -> int:
        """Checkpoints whose probabilities are averaged; 0 for an encoder."""
        return len(self.model.ensemble.members) if self.model else 0

    @property
    def staged(self) -> bool:
        """Whether its features are those of the stages, which a plain network does not give when it is called."""
        return self.spec.features == "stages"

    @property
    def outputs(self) -> int:
        """Outputs of the exported network: one a target, 0 for features alone, also those of a head in a file."""
        return len(self.model.targets) if self.model and not self.staged else 0

    def answers(self, *frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """What it says of frames (N, H, W) for each encoder: features (N, D), or probabilities (N, T)."""
        if self.model:
            return self.model.ensemble.scores(list(zip(*frames, strict=True)), torch.device("cpu"))
        with torch.inference_mode():
            return self.encoder(torch.from_numpy(frames[0][:, None])).double().numpy()


def read_artifact(folder: Path, features: str | None = None) -> Artifact:
    """Read a run folder or a model folder.

    Args:
        features: of a run, `last` (also None) or `stages`.

    Raises:
        InputError: it is neither, or a model of other features.
    """
    if (folder / "model.json").is_file():
        model = load_model(folder)
        encoders = model.ensemble.encoders
        its = encoders[0].spec.features
        if features not in (None, its):
            raise InputError(f"--features {features}: this model was fitted on {its}.", "Leave --features out.")
        origins = tuple(encoder.get("origin") or {} for encoder in model.record["encoders"])
        return Artifact(encoders, model, model.record["weights_sha256"], origins)
    if not (folder / "encoder.json").is_file():
        raise InputError(
            f"{folder} is neither a run nor a model: it has no encoder.json and no model.json.",
            "Name a folder that `mococxr pretrain`, `import` or `fit` has made.",
        )
    origin = origin_of(folder)
    return Artifact((load_encoder(folder, features=features or "last"),), None, origin["sha256"], (origin,))


def one_network(artifact: Artifact, to: str) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
    """The encoder's weights, and the folded heads of a classifier, a row a target; refused where it is no one network.

    Raises:
        InputError: the model has several encoders or averages several checkpoints: no single network says the same.
    """
    if len(artifact.encoders) > 1:
        raise InputError(
            f"This model has {len(artifact.encoders)} encoders side by side; {to} has no network for that.",
            "Export it --to onnx, or fit it on one encoder.",
        )
    if artifact.members > 1:
        raise InputError(
            f"This model averages the probabilities of {artifact.members} checkpoints; {to} has no network for that.",
            "Export it --to onnx, or fit it with --checkpoints 0, which keeps one.",
        )
    weights = {key: value.detach().cpu() for key, value in artifact.encoder.network.state_dict().items()}
    if artifact.model is None:
        return weights, None
    weight, bias = folded_heads(artifact.model.ensemble.members[0])
    return weights, (weight.float(), bias.float())


def folded_heads(member: EnsembleMember) -> tuple[Tensor, Tensor]:
    """The heads of a checkpoint as one linear layer on raw features: weight (T, D), bias (T,), float64."""
    weights, biases = zip(*(head.folded_margin() for head in member.heads), strict=True)
    return torch.cat(weights), torch.cat(biases)


def stages_code(artifact: Artifact, nodes: Sequence[str] = ()) -> str:
    """How a plain network gives the features: for the card, and run as it stands when an export is proved.

    Args:
        nodes: torchvision's modules of the stages before the last one, of a network whose own feature is the mean over
            its last stage; empty for timm, whose networks tell their stages.
    """
    if nodes:
        return (
            f"stages = torchvision.models.feature_extraction.create_feature_extractor(network, {list(nodes)})\n\n"
            "def features_of(images):\n"
            "    last = network(images)  # also the mean over the map of its last stage\n"
            "    means = [stage.mean(dim=(2, 3)) for stage in stages(images).values()]\n"
            "    return torch.cat([*means, last, last], dim=1)\n"
        )
    count = min(STAGES, len(artifact.encoder.network.feature_info))  # type: ignore[arg-type] # every timm network has it
    return (
        "def features_of(images):\n"
        f"    last, stages = network.forward_intermediates(images, indices={count})\n"
        "    return torch.cat([*(stage.mean(dim=(2, 3)) for stage in stages), network.forward_head(last)], dim=1)\n"
    )


def noise_frames(artifact: Artifact, part: int = 0, count: int = 5) -> NDArray[np.uint8]:
    """Frames (N, H, W) of noise on a slope for one encoder, the same each time, to compare answers on."""
    size = artifact.sizes[part]
    height, width = size, size + (32 if artifact.whole else 0)  # whole images are seldom square
    slope = np.linspace(0, 160, width)[None, None] * np.linspace(0.2, 1, count)[:, None, None]
    noise = np.random.default_rng(0).integers(0, 96, (count, height, width))
    return (slope + noise).astype(np.uint8)


def input_names(artifact: Artifact) -> list[str]:
    """Of the ONNX graph: `frames`, or `frames_1`, `frames_2` of encoders side by side."""
    parts = range(len(artifact.encoders))
    return ["frames"] if len(parts) == 1 else [f"frames_{part + 1}" for part in parts]


def normalised(artifact: Artifact, frames: NDArray[np.uint8]) -> Tensor:
    """Frames (N, H, W) as a plain network takes them: (N, channels, H, W) float32."""
    spec = artifact.spec
    grey = torch.from_numpy(frames[:, None]).float() / 255
    mean, std = (torch.tensor(each_channel(value, spec.channels)) for value in (spec.mean, spec.std))
    return (grey.expand(-1, spec.channels, -1, -1) - mean[:, None, None]) / std[:, None, None]


def each_channel(value: float | tuple[float, ...], channels: int) -> list[float]:
    """One number a channel."""
    return list(value) if isinstance(value, tuple) else [value] * channels


def logits(artifact: Artifact, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What a classifier of one checkpoint says before the sigmoid, which hides a fault where it is flat: (N, T)."""
    if artifact.model is None:
        raise ValueError("an encoder has no logits")
    with torch.inference_mode():
        features = artifact.encoder(torch.from_numpy(frames[:, None])).double().numpy()
    return np.stack([head.logits(features) for head in artifact.model.ensemble.members[0].heads], axis=1)


def difference(source: NDArray[np.float64], exported: NDArray[Any]) -> float:
    """Largest difference of what was exported from what it was made of, where all is large in units of the largest.

    Raises:
        RunError: it is above `TOLERANCE`, or not finite.
    """
    scale = max(1.0, float(np.abs(source).max()))
    largest = float(np.abs(source - np.asarray(exported, dtype=np.float64).reshape(source.shape)).max()) / scale
    # Written so that NaN, which compares as false, is refused too.
    if not largest <= TOLERANCE:
        raise RunError(f"What was exported differs by {largest:.2g} from what it was made of; nothing was kept.")
    return largest


def preprocessing(artifact: Artifact) -> Mapping[str, Any]:
    """What must be done to an image before each network, the first of them at the top: values for `export.json`."""
    how = artifact.model.record["preprocessing"] if artifact.model else {}
    parts = [
        {
            "size": size,
            "channels": encoder.spec.channels,
            "mean": each_channel(encoder.spec.mean, encoder.spec.channels),
            "std": each_channel(encoder.spec.std, encoder.spec.channels),
        }
        for size, encoder in zip(artifact.sizes, artifact.encoders, strict=True)
    ]
    shared = {"crop_mode": how.get("crop_mode", "center"), "store_size": how.get("store_size")}
    return shared | parts[0] | {"encoders": parts}
