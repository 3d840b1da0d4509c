"""Shenzhen tuberculosis set (Jaeger et al., 2014): `CXR_png/CHNCXR_0001_0.png`, one image a patient.

The label is the last digit of the name; `ClinicalReadings/CHNCXR_0001_0.txt` gives sex and age; its text is left there.
Montgomery is laid out the same way and read by the same function.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import polars as pl

from mococxr.datasets import columns
from mococxr.datasets.dataset import Cohort, Request, finish
from mococxr.errors import InputError

LABEL = "Tuberculosis"


def read(request: Request) -> Cohort:
    """Read the Shenzhen set.

    Raises:
        InputError: see `read_cohort`.
    """
    return read_tuberculosis(request, "shenzhen", "CHNCXR")


def images(source: Path, prefix: str) -> list[Path]:
    """The images by name, in `CXR_png/` or in the source itself."""
    pattern = re.compile(rf"{prefix}_\d+_[01]\.(png|jpe?g)", re.IGNORECASE)
    for folder in (source / "CXR_png", source):
        if folder.is_dir():
            found = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
            if found:
                return found
    return []


def read_tuberculosis(request: Request, name: str, prefix: str) -> Cohort:
    """Read a set laid out as Shenzhen's.

    Args:
        request: see `read_cohort`.
        name: the reader and the source of the patients.
        prefix: how the file names begin.

    Raises:
        InputError: see `read_cohort`.
    """
    if request.labels is not None:
        raise InputError(
            f"The {name} reader takes its labels from the file names.", "Leave --labels out, or use csv."
        )
    root = request.root
    found = images(root, prefix)
    if not found:
        raise InputError(
            f"{root} holds no images named {prefix}_NNNN_0.png or {prefix}_NNNN_1.png.",
            "Give the folder that holds CXR_png.",
        )
    columns.wanted(request.label, (LABEL,), name)
    readings = [_reading(root / "ClinicalReadings" / f"{path.stem}.txt") for path in found]
    text = pl.DataFrame(
        readings, schema={"sex": pl.String, "age": pl.String, "there": pl.Boolean}, orient="row"
    )
    stems = pl.Series([path.stem for path in found])
    rows = (
        text.drop("there")
        .with_columns(
            path=pl.Series([path.relative_to(root).as_posix() for path in found]),
            patient=stems.str.replace(r"_[01]$", ""),
            sex=columns.sexes(text["sex"]),
            age=columns.ages(text["age"]),
        )
        .with_columns(stems.str.tail(1).cast(pl.Int8).alias(LABEL))
    )
    missing = (~text["there"]).sum()
    cohort = Cohort(
        name=name,
        source=name,
        root=root,
        rows=rows,
        labels=(LABEL,),
        notes=(f"{missing:,} images have no clinical reading: sex and age are unknown.",) if missing else (),
        inputs={"names": hashlib.sha256("\n".join(stems).encode()).hexdigest()},
    )
    return finish(cohort, lambda row: found[row].name, request.patients_unknown)


def _reading(path: Path) -> tuple[str | None, str | None, bool]:
    """Sex and age as written, None where the file or the word is absent; and whether the file has any text."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None, None, False
    sex = re.search(r"\b(female|male|f|m)\b", text, re.IGNORECASE)
    age = re.search(r"(\d+)\s*([ymwd])", text, re.IGNORECASE)
    return sex and sex[1], age and age[1] + age[2], bool(text.strip())
