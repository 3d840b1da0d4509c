"""Which split `prepare` uses: a stated one before the table's own, that before shares."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from mococxr import console, files
from mococxr.datasets import Dataset
from mococxr.datasets.tables import read_table
from mococxr.errors import InputError, Shown
from mococxr.splits import explicit_split, split_patients


@dataclass(frozen=True)
class SplitPlan:
    """A decision on the split, made and checked before any image is decoded.

    Args:
        rule: the decision in words.
        explicit: `patient, split` of every patient, or None for shares.
        shares: of train, val and test.
        seed: of the split by shares.
    """

    rule: str
    explicit: pl.DataFrame | None
    shares: tuple[float, float, float]
    seed: int

    def assign(self, rows: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
        """`patient, split` for the patients of these rows."""
        if self.explicit is None:
            return split_patients(rows, labels, self.shares, self.seed)
        return self.explicit.filter(pl.col("patient").is_in(rows["patient"].unique().implode()))


def decide(
    dataset: Dataset,
    split_file: Path | None,
    shares: tuple[float, float, float],
    seed: int,
    known_as: Callable[[pl.Series], pl.Series] | None = None,
) -> SplitPlan:
    """Decide, and say what of a stated split is not used.

    Args:
        dataset: whose patients are divided.
        split_file: a stated split.
        shares: of train, val and test.
        seed: of the split by shares.
        known_as: patients as the split file names them -> as the dataset does, where it uses pseudonyms.

    Raises:
        InputError: a stated split does not fit the patients, or shares are impossible.
    """
    if split_file is None and not dataset.has_official_split:
        words = "/".join(f"{100 * share:g}" for share in shares) + " %"
        plan = SplitPlan(f"random by patient {words}, stratified by label, seed {seed}", None, shares, seed)
        plan.assign(dataset.rows, dataset.labels)
        return plan
    if split_file is None:
        table, name = dataset.rows.select("patient", "split"), "the table's own split"
        rule = "as stated by the dataset or its table"
    else:
        if _is_lists(split_file):
            table = _read_lists(split_file, dataset)
        else:
            read = read_table(split_file)
            table = read.frame.select(patient=read.column("patient"), split=read.column("split"))
        name, rule = split_file.name, f"as stated in {split_file.name}"
        if known_as is not None:
            table = table.with_columns(patient=known_as(table["patient"]))
            name, rule = "the split file", "as stated in a file"
    explicit, notes = explicit_split(table, dataset.rows["patient"], name)
    for note in notes:
        console.say(note)
    return SplitPlan(rule, explicit, shares, seed)


# --- a split published as lists of images: `{"train": [[path, label], ...], "validation": [...], "test": [...]}`.
#
# That is the form of the `mednet` package, whose split of Shenzhen (and Montgomery) is the field's reference. A file of
# the user's is read, or by `mednet:default`, `mednet:fold-3` the one in an installed mednet; its code is not run.

_INSTALLED = "mednet:"
_FORM = 'The form is {{"train": [["image.png", 0], ...], "validation": [...], "test": [...]}}.'


def _is_lists(split_file: Path) -> bool:
    """Whether `--split-file` names lists of images rather than a table of patients."""
    return str(split_file).startswith(_INSTALLED) or split_file.suffix.lower() == ".json"


def _read_lists(split_file: Path, dataset: Dataset) -> pl.DataFrame:
    """The lists as `patient, split`, for `explicit_split`.

    A listed image is one of the dataset's by its path, else by its file name without suffix, where only one image of
    the dataset has that name. An image that the dataset lacks stands for a patient of its own, who is then counted as
    left out.

    Raises:
        InputError: no such file, not of that form, or none of its images is in the dataset.
    """
    path = _find_lists(split_file, dataset)
    listed = _listed(path)
    rows = pl.DataFrame({"path": dataset.files, "patient": dataset.rows["patient"]})
    rows = rows.with_columns(stem=_stem("path"))
    named = rows.filter(pl.col("stem").is_unique()).select("stem", by_name="patient")
    listed = listed.with_columns(stem=_stem("path")).join(rows.select("path", "patient"), on="path", how="left")
    listed = listed.join(named, on="stem", how="left")
    if not listed.select(pl.any_horizontal(pl.col("patient", "by_name").is_not_null()).any()).item():
        raise InputError(
            "None of the {count:,} images in {path} is in {source}, e.g. {value!r}.",
            "Give the split of this dataset ({name}).",
            count=len(listed),
            path=path,
            source=Shown(dataset.root),
            value=listed["path"][0],
            name=Shown(dataset.name),
        )
    return listed.select(patient=pl.coalesce("patient", "by_name", "path"), split="split")


def _stem(column: str) -> pl.Expr:
    """The file name of a path, without its suffix."""
    return pl.col(column).str.extract(r"([^/]+?)(?:\.[^./]*)?$", 1)


def _find_lists(split_file: Path, dataset: Dataset) -> Path:
    """The file itself, or mednet's of that name for the dataset."""
    text = str(split_file)
    if not text.startswith(_INSTALLED):
        return split_file
    spec = importlib.util.find_spec("mednet")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    for folder in folders:
        lists = Path(folder) / "config" / "classify" / "data" / dataset.name
        names = sorted(path.stem for path in lists.glob("*.json"))
        if text.removeprefix(_INSTALLED) in names:
            return lists / f"{text.removeprefix(_INSTALLED)}.json"
        raise InputError(
            "The installed mednet has no split {text!r} of {name}.",
            "It has {names}.",
            text=text,
            name=Shown(dataset.name),
            names=Shown(", ".join(names) or "none"),
        )
    raise InputError(
        "--split-file {text} needs the package mednet, which is not installed.",
        "Install it beside this one (pip install --no-deps mednet), or give one of its JSON files.",
        text=text,
    )


def _listed(path: Path) -> pl.DataFrame:
    """`path, split` of every image in the file, in its order."""
    content = files.read_json(path)
    images: list[tuple[str, str]] = []
    for split, entries in content.items() if isinstance(content, dict) else ():
        for number, entry in enumerate(entries if isinstance(entries, list) else (None,), start=1):
            image = entry[0] if isinstance(entry, list) and entry else entry
            if not isinstance(image, str) or not image:
                raise InputError(
                    "{path}, {split!r}, entry {number}: {value!r} is not an image.",
                    _FORM, path=path, split=split, number=number, value=str(entry)[:80],
                )  # fmt: skip
            images.append((PurePosixPath(image.replace("\\", "/")).as_posix(), split))
    if not images:
        raise InputError("{path} lists no images.", _FORM, path=path)
    return pl.DataFrame(images, schema={"path": pl.String, "split": pl.String}, orient="row")
