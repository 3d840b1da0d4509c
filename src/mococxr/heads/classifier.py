"""What every head has in common: the data it learns from, how it is trained, and the classifier that comes out.

N  images    T  targets    D  length of a feature
K  rows of the head: 1, or 3 with a class of its own for uncertain labels
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from torch import Tensor

from mococxr.encoders import Encoder
from mococxr.errors import InputError
from mococxr.features import encoded
from mococxr.heads.scaling import Scaling
from mococxr.heads.targets import Target

if TYPE_CHECKING:
    from mococxr.settings.classifiers import TrainingSettings
    from mococxr.store import Store

Rows = NDArray[np.int64]
Labels = NDArray[np.int8]


@dataclass(frozen=True)
class LinearHead:
    """score = sigmoid of (feature - mean) / scale . weight + bias.

    Args:
        mean, scale: of training images, (D,) float64 (`heads.scaling`).
        weight, bias: (K, D) and (K,) float64.
        C: the inverse regularisation it was solved with; 0 for a head trained by gradient.
        notes: what had to be decided on the way, in plain words.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    C: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def classes(self) -> int:
        """2, or 3 where uncertain labels are a class of their own."""
        return 2 if len(self.bias) == 1 else 3

    def logits(self, features: ArrayLike) -> NDArray[np.float64]:
        """Log odds of the finding, (N,) float64, of features (N, D).

        With three classes: those of positive against negative (U-MultiClass).
        """
        standard = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        return _margin(standard @ self.weight.T + self.bias)

    def scores(self, features: ArrayLike) -> NDArray[np.float64]:
        """Probability of the finding, (N,) float64 in [0, 1], of features (N, D)."""
        return expit(self.logits(features))

    @property
    def intercept(self) -> float:
        """The logit of an image whose features are the means."""
        return float(_margin(self.bias[None])[0])

    def folded(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The head on raw features, standardisation folded in: weight (K, D), bias (K,)."""
        weight = self.weight / self.scale  # (x - m) / s . w + b is x . (w / s) + b - (w / s) . m
        return weight, self.bias - weight @ self.mean

    def folded_margin(self) -> tuple[Tensor, Tensor]:
        """`logits` as one linear layer on raw features: weight (1, D), bias (1,), float64."""
        weight, bias = _margin(self.weight.T)[None], _margin(self.bias[None])
        scaled = weight / self.scale
        return torch.from_numpy(scaled), torch.from_numpy(bias - scaled @ self.mean)


def _margin(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K) -> (N,): the only column, or positive less negative; the column of uncertain plays no part."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


@dataclass(frozen=True)
class EnsembleMember:
    """One checkpoint of a classifier.

    Args:
        weights: of the network of each encoder; None where they are the encoders' own, untouched.
        heads: the heads upon them, one a target.
    """

    weights: tuple[dict[str, Tensor], ...] | None
    heads: tuple[LinearHead, ...]

    @property
    def head(self) -> LinearHead:
        """The first, and the only one where one target was trained."""
        return self.heads[0]


@dataclass(frozen=True)
class FitResult:
    """What training on one target leaves, whatever the mode.

    Args:
        members: the checkpoints whose probabilities are averaged; a solved head is the only one.
        updates: optimiser updates made; 0 for a solved head.
        validation_images: validation labels that chose the checkpoints; 0 where none did.
        notes: what had to be decided on the way, in plain words.
    """

    members: list[EnsembleMember]
    updates: int
    validation_images: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TrainConfig:
    """How a classifier learns: the settings of the same names, checked (`mococxr.settings.classifiers`).

    Args:
        mode: a key of `heads.MODES`.
        C: inverse regularisation of a solved head, or `cv`.
        standardize: `unlabelled`: a solved head's features by all training images; `labelled`: by its labelled rows.
    """

    mode: str = "linear"
    crop_mode: str = "center"
    C: float | str = 0.01
    standardize: str = "unlabelled"
    linear_solver: str = "lbfgs"
    lr: float = 3e-5
    optimizer: str = "adam"
    weight_decay: float = 0.0
    batch: int = 16
    epochs: float | None = None
    checkpoints: int = 10
    seed: int = 0
    device: str = "cpu"


def read_config(settings: TrainingSettings, device: str) -> TrainConfig:
    """Take the configuration out of a command's settings; the mode is the first of a study's.

    Raises:
        InputError: a --C that is neither a number nor cv.
    """
    names = {item.name for item in dataclasses.fields(TrainConfig)} - {"mode", "C", "device"}
    values: dict[str, Any] = {name: getattr(settings, name) for name in names}
    mode = getattr(settings, "mode", "linear")
    mode = mode if isinstance(mode, str) else mode[0]
    return TrainConfig(mode, C=parse_C(settings.C), device=device, **values)


def parse_C(text: str) -> float | str:
    """`cv`, or a number above 0.

    Raises:
        InputError: neither.
    """
    if text == "cv":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):  # nan, too, is refused
        raise InputError(f"--C must be a number above 0, or cv (got {text!r}).", "For example 0.01.")
    return value


@dataclass(frozen=True)
class TrainData:
    """What a classifier learns from. Test images are no part of it.

    Args:
        store: holds the images.
        target: the labels of the store's rows, and its validation rows.
        rows: the labelled training rows that may be used, N.
        size: side of a frame, px.
        encoder: opens the encoder; called only by a mode that changes or runs it.
        features_of: rows -> features of the frozen encoder, (N, D); called only by a mode that needs them.
        scaling: of those features over the store's training images; called only where `TrainConfig.standardize` says.
    """

    store: Store
    target: Target
    rows: Rows
    size: int
    encoder: Callable[[], Encoder]
    features_of: Callable[[Rows], NDArray[np.float32]]
    scaling: Callable[[], Scaling]

    @property
    def labels(self) -> Labels:
        """1, 0 or 2 (uncertain as a class) of each row, (N,)."""
        return self.target.labels[self.rows]

    @property
    def patients(self) -> NDArray:
        """The patient of each row, (N,)."""
        return self.store.index["patient"].to_numpy()[self.rows]

    @property
    def unlabelled(self) -> Rows:
        """Training rows whose labels may not be used: for methods that learn from images without labels too."""
        return np.setdiff1d(self.store.rows_in("train"), self.rows)


def members_of(results: Sequence[FitResult]) -> list[EnsembleMember]:
    """The checkpoints of several targets as one classifier: several targets share the untouched encoders."""
    if len(results) == 1:
        return results[0].members
    if any(member.weights for result in results for member in result.members):
        raise ValueError("encoders that were trained for one target each are no one classifier")
    return [EnsembleMember(None, tuple(result.members[0].head for result in results))]


_HEAD = ("mean", "scale", "weight", "bias")


@dataclass(frozen=True)
class Ensemble:
    """The classifier that every mode gives: of each target the mean probability over one or more checkpoints.

    Args:
        encoders: whose features stand side by side under the head; one, as a rule.
        members: the checkpoints.
    """

    encoders: tuple[Encoder, ...]
    members: list[EnsembleMember]

    def scores(self, images: Sequence[Sequence[NDArray[np.uint8]]], device: torch.device) -> NDArray[np.float64]:
        """Probability of each target for each image, (N, T); arguments as `answers`."""
        return self.answers(images, device)[0]

    def answers(
        self, images: Sequence[Sequence[NDArray[np.uint8]]], device: torch.device
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Probability of each target for each image, (N, T), and features (N, D) of the first checkpoint.

        Args:
            images: of each image its frame (H, W) for each encoder.
        """
        total, first = np.zeros((len(images), len(self.members[0].heads))), np.empty((0, 0), np.float32)
        for number, member in enumerate(self.members):
            if len(self.members) > 1:  # of a single one the encoders have the weights already
                load_member(self.encoders, member)
            values = self.features(images, device)
            first = values if number == 0 else first
            for position, feature in enumerate(values):
                total[position] += [head.scores(feature[None])[0] for head in member.heads]
        return total / len(self.members), first

    def features(self, images: Sequence[Sequence[NDArray[np.uint8]]], device: torch.device) -> NDArray[np.float32]:
        """What the encoders, as they are loaded, make of the images: side by side, (N, D); arguments as `scores`."""
        parts = [
            encoded(encoder.to(device).eval(), [frames[part] for frames in images], device)
            for part, encoder in enumerate(self.encoders)
        ]
        return np.concatenate(parts, axis=1)

    def state(self) -> dict[str, Tensor]:
        """`<member>.encoder.<part>.<key>` and `<member>.head.<target>.<name>` of each checkpoint, targets by number."""
        tensors: dict[str, Tensor] = {}
        for i, member in enumerate(self.members):
            for part, weights in enumerate(member.weights or [e.network.state_dict() for e in self.encoders]):
                # copies: safetensors takes no tensors that share memory
                tensors |= {
                    f"{i}.encoder.{part}.{key}": value.detach().cpu().clone().contiguous()
                    for key, value in weights.items()
                }
            tensors |= {
                f"{i}.head.{target}.{name}": torch.from_numpy(getattr(head, name)).clone()
                for target, head in enumerate(member.heads)
                for name in _HEAD
            }
        return tensors

    @classmethod
    def from_state(
        cls, encoders: Sequence[Encoder], tensors: dict[str, Tensor], members: int, targets: int = 1
    ) -> Ensemble:
        """As `state` gives it; the encoders take the weights of the first checkpoint, in eval mode."""
        restored = []
        for i in range(members):
            prefixes = [f"{i}.encoder.{part}." for part in range(len(encoders))]
            weights = tuple(
                {k.removeprefix(prefix): value for k, value in tensors.items() if k.startswith(prefix)}
                for prefix in prefixes
            )
            heads = []
            for target in range(targets):
                mean, scale, weight, bias = (tensors[f"{i}.head.{target}.{name}"].numpy() for name in _HEAD)
                heads.append(LinearHead(mean, scale, weight, bias))
            restored.append(EnsembleMember(weights, tuple(heads)))
        # a single member is scored without loading it again
        load_member(encoders, restored[0])
        return cls(tuple(encoder.eval() for encoder in encoders), restored)


def load_member(encoders: Sequence[Encoder], member: EnsembleMember) -> None:
    """Put the weights of a checkpoint into its encoders, where it has weights of its own."""
    for encoder, weights in zip(encoders, member.weights or (), strict=False):
        encoder.network.load_state_dict(weights, strict=True)


def member_scores(
    encoder: Encoder, members: list[EnsembleMember], features_by: Callable[[Encoder], NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Mean probability over the members, (N,).

    Args:
        encoder: whose network takes each member's weights in turn; members of several encoders bring none.
        features_by: an encoder -> features (N, D).
    """
    total: NDArray[np.float64] | float = 0.0
    for member in members:
        load_member([encoder], member)
        total = total + member.head.scores(features_by(encoder))
    return np.asarray(total / len(members))
