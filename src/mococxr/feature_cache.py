"""Features kept on disk: one file for an encoder and the images of a store, which grows by the rows that are missing.

The name of a file, `KEY.npy`, is a hash of all that features follow from besides the row: weights, frame, images, device,
version. It holds features (N, D), which `numpy.load` reads, and behind them the N row numbers, sorted. Features are float16
where its range holds them, and whoever works with them takes what is kept. In another batch the last bits of a float32
differ, and float16 rounds them away, but for the rare number that lies in the middle of two: it may come out as either.

N  images    D  length of a feature
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mococxr import console
from mococxr.errors import InputError
from mococxr.files import atomic, check_place, lock
from mococxr.version import VERSION

Rows = NDArray[np.int64]
Values = NDArray[np.float32]

LARGEST, SMALLEST = 65504.0, 2.0**-10
"""A feature whose largest number lies between is kept as float16: above there is none, and far below few digits are left."""
PART = 16_384
"""Images after which the file is written, so that a run that is stopped has not read more in vain."""


def rounded(features: Values) -> Values:
    """Features (N, D) as they are kept: float16's digits where its range holds an image's feature, as float32."""
    largest = np.abs(features).max(axis=1, initial=0)
    fits = (largest == 0) | ((largest >= SMALLEST) & (largest <= LARGEST))
    with np.errstate(over="ignore"):  # what overflows is not taken
        half = features.astype(np.float16).astype(np.float32)
    return np.where(fits[:, None], half, features)  # image by image: no feature depends on those beside it


def key_of(encoder: str, images: str, crop_mode: str, device: str) -> str:
    """The name of a file: what its features follow from.

    Args:
        encoder: hash of the weights, and how images reach them.
        images: hash of the store's pixels and their order; its labels may be others.
        device: kind of device, since its sums differ in the last bits.
    """
    # another version may cut frames otherwise
    return hashlib.sha256("\0".join((VERSION, encoder, images, crop_mode, device)).encode()).hexdigest()[:32]


def keys_of(encoder: str, images: Sequence[str], crop_mode: str, device: str) -> tuple[str, list[str]]:
    """`key_of` for a store as it is, and as it was before images were added.

    Args:
        images: hash of its images, then those of before, the latest first.
    """
    key, *before = (key_of(encoder, state, crop_mode, device) for state in images)
    return key, before


def counts_words(anew: int, kept: int) -> str:
    """`features: 2,400 images are read, 7,200 come from the cache`."""
    return f"features: {anew:,} images are read, {kept:,} come from the cache"


def read_features(file: Path, rows: Rows) -> Values:
    """The features (N, D) of some of a file's rows; of the others nothing is read."""
    known, values = _open(file)
    return np.asarray(values[np.searchsorted(known, rows)], dtype=np.float32)


@dataclass(frozen=True)
class FeatureCache:
    """Where features are kept.

    Args:
        folder: holds the files that this run works with.
        shared: a folder that other runs share: files grow there, and `folder` has links to them, so that it stays
            whole whatever becomes of them; None for no such folder.
    """

    folder: Path
    shared: Path | None = None

    def file(self, key: str) -> Path:
        """Where this run finds the features."""
        return self.folder / f"{key}.npy"

    def missing(self, key: str, rows: Rows) -> Rows:
        """Those of `rows` whose features are not kept yet."""
        return np.setdiff1d(rows, _known(self._home(key))[0])

    def add(self, key: str, rows: Rows, make: Callable[[Rows], Values]) -> Path:
        """The file with the features of `rows`; `make` computes those that are not there, and `rounded` is kept.

        In a shared folder another process that adds to the same file is waited for.
        """
        home = self._home(key)
        home.parent.mkdir(parents=True, exist_ok=True)
        with closing(_locked(home)) if self.shared else nullcontext():
            missing = self.missing(key, rows)
            parts = range(0, max(len(missing), not home.is_file()), PART)  # a file of no rows is one, too
            for part in (missing[start : start + PART] for start in parts):
                _merge(home, part, rounded(make(part)))
            with suppress(PermissionError):  # of another user
                os.utime(home)  # used now: `trim` goes by it
            if self.shared:
                _link(home, self.file(key))
        return self.file(key)

    def inherit(self, key: str, before: Sequence[str]) -> None:
        """Begin with what is kept of a store as it was before images were added: its rows are the first of these.

        Args:
            before: keys of the same features of that store, the latest first.
        """
        home = self._home(key)
        earlier = next((file for file in map(self._home, before) if file.is_file()), None)
        if earlier is not None and not home.is_file():
            _link(earlier, home)  # files are replaced and never written into: the earlier one stays what it is

    def _home(self, key: str) -> Path:
        return (self.shared or self.folder) / f"{key}.npy"


def check_folder(folder: Path | None) -> None:
    """Refuse, before the work is done, a shared folder that cannot be written to."""
    if folder is not None:
        check_place(folder / "features.npy")


def trim(folder: Path, gigabytes: float, used: Collection[str]) -> None:
    """Remove the files that were not used for the longest time until the others hold no more than so many GB.

    Args:
        used: keys of files that stay.
    """
    limit = gigabytes * 1e9
    facts = [(stat.st_mtime_ns, stat.st_size, file) for file in folder.glob("*.npy") if (stat := _stat(file))]
    total, removed = sum(size for _, size, _ in facts), 0
    for _, size, file in sorted(facts):
        if total <= limit:
            break
        if file.stem not in used and _removed(file):
            total, removed = total - size, removed + 1
    if removed:
        console.say(f"{folder}: {removed:,} files of other features were removed, to stay under {gigabytes:g} GB.")
    if total > limit:
        console.warn(f"{folder} holds {total / 1e9:.1f} GB that runs use, over --feature-cache-size {gigabytes:g}.")


def _removed(file: Path) -> bool:
    """Whether a file is gone; one that another run works with stays. A study's link to it stays as well."""
    try:
        with closing(_locked(file, wait=False)):
            file.unlink(missing_ok=True)
    except (InputError, PermissionError):
        return False
    return True


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:  # another run has removed it in between
        return None


def _locked(home: Path, wait: bool = True) -> BinaryIO:
    """The lock of a file; where another process has it, it is waited for, or an InputError says so."""
    path = home.with_name(f".{home.stem}.lock")
    try:
        return lock(path, InputError("Another run reads the same images by the same encoder.", "Wait for it."))
    except InputError as busy:
        if not wait:
            raise
        console.say(f"{busy.problem} Waiting for it.")
    return lock(path)


def _open(file: Path) -> tuple[Rows, NDArray[np.floating[Any]]]:
    """Rows, and their features as they lie in the file; of one file, should another take its place meanwhile."""
    with file.open("rb") as handle:
        np.lib.format.read_magic(handle)
        shape, _, dtype = np.lib.format.read_array_header_1_0(handle)
        start = handle.tell()
        values = np.memmap(handle, dtype, "r", start, shape)
        handle.seek(start + values.nbytes)
        return np.load(handle), values


def _known(home: Path) -> tuple[Rows, NDArray[np.floating[Any]]]:
    """As `_open`; nothing where there is no file, or one that cannot be read."""
    try:
        return _open(home)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError) as error:
        console.warn(f"{home} cannot be read ({error}): its features are computed again.")
    return np.empty(0, np.int64), np.empty((0, 0), np.float16)


def _merge(home: Path, rows: Rows, values: Values) -> None:
    """Write a file with these rows besides those that it has."""
    known, kept = _known(home)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    packed: NDArray[np.floating[Any]] = half if np.array_equal(half, values) else values
    if len(known):
        rows, packed = np.concatenate([known, rows]), np.concatenate([kept, packed])  # float32 if either of them is
    order = np.argsort(rows)
    with atomic(home) as temporary, temporary.open("wb") as file:
        np.save(file, packed[order])
        np.save(file, rows[order])


def _link(source: Path, target: Path) -> None:
    if target.is_file() and target.samefile(source):
        return
    with atomic(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, temporary)
