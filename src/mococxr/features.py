"""Images -> frames -> features of an encoder.

N  images    D  length of a feature    H, W  height and width of a frame in px
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor, nn
from torch.utils.data import Dataset

from mococxr import console
from mococxr.encoders import Encoder, open_encoder, resolve_encoders
from mococxr.errors import InputError, RunError
from mococxr.frames import image_level, to_frame
from mococxr.store import Store
from mococxr.workers import keep_memory

PATIENCE = 1.0
"""Seconds of one image above which its cost is not measured again."""


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is a GPU where there is one, else the CPU.

    Raises:
        InputError: the device named is not there.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there_is in present.items() if there_is))
    if not present.get(name, False):
        raise InputError(f"There is no device {name!r} here.", "Leave --device out, or take cpu.")
    return torch.device(name)


def set_threads(jobs: int | None) -> None:
    """Let PyTorch use `jobs` threads; None leaves its own choice."""
    if jobs is not None:
        torch.set_num_threads(jobs)


def state_hash(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, with their names."""
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def encode_frames(
    encoder: Encoder, frames: Iterable[NDArray[np.uint8]], device: torch.device, batch: int = 64
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Encode frames of any shapes; frames of one shape share a batch.

    Yields:
        The position of a frame in `frames` and its feature (D,): in order of position within a shape only.
    """
    if device.type == "cpu":
        keep_memory()
    waiting: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = {}
    for position, frame in enumerate(frames):
        group = waiting.setdefault(frame.shape, [])
        group.append((position, frame))
        if len(group) == batch:
            yield from _encode_batch(encoder, waiting.pop(frame.shape), device)
    for group in waiting.values():
        yield from _encode_batch(encoder, group, device)


def encoded(
    encoder: Encoder, frames: Sequence[NDArray[np.uint8]], device: torch.device, batch: int = 64
) -> NDArray[np.float32]:
    """Features (N, D) of frames of any shapes, in their order."""
    out = np.empty((len(frames), encoder.spec.feature_dim), np.float32)
    for position, feature in encode_frames(encoder, frames, device, batch):
        out[position] = feature
    return out


def _encode_batch(
    encoder: Encoder, group: list[tuple[int, NDArray[np.uint8]]], device: torch.device
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    images = torch.from_numpy(np.stack([frame for _, frame in group])[:, None]).to(device)
    with torch.inference_mode():
        encoded = encoder(images).cpu().numpy()
    yield from zip((position for position, _ in group), encoded, strict=True)


def features(
    encoder: Encoder,
    store: Store,
    rows: Sequence[int] | NDArray[np.integer],
    *,
    size: int,
    crop_mode: str = "center",
    device: torch.device | str = "cpu",
    batch: int = 64,
    label: str | None = "features",
) -> NDArray[np.float32]:
    """Features of images of a store, the encoder in eval mode and proved unchanged.

    Args:
        rows: row numbers of the store, N.
        size, crop_mode: as `to_frame`.
        label: what the progress line is called; None shows none.

    Returns:
        (N, D) float32, in the order of `rows`.

    Raises:
        RunError: the encoder's state changed on the way, or a feature is not finite.
    """
    device = torch.device(device)
    encoder = encoder.to(device).eval()
    before = state_hash(encoder)  # batch norm left in train mode would change it without a word
    level = store.level(size)
    out = np.empty((len(rows), encoder.spec.feature_dim), dtype=np.float32)
    images = (to_frame(level.pixels(int(row)), size, crop_mode) for row in rows)
    with console.progress(label, len(rows)) if label else nullcontext() as bar:
        for position, feature in encode_frames(encoder, images, device, batch):
            out[position] = feature
            if bar:
                bar.advance()
    if state_hash(encoder) != before:
        raise RunError("The encoder changed while its features were read: they are not those of one encoder.")
    if not np.isfinite(out).all():
        raise RunError(f"{int((~np.isfinite(out).all(axis=1)).sum())} images have features that are not finite.")
    return out


def seconds_per_image(encoder: Encoder, size: int, device: torch.device | str = "cpu", batch: int = 4) -> float:
    """How long one image takes an encoder, here and now.

    The fastest of a second image alone and, where that takes less than `PATIENCE`, two batches.

    Args:
        size: side of the frames, px.
    """
    device = torch.device(device)
    encoder = encoder.to(device).eval()
    frames = [np.full((size, size), 40 * i, dtype=np.uint8) for i in range(batch)]
    taken = []
    for group in (frames[:1], frames[:1], frames, frames):  # the first pays for what a device sets up once: not counted
        begun = time.perf_counter()
        list(_encode_batch(encoder, list(enumerate(group)), device))
        taken.append((time.perf_counter() - begun) / len(group))
        if len(taken) > 1 and taken[1] > PATIENCE:
            break
    return min(taken[1:])


class Images(Dataset[tuple[Any, int]]):
    """The images of a store, or of some of its splits: (frame, row), see `mococxr.Images`."""

    def __init__(
        self,
        store: Store | str | PathLike[str],
        split: str | Sequence[str] | None = "train",
        *,
        size: int | None = None,
        crop_mode: str = "center",
        transform: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.store = store if isinstance(store, Store) else Store.open(Path(store))
        splits = (split,) if isinstance(split, str) else split
        self.rows = np.arange(len(self.store)) if splits is None else self.store.rows_in(*splits)
        self.size, self.crop_mode, self.transform = size or int(self.store.manifest["size"]), crop_mode, transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        row = int(self.rows[i])
        pixels = to_frame(self.store.level(self.size).pixels(row), self.size, self.crop_mode)
        tensor = torch.from_numpy(np.array(pixels))[None]  # a copy: torch warns of memory that is mapped read-only
        return tensor if self.transform is None else self.transform(tensor), row


class Features(TransformerMixin, BaseEstimator):
    """Images -> features of a fixed encoder, see `mococxr.Features`. Parameters are kept as given, so that it clones."""

    def __init__(
        self,
        encoder: Encoder | str | PathLike[str],
        *,
        size: int | None = None,
        features: str = "stages",
        crop_mode: str = "center",
        device: str = "auto",
        batch: int = 64,
    ) -> None:
        self.encoder, self.size, self.features = encoder, size, features
        self.crop_mode, self.device, self.batch = crop_mode, device, batch

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        """Open the encoder; nothing is learned from the images."""
        self.parts_ = self._open()
        self.n_features_out_ = sum(encoder.spec.feature_dim for encoder, _ in self.parts_)
        return self

    def transform(self, X: NDArray[np.uint8] | Iterable[NDArray[np.uint8]] | Images) -> NDArray[np.float32]:
        """Features (N, D) of images (N, H, W) uint8, of a list of (H, W) images, or of `Images`."""
        images = X if isinstance(X, Sequence | np.ndarray | Images) else list(X)
        parts = getattr(self, "parts_", None) or self._open()
        return np.concatenate([self._part(encoder, size, images) for encoder, size in parts], axis=1)

    def _part(self, encoder: Encoder, size: int, images: Any) -> NDArray[np.float32]:
        out = np.empty((len(images), encoder.spec.feature_dim), np.float32)
        device = pick_device(self.device)
        frames = (self._frame(images, i, size) for i in range(len(images)))
        for position, feature in encode_frames(encoder.to(device).eval(), frames, device, self.batch):
            out[position] = feature
        return out

    def _open(self) -> list[tuple[Encoder, int]]:
        """Each encoder that stands side by side, and the side of its frames."""
        if isinstance(self.encoder, Encoder):
            return [(self.encoder, self.size or self.encoder.spec.size)]
        sources = resolve_encoders(self.encoder, size=self.size, features=self.features)
        return [(open_encoder(source), source.spec.size) for source in sources]

    def _frame(self, images: Any, i: int, size: int) -> NDArray[np.uint8]:
        if isinstance(images, Images):
            pixels = images.store.level(size).pixels(int(images.rows[i]))
        else:
            pixels = np.ascontiguousarray(images[i], dtype=np.uint8)
            pixels = image_level(pixels, min(pixels.shape), size)  # no store, so no stored size: its own
        return to_frame(pixels, size, self.crop_mode)

    def __sklearn_is_fitted__(self) -> bool:
        return True  # the encoder is fixed
