"""Metadata that the encoder predicts beside the method's task: which columns, their values, and the loss.

N  images of the run    n  images of a step on this process    A  columns    D  length of an encoder's feature
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mococxr import tables
from mococxr.errors import InputError
from mococxr.pretraining.dataset import PretrainSet
from mococxr.settings import nearest
from mococxr.store import Store

NAMES = ("row", "path", "patient", "study", "sha256")
"""Columns of a store that name images and people."""
MOST_WORDS = 100


@dataclass(frozen=True)
class Metadata:
    """Columns of the stores as numbers.

    Args:
        names: of the columns.
        words: of each column how many different words it has; 0 for numbers.
        values_NA: number of the word, or standard deviations from the mean; NaN where unknown.
    """

    names: tuple[str, ...]
    words: tuple[int, ...]
    values_NA: NDArray[np.float32]

    def facts(self) -> list[dict[str, Any]]:
        """For `run.json`: how much is known of each column, and no value of it."""
        known = np.isfinite(self.values_NA).sum(axis=0)
        columns = zip(self.names, self.words, known.tolist(), strict=True)
        return [{"column": name, "words": words or None, "images": images} for name, words, images in columns]


def read_metadata(stores: Sequence[Store], dataset: PretrainSet, names: Sequence[str]) -> Metadata:
    """The columns of these names for the images of a run; unknown in a store that has no such column.

    A column is of numbers where all that is known are numbers, else of words.

    Raises:
        InputError: a column that no store has, a label, a name, one value for all, or more words than a head can tell.
    """
    words, values = zip(*(_column(stores, dataset, name) for name in names), strict=True)
    return Metadata(tuple(names), words, np.stack(values, axis=1))


def _column(stores: Sequence[Store], dataset: PretrainSet, name: str) -> tuple[int, NDArray[np.float32]]:
    known_names = {
        column for store in stores for column in store.index.columns if column not in (*NAMES, *store.labels)
    }
    if any(name in store.labels for store in stores):
        raise InputError(
            f"--auxiliary {name} is a label, and pretraining sees none.", "Name metadata, such as view or age."
        )
    if name not in known_names:
        raise InputError(f"No store has metadata {name!r} (--auxiliary).", nearest(name, known_names))
    text = pl.concat(
        _text(store, dataset.row_N[images], name) for store, images in zip(stores, dataset.by_store, strict=True)
    )
    numbers = tables.numbers(text)
    of_numbers = numbers.null_count() == text.null_count()
    kinds = (numbers if of_numbers else text).drop_nulls().unique().sort()  # 1 and 1.0 are one number
    if len(kinds) < 2:
        raise InputError(f"--auxiliary {name} has one value at most: it teaches nothing.", "Leave it out.")
    if of_numbers:
        values = numbers.to_numpy().astype(np.float64)
        return 0, ((values - np.nanmean(values)) / np.nanstd(values)).astype(np.float32)
    if len(kinds) > MOST_WORDS:
        raise InputError(
            f"--auxiliary {name} has {len(kinds):,} different words; at most {MOST_WORDS} are told apart.",
            "Name another column.",
        )
    codes = pl.DataFrame({"word": text}).join(
        kinds.to_frame("word").with_row_index("code"), on="word", how="left", maintain_order="left"
    )
    return len(kinds), codes["code"].cast(pl.Float32).to_numpy()


def _text(store: Store, rows: NDArray[np.int64], name: str) -> pl.Series:
    if name not in store.index.columns:
        return pl.Series(name, [None] * len(rows), dtype=pl.String)
    return tables.identifiers(store.index[name].cast(pl.String)).gather(rows).alias(name)


class Auxiliary:
    """A head on the features that an encoder gives in training, with its loss.

    Args:
        encoder: its passes under gradient are noted; those of looks and of a copy are not.
        head: holds the weights.
        wrapped: the head, over all processes.
    """

    def __init__(self, encoder: nn.Module, head: AuxiliaryHead, wrapped: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.head, self.wrapped = head, wrapped
        self._features: list[Tensor] = []
        encoder.register_forward_hook(self._note)

    def _note(self, encoder: nn.Module, _: object, features: Tensor) -> None:
        if encoder.training and torch.is_grad_enabled():
            self._features.append(features)

    def loss(self, values_NA: Tensor) -> Tensor:
        """Of the passes since the last call, whose images have these values, in the order of the passes."""
        features = torch.cat(self._features)
        self._features.clear()
        return self.wrapped(features, values_NA)


class AuxiliaryHead(nn.Module):
    """One linear layer that predicts all columns from the encoder's features: its gradient reaches the encoder.

    Args:
        words: of each column how many words it has; 0 for numbers.
        width: D.
    """

    def __init__(self, words: Sequence[int], width: int) -> None:
        super().__init__()
        self.words = tuple(words)
        self.head = nn.Linear(width, sum(max(1, count) for count in words))

    def forward(self, features_nD: Tensor, values_nA: Tensor) -> Tensor:
        """Mean over columns of cross entropy (words) or squared error (numbers), each the mean over images that know it."""
        losses = []
        predictions = self.head(features_nD.float()).split([max(1, count) for count in self.words], dim=1)
        for count, predicted, values in zip(self.words, predictions, values_nA.unbind(1), strict=True):
            known = torch.isfinite(values)
            target = values.nan_to_num()  # a number in the place of the unknown, which is not counted
            if count:
                each = F.cross_entropy(predicted, target.long(), reduction="none")
            else:
                each = (predicted[:, 0] - target).square()
            losses.append((each * known).sum() / known.sum().clamp_min(1))
        return torch.stack(losses).mean()
