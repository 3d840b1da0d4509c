"""What the headers of a DICOM archive's files say: a pass over them, in processes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import console
from mococxr.datasets.walk import Walk, any_name
from mococxr.errors import ImageError
from mococxr.images import SUFFIXES, read_bytes
from mococxr.images.dicom import Metadata, header, rejection_reason
from mococxr.images.dicom.elements import is_dicom
from mococxr.workers import surviving_map

PREFIX = 1 << 16
"""Bytes of a file that are read first: nearly every header ends before."""
BLOCK = 128
"""Files whose headers are read in one task."""
FEW = 400
"""Files up to which no process is started: their headers are read before one would be there."""
CRASHED = "its header crashed the reader"
FACTS = {
    "path": pl.String, "reason": pl.String, "patient": pl.String, "study": pl.String, "sop": pl.String,
    "accession": pl.String, "view": pl.String, "laterality": pl.String, "sex": pl.String, "age": pl.Float64,
    "device": pl.String, "date": pl.String, "order": pl.String, "burned_in": pl.Boolean, "size": pl.Int64,
}  # fmt: skip
"""What is kept of a header until the dataset is made; `reason` says why a file is no image."""
_PLAIN = re.compile(r"[^A-Za-z0-9 .,+/_()-]+")


def holds_dicom(folder: Path, looked_at: int = 24) -> bool:
    """Whether most of the first files are DICOM, those counted that are images of another kind by their suffix."""
    walk = Walk(folder, any_name)
    first = list(islice(walk.files(), looked_at))
    others = sum(n for kind, n in walk.skipped.items() if kind in SUFFIXES)  # a PNG set with a few DICOM files is none
    images = 0
    for path in first:
        try:
            images += is_dicom(_front(folder, path, 512)[0])
        except ImageError:
            continue
    return 2 * images > len(first) + others


def facts_of(root: Path, paths: list[str], jobs: int, any_body_part: bool = False) -> pl.DataFrame:
    """What the headers say, a row a file in the order of the paths, with the columns of `FACTS`.

    Args:
        root: the folder that paths are relative to and may not leave.
        paths: files that may be images.
        jobs: processes that read headers.
        any_body_part: images of other parts than the chest are images.
    """
    blocks = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
    frames: dict[int, pl.DataFrame] = {}  # of blocks, since a million rows as objects would fill the memory
    work = partial(read_block, root, any_body_part=any_body_part)
    few = len(paths) <= FEW or jobs == 1
    one_by_one = partial(_one_by_one, work=work, jobs=jobs)
    with console.progress("headers", len(paths), "files") as bar:
        for number, rows in enumerate(map(work, blocks)) if few else surviving_map(work, blocks, jobs, died=one_by_one):
            frames[number] = pl.DataFrame(rows, schema=FACTS)
            bar.advance(len(rows))
    return pl.concat([pl.DataFrame(schema=FACTS), *(frames[number] for number in range(len(blocks)))])


def _one_by_one(paths: list[str], work: Callable[[list[str]], list[dict[str, Any]]], jobs: int) -> list[dict[str, Any]]:
    """A block whose process died: the file that kills it gets that as its reason."""
    died = lambda path: [{"path": path[0], "reason": CRASHED}]  # noqa: E731
    # Only after a crash: a task a file is slow.
    alone = surviving_map(work, [[path] for path in paths], jobs, ordered=True, died=died)
    return [rows[0] for _, rows in alone]


def read_block(root: Path, paths: list[str], any_body_part: bool = False) -> list[dict[str, Any]]:
    """The facts of some files; a file that is no image has only its path and the reason."""
    rows = []
    for path in paths:
        try:
            rows.append(_facts(path, _header(root, path), any_body_part) | {"size": os.stat(root / path).st_size})
        except OSError as error:
            rows.append({"path": path, "reason": f"cannot be read: {error.strerror}"})
        except ImageError as error:
            rows.append({"path": path, "reason": str(error)})
        except MemoryError:
            rows.append({"path": path, "reason": "not enough memory to read its header"})
    return rows


def _header(root: Path, path: str) -> Metadata:
    """The header, from the front of the file where that is enough.

    Raises:
        ImageError: see `images.dicom.header`, and `images.read_bytes`.
    """
    front, whole = _front(root, path, PREFIX)
    if not front:
        raise ImageError("empty file")
    if whole:
        return header(front)
    if is_dicom(front):
        try:
            facts = header(front)
        except ImageError:
            facts = None  # cut off inside an element: the whole file tells
        if facts is not None and facts.pixels:
            return facts
        return header(read_bytes(root / path, root))
    raise ImageError("not a DICOM file")


def _front(root: Path, path: str, size: int) -> tuple[bytes, bool]:
    """The first bytes of a file, and whether those are all; a link is followed inside the root only."""
    full = os.path.join(root, path)
    try:
        if not stat.S_ISREG(os.lstat(full).st_mode):  # lstat: a link is followed by read_bytes, which checks the root
            return read_bytes(Path(full), root), True
        with open(full, "rb") as file:
            data = file.read(size)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
    return data, len(data) < size


def _facts(path: str, facts: Metadata, any_body_part: bool) -> dict[str, Any]:
    """A header's facts; the date and what identifies stay in memory, and are replaced before anything is kept."""
    date = facts.study_date or facts.acquired
    device = " ".join(filter(None, (facts.manufacturer, facts.model)))
    # As text in the order of time.
    when = (str(facts.acquired or ""), (facts.time or "").ljust(13, "0"), f"{facts.instance or 0:09d}")
    return {
        "path": path,
        "reason": rejection_reason(facts, any_body_part),
        **{name: getattr(facts, name) for name in ("patient", "study", "sop", "accession")},
        **{name: getattr(facts, name) for name in ("view", "laterality", "sex", "age", "burned_in")},
        "device": _PLAIN.sub(" ", device).strip()[:64] or None,
        "date": None if date is None else date.isoformat(),
        "order": " ".join(when),
    }
