"""Shenzhen and Montgomery tuberculosis sets (Jaeger et al., 2014): `CXR_png/CHNCXR_0001_0.png`, one image a patient.

The label is the last digit of the name; `ClinicalReadings/CHNCXR_0001_0.txt` gives sex and age; its text is left there.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from pathlib import Path

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.errors import InputError, Shown

LABEL = "Tuberculosis"


def _images(source: Path, prefix: str) -> list[Path]:
    """The images by name, in `CXR_png/` or in the source itself."""
    pattern = re.compile(rf"{prefix}_\d+_[01]\.(png|jpe?g)", re.IGNORECASE)
    for folder in (source / "CXR_png", source):
        if folder.is_dir():
            images = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
            if images:
                return images
    return []


def _find(request: Request, prefix: str) -> Path | None:
    return next(iter(_images(request.source, prefix)), None)


def _read(request: Request, name: str, prefix: str) -> Rows:
    if request.labels is not None:
        raise InputError(
            "The {name} reader takes its labels from the file names.",
            "Leave --labels out, or use csv.",
            name=Shown(name),
        )
    root = request.root
    images = _images(root, prefix)
    if not images:
        raise InputError(
            "{source} holds no images named {prefix}_NNNN_0.png or {prefix}_NNNN_1.png.",
            "Give the folder that holds CXR_png.",
            source=Shown(root),
            prefix=Shown(prefix),
        )
    tables.choose_labels(request.label, (LABEL,), name)
    readings = [_reading(root / "ClinicalReadings" / f"{path.stem}.txt") for path in images]
    schema = {"sex": pl.String, "age": pl.String, "has_text": pl.Boolean}
    text = pl.DataFrame(readings, schema=schema, orient="row")
    stems = pl.Series([path.stem for path in images])
    frame = pl.DataFrame({
        "path": [path.relative_to(root).as_posix() for path in images],
        "patient": stems.str.replace(r"_[01]$", ""),  # without the label, which must not be in an identifier
        "sex": tables.sexes(text["sex"]),
        "age": tables.ages(text["age"]),
        LABEL: stems.str.tail(1).cast(pl.Int8),
    })  # fmt: skip
    missing = (~text["has_text"]).sum()
    return Rows(
        frame,
        (LABEL,),
        describe_row=lambda row: images[row].name,
        inputs={"names": hashlib.sha256("\n".join(stems).encode()).hexdigest()},  # the names are the label table
        notes=(Shown(f"{missing:,} images have no clinical reading: sex and age are unknown."),) if missing else (),
    )


def _reading(path: Path) -> tuple[str | None, str | None, bool]:
    """Sex and age as written, None where the file or the word is absent; and whether the file has any text."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")  # two words are looked for: other bytes do not matter
    except FileNotFoundError:
        return None, None, False
    sex = re.search(r"\b(female|male|f|m)\b", text, re.IGNORECASE)
    age = re.search(r"(\d+)\s*([ymwd])", text, re.IGNORECASE)
    return sex and sex[1], age and age[1] + age[2], bool(text.strip())


SHENZHEN, MONTGOMERY = (
    Reader(name, partial(_find, prefix=prefix), partial(_read, name=name, prefix=prefix))
    for name, prefix in (("shenzhen", "CHNCXR"), ("montgomery", "MCUCXR"))
)
