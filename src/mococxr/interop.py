"""Stores and encoders as other libraries take them: a torch dataset, a scikit-learn transformer.

N  images    D  length of a feature    H, W  height and width in px
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor
from torch.utils.data import Dataset

from mococxr.encoders import Encoder, open_encoder, resolve_encoder
from mococxr.features import encode_frames, image_level, pick_device, to_frame
from mococxr.store import Store


class Images(Dataset[tuple[Any, int]]):
    """The images of a store, or of some of its splits: (frame, row), see `mococxr.Images`."""

    def __init__(
        self,
        store: Store | str | PathLike[str],
        split: str | Sequence[str] | None = "train",
        *,
        size: int | None = None,
        frame: str = "centre",
        transform: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.store = store if isinstance(store, Store) else Store.open(Path(store))
        splits = (split,) if isinstance(split, str) else split
        self.rows = np.arange(len(self.store)) if splits is None else self.store.rows_in(*splits)
        self.size, self.frame, self.transform = size or int(self.store.manifest["size"]), frame, transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        row = int(self.rows[i])
        pixels = to_frame(self.store.level(self.size).pixels(row), self.size, self.frame)
        tensor = torch.from_numpy(np.array(pixels))[None]
        return tensor if self.transform is None else self.transform(tensor), row


class Features(TransformerMixin, BaseEstimator):
    """Images -> features of a fixed encoder, see `mococxr.Features`. Parameters are kept as given, so that it clones."""

    def __init__(
        self,
        encoder: Encoder | str | PathLike[str],
        *,
        size: int | None = None,
        frame: str = "centre",
        device: str = "auto",
        batch: int = 64,
    ) -> None:
        self.encoder, self.size, self.frame, self.device, self.batch = encoder, size, frame, device, batch

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        """Open the encoder; nothing is learned from the images."""
        self.encoder_ = self._open()
        self.n_features_out_ = self.encoder_.spec.feature_dim
        return self

    def transform(self, X: NDArray[np.uint8] | Iterable[NDArray[np.uint8]] | Images) -> NDArray[np.float32]:
        """Features (N, D) of images (N, H, W) uint8, of a list of (H, W) images, or of `Images`."""
        encoder = getattr(self, "encoder_", None) or self._open()
        size = self.size or encoder.spec.size
        images = X if isinstance(X, Sequence | np.ndarray | Images) else list(X)
        out = np.empty((len(images), encoder.spec.feature_dim), np.float32)
        device = pick_device(self.device)
        frames = (self._frame(images, i, size) for i in range(len(images)))
        for position, feature in encode_frames(encoder.to(device).eval(), frames, device, self.batch):
            out[position] = feature
        return out

    def _open(self) -> Encoder:
        if isinstance(self.encoder, Encoder):
            return self.encoder
        return open_encoder(resolve_encoder(fspath(self.encoder), size=self.size))

    def _frame(self, images: Any, i: int, size: int) -> NDArray[np.uint8]:
        if isinstance(images, Images):
            pixels = images.store.level(size).pixels(int(images.rows[i]))
        else:
            pixels = np.ascontiguousarray(images[i], dtype=np.uint8)
            pixels = image_level(pixels, min(pixels.shape), size)
        return to_frame(pixels, size, self.frame)

    def __sklearn_is_fitted__(self) -> bool:
        return True  # the encoder is fixed
