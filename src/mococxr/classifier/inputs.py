"""The images that `predict` is given: files, folders, DICOM archives, stores; under their names or pseudonyms."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mococxr.datasets.dicom_scan import Walk, holds_dicom
from mococxr.errors import InputError
from mococxr.images import SUFFIXES, Reading, decode_image, read_bytes
from mococxr.images.dicom import header
from mococxr.images.dicom.elements import is_dicom
from mococxr.privacy import Key
from mococxr.store import Store


@dataclass(frozen=True)
class Image:
    """One image to score: a file, or row `row` of a store.

    Args:
        path: as it is written to the table.
        file: where it lies, if it is a file.
        patient: where known.
        study: where known.
        store: if it stands in one.
        row: of the store.
        real: the image under its real names, where it has pseudonyms made here.
    """

    path: str
    file: Path | None = None
    patient: str | None = None
    study: str | None = None
    store: Store | None = None
    row: int = 0
    real: Image | None = None

    def read(self, reading: Reading, key: Key | None) -> tuple[NDArray[np.uint8], Image]:
        """Its pixels (H, W) uint8, and the image as it is to be named: under a key by pseudonyms.

        Raises:
            ImageError: it cannot be read.
        """
        if self.store is not None:
            return self.store.pixels(self.row), self
        data = read_bytes(self.file or Path(self.path))
        return decode_image(data, reading), self if key is None else self._hidden(data, key)

    def _hidden(self, data: bytes, key: Key) -> Image:
        """A file's image under the names that `prepare` gives it with the same key."""
        if not is_dicom(data):
            return replace(self, path=key.name("image", self.path), real=self)
        found = header(data)
        return replace(
            self,
            path=key.name("image", found.sop or self.path),
            patient=key.name("patient", found.patient) if found.patient else None,
            study=key.name("study", found.study) if found.study else None,
            real=replace(self, patient=found.patient, study=found.study),
        )

    def resolved(self) -> tuple[str | None, ...] | None:
        """A row of the key's look-up table, with the folder and the path in it as `prepare` has them; or None."""
        if self.real is None:
            return None
        path, root = self.real.path, "" if self.real.store is None else str(self.real.store.path)
        if self.real.file is not None:
            path = path.partition("/")[2] or path
            root = os.path.abspath(self.real.file).removesuffix(f"/{path}")
        return self.path, self.patient, self.study, path, self.real.patient, self.real.study, root


def images_of(path: Path, key: Key | None) -> Iterator[Image]:
    """The images by one name: a store's in row order, a folder's (with its subfolders) in natural order.

    Images are found by suffix, and in a folder of DICOM files whatever they are called. Under a key an
    image in a folder is known by the folder's name and its path in it, as to `prepare`.

    Raises:
        InputError: there is nothing, or a folder cannot be read.
    """
    if (path / "manifest.json").is_file():
        yield from _of_store(Store.open(path), key)
    elif path.is_dir() and holds_dicom(path):
        walk = Walk()
        for name in sorted({*walk.files(path), *_by_suffix(path, key)}, key=_natural):
            yield Image(str(path / name) if key is None else f"{path.resolve().name}/{name}", path / name)
        if walk.closed:
            _refuse(path / walk.closed[0], "it cannot be read", key)
    elif path.is_dir():
        for name in sorted(_by_suffix(path, key), key=_natural):
            yield Image(str(path / name) if key is None else f"{path.resolve().name}/{name}", path / name)
    elif path.exists():
        yield Image(str(path) if key is None else path.name, path)
    else:
        raise InputError(f"There is nothing at {path}.", "Name image files, folders of images, or a store.")


def _of_store(store: Store, key: Key | None) -> Iterator[Image]:
    """The rows of a store; those of one without pseudonyms get them."""
    rows = store.index.select("path", "patient", "study")
    hide = key is not None and not store.manifest.get("pseudonyms")
    for i, (path, patient, study) in enumerate(rows.iter_rows()):
        image = Image(path, None, patient, study, store, i)
        yield _renamed(image, key) if hide and key is not None else image


def _renamed(image: Image, key: Key) -> Image:
    """An image of known names under pseudonyms."""
    patient, study = (
        None if identity is None else key.name(kind, identity)
        for kind, identity in (("patient", image.patient), ("study", image.study))
    )
    return replace(image, path=key.name("image", image.path), patient=patient, study=study, real=image)


def _by_suffix(folder: Path, key: Key | None) -> Iterator[str]:
    """Images of the known suffixes, relative to the folder."""

    def shut(error: OSError) -> None:
        _refuse(Path(error.filename), str(error.strerror), key)

    for top, folders, names in os.walk(folder, onerror=shut):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in names:
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                yield Path(top, name).relative_to(folder).as_posix()


def _refuse(folder: Path, why: str, key: Key | None) -> None:
    """Raise InputError for a folder, which is not named under a key: it may be called after a patient."""
    named = "a folder in it" if key is not None else f"the folder {folder}"
    raise InputError(f"Cannot read {named}: {why}.", "Check its permissions.")


def _natural(path: str) -> list[tuple[int, str]]:
    """`image-9` before `image-10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]


def quarantined(image: Image, key: Key | None) -> Image:
    """An image that could not be read, as it is to be named."""
    if key is None or image.store is not None:
        return image
    return replace(image, path=key.name("file", image.path), real=image)
