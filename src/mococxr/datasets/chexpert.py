"""CheXpert (Irvin et al., AAAI 2019): `train.csv`, `valid.csv` and, where there is one, the test set's table.

A table says `CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg`: patient and study stand in the path. On disk
that is `train/patient00001/...` in the source or in a release folder in it, or, in the full-size release,
`CheXpert-v1.0 batch 2 (train 1)/patient00001/...`. The test set, which is released apart, may be read alone; its table
has a row an image (`Path`) or a row a study (`Study`).
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.datasets.search import by_columns
from mococxr.datasets.walk import Walk
from mococxr.errors import InputError, Shown
from mococxr.tables import Table, header, read_table

LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
_COLUMNS = frozenset({"Enlarged Cardiomediastinum", "Pleural Effusion"})
_FILES = (("train.csv",), ("valid.csv",), ("test.csv", "test_labels.csv", "groundtruth.csv"))
"""The tables of train, val and test; of several names the first that is there."""
_SPLITS = {"train": "train", "valid": "val", "val": "val", "test": "test"}
"""The split's folder in a path -> the split."""
_STUDY = r"^(.*?)/?((train|valid|val|test)/(patient[^/]+)/(study[^/]+))"
_PARTS = ("release", "inside", "split", "patient", "study", "image")


def _tables(request: Request) -> list[Path]:
    """The tables: the one named, or those in the source or in a release folder directly in it."""
    if request.table is not None:
        return [request.table]
    folders = [request.source, *sorted(request.source.glob("CheXpert*/"))]
    paths = [[folder / name for folder in folders for name in names] for names in _FILES]
    named = [path for some in paths if (path := next(filter(Path.is_file, some), None))]
    other = by_columns(request, {"Path", *_COLUMNS})
    return named or ([other] if other else [])


def _find(request: Request) -> Path | None:
    """The first table with CheXpert's columns."""
    for path in _tables(request):
        names = set(header(path))
        if names & {"Path", "Study"} and READER.has_columns(names):
            return path
    return None


def _read(request: Request) -> Rows:
    """Read the tables there are; `valid.csv` is the validation split."""
    read = [read_table(path) for path in _tables(request)]
    if not read:
        raise InputError(
            "{source} holds no train.csv, valid.csv or test set's table.",
            "Give the folder of the release, or --labels FILE.",
            source=Shown(request.source),
        )
    available, dropped = tables.common_labels(
        [[name for name in LABELS if name in table.frame.columns] for table in read]
    )
    labels = tables.choose_labels(request.label, available, read[0].path.name)
    parts = [_rows(table, labels, request) for table in read]
    frame = pl.concat(parts, how="diagonal")  # tables may lack columns that others have
    origins = [(table, row) for table, part in zip(read, parts, strict=True) for row in part["at"]]
    frame, official, notes = _with_splits(frame)
    return Rows(
        frame,
        labels,
        metadata=tuple(name for name in ("Frontal/Lateral", "AP/PA") if name in frame.columns),
        describe_row=lambda row: origins[row][0].describe_row(origins[row][1]),
        tables=tuple(read),
        has_official_split=official,
        blank_means="negative",  # Irvin et al. 2019: unmentioned findings are blank
        notes=(*dropped, *notes),
    )


def _with_splits(rows: pl.DataFrame) -> tuple[pl.DataFrame, bool, tuple[Shown, ...]]:
    """The rows, whether their split is the official one, and what to say of it."""
    splits = set(rows["split"].unique())
    if splits == {"test"}:  # the test set is released apart, to be judged on
        return rows, True, (Shown("Only the test table is there: all its images are test images."),)
    if len(splits) < 2:  # one table alone is no split: nothing would be tested
        note = Shown(f"Only the {splits.pop()} table is there: its images are split anew.")
        return rows.with_columns(split=pl.lit(None, pl.String)), False, (note,)
    note = Shown("The public release has no test set: the official split is train and val.")
    return rows, True, () if "test" in splits else (note,)


def _rows(table: Table, labels: tuple[str, ...], request: Request) -> pl.DataFrame:
    """The rows of one table, each with `at`, its row in the table."""
    parts = _parts_of(table, request)
    text = table.frame[parts["at"]]
    rows = parts.select(
        path=pl.col("home") + pl.col("patient") + "/" + pl.col("study") + "/" + pl.col("image"),
        patient="patient",
        study=pl.col("patient") + "/" + pl.col("study"),
        split=pl.col("split").replace_strict(_SPLITS),
        at="at",
    )
    if "Sex" in text.columns:
        rows = rows.with_columns(sex=tables.sexes(text["Sex"]))
    if "Age" in text.columns:
        rows = rows.with_columns(age=tables.ages(text["Age"]))
    rows = rows.hstack([text[name] for name in ("Frontal/Lateral", "AP/PA") if name in text.columns])
    rows = rows.with_columns(view=_views(rows))
    describe = lambda row: table.describe_row(parts["at"][row])  # noqa: E731
    return rows.hstack([tables.label_values(text[name], describe) for name in labels])


def _views(rows: pl.DataFrame) -> pl.Expr:
    """AP or PA; else Frontal or Lateral by the table or the file's name (raw columns stay as metadata)."""
    side = pl.col("path").str.extract(r"(?i)_(frontal|lateral)\.", 1).str.to_titlecase()
    if "Frontal/Lateral" in rows.columns:
        side = pl.coalesce("Frontal/Lateral", side)
    if "AP/PA" not in rows.columns:
        return side
    return pl.when(pl.col("AP/PA").is_in(["AP", "PA"])).then("AP/PA").otherwise(side)


def _parts_of(table: Table, request: Request) -> pl.DataFrame:
    """The table's paths in their parts, one row an image.

    A table of studies (a column `Study` and no `Path`, as the test set's `groundtruth.csv`) gets a row for each
    image that its studies have on disk; a study without any gets the image that every study has, view1_frontal.jpg,
    so that it is missed in the open.

    Returns:
        `release, inside, split, patient, study, image` as text, `at`: the row of the table, and `home`: the
        folder of the image's patient, relative to the root, with a slash at its end, or empty for the root.

    Raises:
        InputError: a path that is not .../SPLIT/patientN/studyN.
    """
    per_image = "Path" in table.frame.columns or "Study" not in table.frame.columns
    column = table.column("Path" if per_image else "Study")
    paths = table.frame[column]
    parts = paths.str.extract_groups(_STUDY + (r"/([^/]+)$" if per_image else "/?()$")).struct.unnest()
    parts.columns = _PARTS
    tables.refuse_rows(
        parts["inside"].is_null(), table.describe_row, "{row}, column {column!r}: {path!r} is not {form}.",
        "CheXpert's own paths are needed; read other tables with --format csv.",
        column=column, path=paths, form=Shown(".../train/patientN/studyN" + ("/image" if per_image else "")),
    )  # fmt: skip
    parts = parts.with_row_index("at")
    homes = {split: _homes(parts, split, table, request) for split in parts["split"].unique().sort()}
    parts = pl.concat([_at_home(part, homes[part["split"][0]], request) for part in parts.partition_by("split")])
    return (parts if per_image else _images(parts, request)).sort("at", maintain_order=True)


def _homes(parts: pl.DataFrame, split: str, table: Table, request: Request) -> list[Path]:
    """The folders inside the root that hold patients of this split, the likeliest first."""
    release = parts["release"][0] or ""
    root = request.root
    bases = [
        base
        for base in (root, root / release, root / Path(release).name, table.path.parent, *sorted(root.glob("CheXpert*/")))
        if os.path.isdir(base)
    ]  # fmt: skip
    names = ("valid", "val") if _SPLITS[split] == "val" else (split,)
    homes = [base / name for base in bases for name in names if os.path.isdir(base / name)]
    # The full-size release has folders "batch 2 (train 1)".
    homes += [base for base in bases if base.resolve().name in names or f"({split}" in base.name]
    inside = [folder for folder in homes if folder.resolve().is_relative_to(root.resolve())]  # a link may lead out
    return list({folder.resolve(): folder for folder in inside}.values())  # one folder under several names counts once


def _at_home(parts: pl.DataFrame, homes: list[Path], request: Request) -> pl.DataFrame:
    """The column `home`; where there are several homes, the first that holds the patient."""
    prefixes = {}
    for home in homes:
        name = home.resolve().relative_to(request.root.resolve()).as_posix()
        prefixes[home] = "" if name == "." else f"{name}/"
    usual = prefixes[homes[0]] if homes else f"{parts['split'][0]}/"
    if len(homes) < 2:  # nothing to choose: no folder is listed
        return parts.with_columns(home=pl.lit(usual))
    home_of: dict[str, str] = {}
    for home, prefix in prefixes.items():
        for patient in os.listdir(home):  # one listing a folder, not a look for each patient
            home_of.setdefault(patient, prefix)
    table = pl.DataFrame({"patient": list(home_of), "home": list(home_of.values())})
    joined = parts.join(table, on="patient", how="left", maintain_order="left")
    return joined.with_columns(pl.col("home").fill_null(usual))


def _images(parts: pl.DataFrame, request: Request) -> pl.DataFrame:
    """A row for each image that the studies have on disk."""
    names = []
    for home, patient, study in parts.select("home", "patient", "study").iter_rows():
        walk = Walk(request.root)
        images = [os.path.basename(image) for image in walk.files(f"{home}{patient}/{study}")]
        walk.refuse_closed()
        names.append(sorted(images) or ["view1_frontal.jpg"])  # decoding then reports it as absent
    return parts.with_columns(image=pl.Series(names)).explode("image")


READER = Reader("chexpert", _find, _read, _COLUMNS)
