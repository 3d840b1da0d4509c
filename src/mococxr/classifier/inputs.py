"""The images that `predict` is given: files, folders, DICOM archives, stores; under their names or pseudonyms."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import workers
from mococxr.datasets.dicom_scan import holds_dicom
from mococxr.datasets.own import NAMES
from mococxr.datasets.walk import UNFIT, Walk, any_image, by_suffix, fits, printable
from mococxr.errors import ImageError, InputError, Shown, message
from mococxr.images import Reading, decode, dicom, read_bytes, resize_shorter
from mococxr.images.dicom.elements import is_dicom
from mococxr.privacy import Key
from mococxr.store import Store
from mococxr.tables import first_names, header, identifiers, read_lines, read_table
from mococxr.workers import CRASHED, TOO_SLOW, Deadline, surviving_map

_LISTS = (".csv", ".tsv", ".txt", ".xlsx", ".parquet")
"""Suffixes of files that list images."""
LOOKED_AT = 24
"""Files of a list that are looked at for DICOM."""


@dataclass(frozen=True)
class Image:
    """One image to score: a file, or row `row` of a store.

    Args:
        path: as it is written to the table.
        file: where it lies; None in a store, and where no table can hold its name.
        patient: where known.
        study: where known.
        store: if it stands in one.
        row: of the store.
        real: the image under its real names, where it has pseudonyms made here.
        remarks: of its file, once it is read; see `images.Decoded`.
        labels: of each target, in a store whose labels were asked for: 1, 0, or None where unknown.
        split: of its patient there.
        shorter: shorter side of its file, px, once it is read.
    """

    path: str
    file: Path | None = None
    patient: str | None = None
    study: str | None = None
    store: Store | None = None
    row: int = 0
    real: Image | None = None
    remarks: tuple[str, ...] = ()
    labels: tuple[int | None, ...] = ()
    split: str | None = None
    shorter: int | None = None

    def read(self, reading: Reading, key: Key | None) -> tuple[NDArray[np.uint8], Image]:
        """Its pixels (H, W) uint8, and the image as it is to be named: under a key by pseudonyms.

        Raises:
            ImageError: it cannot be read.
        """
        if self.store is not None:
            return self.store.pixels(self.row), self
        if self.file is None:
            raise ImageError(UNFIT)
        data = read_bytes(self.file)
        decoded = decode(data, reading)
        named = self if key is None else self._hidden(data, key)
        return decoded.pixels, replace(named, remarks=decoded.remarks, shorter=min(decoded.pixels.shape))

    def _hidden(self, data: bytes, key: Key) -> Image:
        """A file's image under the names that `prepare` gives it with the same key."""
        if not is_dicom(data):
            return replace(self, path=key.name("image", self.path), real=self)
        names = dicom.header(data)
        patient = identifiers(pl.Series([names.patient], dtype=pl.String))[0]
        return replace(
            self,
            path=key.name("image", names.sop or self.path),
            patient=key.name("patient", patient) if patient else None,
            study=key.name("study", names.study) if names.study else None,
            real=replace(self, patient=patient, study=names.study),
        )

    def resolved(self) -> tuple[str | None, ...] | None:
        """A row of the key's look-up table, with the folder and the path in it as `prepare` has them; or None."""
        if self.real is None:
            return None
        path, root = self.real.path, "" if self.real.store is None else str(self.real.store.path)
        if self.real.file is not None:
            path = path.partition("/")[2] or path  # the first part is the folder's own name, see `_named`
            root = os.path.abspath(self.real.file).removesuffix(f"/{path}")
        return self.path, self.patient, self.study, path, self.real.patient, self.real.study, root


def images_of(path: Path, key: Key | None) -> tuple[list[Image], tuple[Shown, ...]]:
    """The images by one name, and what was passed by: a store's in row order, a folder's (with its subfolders) in
    natural order, those of a list (a table with a column `path`, or a path a line) in its order.

    Images are found by suffix, and in a folder of DICOM files whatever they are called. Under a key an
    image in a folder is known by the folder's name and its path in it, as to `prepare`.

    Raises:
        InputError: there is nothing, a folder cannot be read, or a list is none.
    """
    if (path / "manifest.json").is_file():
        return list(_of_store(Store.open(path), key)), ()
    if path.is_dir():
        walk = Walk(path, any_image if holds_dicom(path) else by_suffix)
        images = [_named(path, name, path / name, key) for name in sorted(walk.files(), key=_natural)]
        walk.refuse_closed()
        return images + [_named(path, name, None, key) for name in walk.unfit], walk.notes()
    if not path.exists():
        raise InputError(
            "There is nothing at {path}.", "Name image files, folders of images, a list, or a store.", path=Shown(path)
        )
    if _is_list(path):
        rows, notes = _listed(path)
        return [_of_list(path, row, key) for row in rows.iter_rows(named=True)], notes
    name = printable(path.name if key else str(path))
    return [Image(name, path if fits(path.name) else None)], ()


def holds_patients(path: Path) -> bool:
    """Whether a name stands for DICOM files: what they are called is then in no message."""
    if path.is_dir():
        return not (path / "manifest.json").is_file() and holds_dicom(path)
    if not path.is_file():
        return False
    if not _is_list(path):
        return _is_dicom(path)
    try:
        listed, _ = _listed(path)
    except InputError:  # said when its images are asked for
        return False
    files = (_file(path, name) for name in listed["path"].head(LOOKED_AT))
    return any(file.is_file() and _is_dicom(file) for file in files)


def _is_list(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(_LISTS) and not _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(512))  # the mark stands at byte 128
    except OSError:
        return False


def _named(folder: Path, name: str, file: Path | None, key: Key | None) -> Image:
    """An image of a folder."""
    return Image(str(folder / name) if key is None else f"{folder.resolve().name}/{name}", file)


def _listed(path: Path) -> tuple[pl.DataFrame, tuple[Shown, ...]]:
    """The rows of a list, `path` and where there are such columns those of `NAMES`, and what was passed by."""
    columns, notes = header(path), list[Shown]()
    if "path" not in first_names(columns, NAMES) and (len(columns) == 1 or path.suffix.lower() == ".txt"):
        lines = [line.strip("\"'") for line in read_lines(path)]
        if _names_column(lines[0] if lines else "") and not _file(path, lines[0]).exists():
            lines = lines[1:]
        frame = pl.DataFrame({"path": lines}, schema={"path": pl.String})
    else:
        table = read_table(path)
        known = {kind: table.frame[name] for kind, name in first_names(table.frame.columns, NAMES).items()}
        if "path" not in known:
            raise InputError(
                "{table} has no column of paths.", "Name one `path`, or list one path a line.", table=Shown(path)
            )
        known |= {kind: identifiers(known[kind]) for kind in ("patient", "study") if kind in known}
        frame = pl.DataFrame(known).filter(pl.col("path").is_not_null())
        notes += table.notes
        if blank := len(table.frame) - len(frame):
            notes.append(message("{count:,} rows of {table} have no path.", count=blank, table=Shown(path)))
    return frame, tuple(notes)


def _of_list(path: Path, row: dict[str, Any], key: Key | None) -> Image:
    """The image of a row of a list; under a key its file alone says whose it is."""
    file = _file(path, row["path"])
    if key is not None:
        return _named(path.parent, row["path"].replace("\\", "/"), file, key)
    return Image(row["path"], file, row.get("patient"), row.get("study"))


def _names_column(line: str) -> bool:
    """Whether the first line of a list may be what the column is called: words, no path and no number."""
    return re.fullmatch(r"[^\d./\\]+", line) is not None


def _file(listed: Path, path: str) -> Path:
    """Where an image of a list lies: beside the list, or else where its path leads from here."""
    name = os.path.expanduser(path.replace("\\", "/"))  # lists may come from Windows
    beside = listed.parent / name
    return beside if os.path.exists(beside) or not os.path.exists(name) else Path(name)


def _of_store(store: Store, key: Key | None) -> Iterator[Image]:
    """The rows of a store; those of one without pseudonyms get them."""
    rows = store.index.select("path", "patient", "study", pl.min_horizontal("height", "width"))
    hide = key is not None and not store.manifest.get("pseudonyms")
    for i, (path, patient, study, shorter) in enumerate(rows.iter_rows()):
        image = Image(path, None, patient, study, store, i, shorter=shorter)
        if hide and key is not None:
            patient, study = (
                None if identity is None else key.name(kind, identity)
                for kind, identity in (("patient", patient), ("study", study))
            )
            image = replace(image, path=key.name("image", path), patient=patient, study=study, real=image)
        yield image


def _natural(path: str) -> list[tuple[int, str]]:
    """`image-9` before `image-10`."""
    # pairs: a number and a word could not be compared
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]


def quarantined(image: Image, key: Key | None) -> Image:
    """An image that could not be read, as it is to be named."""
    if key is None or image.store is not None:
        return image
    return replace(image, path=key.name("file", image.path), real=image)


# --- decoding, in several processes where there are many
#
# Not in threads: OpenCV tells of damage on standard error only, which is caught one decode at a time in a process, so
# threads would wait for each other. This module imports no PyTorch, which the processes then need not load.

CHUNK = 16
"""Images that a process decodes at a time."""
TRIED = 2
"""Chunks of files that are decoded here first, to see how long an image takes."""
WORTH = 10.0
"""Seconds of decoding ahead from which processes are started: they take seconds to come up."""
Read: TypeAlias = tuple[Image, NDArray[np.uint8] | ImageError]
"""An image as it is to be named with its pixels (H, W); or as it was given, with the reason why it has none."""
Work: TypeAlias = Callable[[Sequence[Image]], list[Read]]


def decoded(
    images: Sequence[Image], *, reading: Reading, size: int, key: Key | None, jobs: int | None
) -> Iterator[Read]:
    """Read images, in the order given and with the same pixels whatever `jobs` is.

    Args:
        reading: how files become images.
        size: a file's shorter side becomes so many px; a store's images come as they stand there.
        key: of pseudonyms, or None.
        jobs: processes at most, where they are worth their start; None for one a core.
    """
    jobs = workers.cores() if jobs is None else jobs
    work = partial(read_chunk, reading=reading, size=size, key=key)
    # neighbours only: the order stays
    for in_store, group in groupby(images, key=lambda image: image.store is not None):
        images = list(group)
        chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
        # a store's pixels are decoded already
        answers = map(work, chunks) if in_store else _of_files(chunks, work, jobs)
        yield from chain.from_iterable(answers)


def _of_files(chunks: Sequence[list[Image]], work: Work, jobs: int) -> Iterator[list[Read]]:
    """The answer of each chunk, in order. A process that dies costs the image it died of, and no other."""
    spent = 0.0
    for chunk in chunks[:TRIED]:
        began = time.perf_counter()
        answer = work(chunk)
        spent += time.perf_counter() - began
        yield answer
    rest = chunks[TRIED:]
    if jobs > 1 and spent / TRIED * len(rest) > WORTH:  # seconds a chunk x chunks ahead
        with tempfile.TemporaryDirectory() as logs:
            limited = [(Deadline(Path(logs) / str(number)), chunk) for number, chunk in enumerate(rest)]
            do, one_by_one = partial(_in_time, work=work), partial(_one_by_one, work=work, jobs=jobs)
            yield from (answer for _, answer in surviving_map(do, limited, jobs, ordered=True, died=one_by_one))
    else:
        yield from map(work, rest)


Limited: TypeAlias = tuple[Deadline, list[Image]]
"""Images, and how long each may take."""


def _in_time(limited: Limited, work: Work) -> list[Read]:
    """Read some images in a process that ends where one takes too long; those that did so before are left out."""
    deadline, images = limited
    exceeded = deadline.exceeded()  # before the first image: the log is written to from here on
    answers: list[Read] = []
    for number, image in enumerate(images):
        if number in exceeded:
            answers.append((image, ImageError(TOO_SLOW)))
        else:
            with deadline.over(number):
                answers += work([image])
    return answers


def _one_by_one(limited: Limited, work: Work, jobs: int) -> list[Read]:
    """A chunk whose process died: the image that kills it gets that as its reason."""

    def died(alone: Limited) -> list[Read]:
        return [(alone[1][0], ImageError(TOO_SLOW if alone[0].exceeded() else CRASHED))]

    deadline, images = limited
    each = [
        # logs of their own: each image is number 0 in its process
        (replace(deadline, log=deadline.log.with_name(f"{deadline.log.name}-{number}")), [image])
        for number, image in enumerate(images)
    ]
    alone = surviving_map(partial(_in_time, work=work), each, jobs, ordered=True, died=died)
    return [answer[0] for _, answer in alone]


def read_chunk(images: Sequence[Image], reading: Reading, size: int, key: Key | None) -> list[Read]:
    """Read some images, here."""
    answers: list[Read] = []
    for image in images:
        try:
            pixels, named = image.read(reading, key)
            # here, so that little is sent back
            answers.append((named, pixels if image.store else resize_shorter(pixels, size)))
        except ImageError as error:
            answers.append((image, error))
        except MemoryError:
            answers.append((image, ImageError("not enough memory to decode it")))
    return answers
