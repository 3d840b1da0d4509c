"""Looks at the encoder on the way, and which of its states becomes the run's: the last, or the best of those looked at.

A look changes nothing: the encoder is in eval mode for it and as it was after it, and no random number is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mococxr.encoders import Encoder, at_stages
from mococxr.errors import InputError
from mococxr.features import encode_frames
from mococxr.frames import to_frame
from mococxr.heads.targets import read_target
from mococxr.metrics import auroc
from mococxr.pretraining import diagnostics
from mococxr.pretraining.dataset import PretrainSet, held_out, listed, names_in, read_patients
from mococxr.store import Level, Store

EVALUATIONS = 10
"""Looks at a run, evenly spread; the last is at its end."""
MOST = 200
"""Labelled images of a class and split that a look takes, and half the images for the effective rank."""
FIELD = {"knn": "knn_auroc", "rank": "encoder_rank"}
"""What a run is chosen by -> the field of the log."""
Image = tuple[Level, int]


class Labelled(NamedTuple):
    """Images with labels: the neighbours from training patients, the judged from validation patients."""

    train: list[Image]
    train_labels: NDArray[np.int8]
    val: list[Image]
    val_labels: NDArray[np.int8]

    def facts(self, target: str) -> dict[str, Any]:
        """How many images there are, for `run.json`."""
        return {
            "target": target,
            "train_images": len(self.train),
            "train_positives": int(self.train_labels.sum()),
            "validation_images": len(self.val),
            "validation_positives": int(self.val_labels.sum()),
        }


@dataclass
class Selection:
    """What is looked at, by what the encoder is chosen, and the best so far.

    Args:
        by: last, knn or rank.
        images: of the run, for the effective rank of the encoder's features; empty where nobody looks.
        labelled: for the AUROC of nearest neighbours.
        features: what the neighbours are near in, `last` or `stages`.
        best: step, value and weights of the best look; None where the last state is taken.
    """

    by: str
    images: list[Image] = field(default_factory=list)
    labelled: Labelled | None = None
    features: str = "last"
    best: dict[str, Any] | None = None

    def read(self, features: str, encoder: Encoder) -> None:
        """Look for neighbours in these features from now on.

        Raises:
            InputError: the encoder has none of its stages, which is said now and not at the first look.
        """
        if self.labelled is not None and features == "stages":
            at_stages(encoder)
            self.features = features

    def due(self, done: int, steps: int) -> bool:
        """Whether the run is looked at after this step."""
        return bool(self.images) and done * EVALUATIONS // steps != (done - 1) * EVALUATIONS // steps

    def evaluate(self, done: int, encoder: Encoder, device: torch.device) -> dict[str, float | None]:
        """AUROC of nearest neighbours and effective rank of the features now; the best state is kept."""
        modes = [(module, module.training) for module in encoder.modules()]
        encoder.eval()
        values: dict[str, float | None] = {"knn_auroc": self._knn(encoder, device), "encoder_rank": None}
        values["encoder_rank"] = diagnostics.effective_rank(_features(encoder, self.images, device))
        for module, training in modes:
            module.training = training  # each as it was: `train()` would switch all
        value = values.get(FIELD.get(self.by, ""))
        if value is not None and (self.best is None or value > self.best["value"]):
            weights = {name: tensor.detach().cpu().clone() for name, tensor in encoder.state_dict().items()}
            self.best = {"step": done, "value": value, "weights": weights}
        return values

    def _knn(self, encoder: Encoder, device: torch.device) -> float | None:
        if self.labelled is None:
            return None
        reader = at_stages(encoder) if self.features == "stages" else encoder
        near, judged = (_features(reader, images, device) for images in (self.labelled.train, self.labelled.val))
        scores = knn_scores(near, torch.from_numpy(self.labelled.train_labels), judged)
        return auroc(self.labelled.val_labels, scores.numpy())

    def facts(self, steps: int) -> dict[str, Any]:
        """For `run.json`: by what, which step, its value."""
        best = self.best or {"step": steps, "value": None}
        return {"by": self.by, "step": best["step"], "value": best["value"]}


NOT_EVALUATED: dict[str, float | None] = {"knn_auroc": None, "encoder_rank": None}
"""The fields of a look where there is none."""


def make_selection(
    by: str, knn: str | None, stores: Sequence[Store], dataset: PretrainSet, size: int, exclude: Path | None
) -> Selection:
    """Settle what is looked at, before anything is written.

    Args:
        by: last, knn or rank.
        knn: a target (as `--target` of a study), or None.
        size: of the frames, px: that of the encoder in use, whatever the phase of the run.
        exclude: a list of patients to leave out.

    Raises:
        InputError: `knn` without labels of both classes in training and in validation.
    """
    if by == "knn" and knn is None:
        raise InputError("--select knn needs labels to judge by.", "Name a label: --knn LABEL, or --select rank.")
    if by == "last" and knn is None:
        return Selection(by)
    # not the run's seed: runs are looked at alike
    chosen = np.random.default_rng(0).permutation(len(dataset))[: 2 * MOST]
    levels = dataset.levels[size]
    images = [(levels[dataset.store_N[image]], int(dataset.row_N[image])) for image in chosen.tolist()]
    return Selection(by, images, _labelled(knn, stores, levels, exclude) if knn else None)


def _labelled(knn: str, stores: Sequence[Store], levels: Sequence[Level], exclude: Path | None) -> Labelled:
    # Whatever the run sees, test patients and those left out are looked at in no store.
    out = held_out(stores, "train+val").vstack(listed(stores, read_patients(exclude) if exclude else set()))
    sides: dict[str, tuple[list[Image], list[int]]] = {"train": ([], []), "val": ([], [])}
    refused = None
    for store, level in zip(stores, levels, strict=True):
        try:
            target = read_target(store, knn)
        except InputError as error:
            refused = error
            continue
        kept = ~store.index["patient"].is_in(names_in(out, store).implode()).to_numpy()
        for split, (images, labels) in sides.items():
            rows = [row for row in target.known(split).tolist() if kept[row]]
            images += [(level, row) for row in rows]
            labels += target.labels[rows].tolist()
    if refused and not sides["train"][0]:
        raise InputError(f"--knn {knn}: {refused.problem}", refused.way_out)
    for split, (_, labels) in sides.items():
        if len(set(labels)) < 2:
            word = {"train": "training", "val": "validation"}[split]
            raise InputError(
                f"--knn {knn}: of {len(labels):,} labelled {word} images {sum(labels):,} are positive; it takes both.",
                "Name another label, or prepare with more patients in that split.",
            )
    return Labelled(*_some(*sides["train"]), *_some(*sides["val"]))


def _some(images: list[Image], labels: list[int]) -> tuple[list[Image], NDArray[np.int8]]:
    """At most `MOST` images of either class, the same in every run on these stores."""
    array = np.array(labels, dtype=np.int8)
    order = np.random.default_rng(0).permutation(len(array))
    chosen = np.sort(np.concatenate([order[array[order] == label][:MOST] for label in (0, 1)]))
    return [images[i] for i in chosen.tolist()], array[chosen]


def _features(encoder: Encoder, images: Sequence[Image], device: torch.device) -> Tensor:
    """(N, D) float32, on the CPU."""
    size = encoder.spec.size
    out = np.empty((len(images), encoder.spec.feature_dim), dtype=np.float32)
    frames = (to_frame(level.pixels(row), size) for level, row in images)
    for position, feature in encode_frames(encoder, frames, device):
        out[position] = feature
    return torch.from_numpy(out)


@torch.no_grad()
def knn_scores(
    near_ND: Tensor, labels_N: Tensor, images_MD: Tensor, neighbours: int = 20, temperature: float = 0.07
) -> Tensor:
    """Share of positives among the nearest neighbours, each weighted by exp(cosine / T) (Wu et al. 2018, sec. 3.4).

    Args:
        near_ND: features of the images with labels.
        labels_N: 1 or 0.
        images_MD: features of the images to be judged.
        neighbours: how many vote, at most.

    Returns:
        (M,) 0..1, higher is more likely positive.
    """
    near, images = (torch.nn.functional.normalize(side.float(), dim=1) for side in (near_ND, images_MD))
    cosine, nearest = (images @ near.T).topk(min(neighbours, len(near)), dim=1)
    weight = torch.softmax(cosine / temperature, dim=1)
    return (weight * labels_N.to(weight.device)[nearest].float()).sum(dim=1)
