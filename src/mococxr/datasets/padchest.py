"""PadChest (Bustos et al., 2020): `PADCHEST_chest_x_ray_images_labels_160K_*.csv` and 16-bit PNG images.

An image lies in the folder that its column ImageDir names, or in the source itself. Its labels are a list of terms in
text, `['pleural effusion', 'nodule']`. A column here gathers terms that name one finding (`FINDINGS`); any single
term can be asked for by `--label TERM`. A named term is 1 and an unnamed one 0, except where the list says too little:

* an empty list, or one with `exclude`, leaves the image without labels, as does the projection EXCLUDE;
* `suboptimal study` alone does too;
* `unchanged` means that findings of an earlier report still hold: what is not named is then unknown, not absent.

The reports' text is never read into the store.
"""

from __future__ import annotations

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.datasets.search import locate, needed, newest_table
from mococxr.errors import Shown
from mococxr.tables import Table, read_table

FINDINGS = {
    "Normal": ("normal",),
    "Atelectasis": (
        "atelectasis", "laminar atelectasis", "lobar atelectasis", "segmental atelectasis", "total atelectasis",
        "atelectasis basal", "round atelectasis",
    ),
    "Cardiomegaly": ("cardiomegaly",),
    "Consolidation": ("consolidation",),
    "COPD signs": ("COPD signs",),
    "Edema": ("pulmonary edema",),
    "Effusion": ("pleural effusion", "loculated pleural effusion", "loculated fissural effusion", "hydropneumothorax"),
    "Emphysema": ("emphysema",),
    "Fibrosis": ("pulmonary fibrosis",),
    "Fracture": (
        "fracture", "rib fracture", "callus rib fracture", "clavicle fracture", "humeral fracture",
        "vertebral fracture",
    ),
    "Heart insufficiency": ("heart insufficiency",),
    "Hiatal hernia": ("hiatal hernia",),
    "Infiltrates": ("infiltrates",),
    "Mass": ("mass", "pulmonary mass"),
    "Nodule": ("nodule", "multiple nodules"),
    "Pleural thickening": ("pleural thickening", "apical pleural thickening", "calcified pleural thickening"),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Scoliosis": ("scoliosis",),
    "Tuberculosis": ("tuberculosis",),
}  # fmt: skip
"""Label column -> the terms that make it 1."""
_COLUMNS = frozenset({"ImageID", "ImageDir", "PatientID", "Labels"})
_find = newest_table("PADCHEST*.csv*", _COLUMNS)


def _read(request: Request) -> Rows:
    """Read the table; age is the year of the study less the year of birth."""
    table = read_table(needed(_find(request), request.source, "PADCHEST*.csv"))
    image, projection, dates = table["ImageID"], table["Projection"], table["StudyDate_DICOM"]
    terms = _terms(table["Labels"], table)
    labels, findings, without = _findings(terms, projection, request, table)
    missing = pl.select(pl.format("{}/{}", table["ImageDir"], image)).to_series()
    frame = pl.DataFrame({
        "path": locate(image, request.root, ["", "[0-9]", "[0-9][0-9]", "images*"], missing),
        "patient": table["PatientID"],
        "study": table["StudyID"],
        "view": tables.views(projection),
        "sex": tables.sexes(table["PatientSex_DICOM"]),
        # PatientBirth is a year.
        "age": dates.str.head(4).cast(pl.Float64, strict=False) - tables.ages(table["PatientBirth"]),
        "projection": projection,
        "labelled_by": table["MethodLabel"],
        "suboptimal": terms.list.contains("suboptimal study").cast(pl.Int64),
        "day": tables.days_since_first_study(dates, table["PatientID"]),
    })  # fmt: skip
    return Rows(
        frame.hstack(findings),
        labels,
        metadata=("projection", "labelled_by", "suboptimal", "day"),
        describe_row=table.describe_row,
        tables=(table,),
        notes=(Shown(f"{without:,} images have no usable label list and are kept without labels."),),
    )


def _terms(text: pl.Series, table: Table) -> pl.Series:
    """`['a', 'b']` -> its terms, trimmed, without empty ones; blank (also `nan`, see `read_table`) -> no terms.

    Raises:
        InputError: a text of another form.
    """
    strange = (~text.str.contains(r"""^\[(\s*('[^']*'|"[^"]*")\s*,?)*\s*\]$""")).fill_null(False)
    tables.refuse_rows(
        strange, table.describe_row, "{row}, column 'Labels': {value!r} is not a list of terms.",
        "Write ['term', 'term'].", value=text,
    )  # fmt: skip
    terms = text.fill_null("[]").str.extract_all(r"""'[^']*'|"[^"]*\"""")  # no eval: the list is read as text
    terms = terms.list.eval(pl.element().str.slice(1, pl.element().str.len_chars() - 2).str.strip_chars())
    return terms.list.eval(pl.element().filter(pl.element() != ""))


def _findings(
    terms: pl.Series, projection: pl.Series, request: Request, table: Table
) -> tuple[tuple[str, ...], list[pl.Series], int]:
    """The names of the label columns, the columns, and how many images have none of them."""
    single = sorted(set(terms.explode().drop_nulls().unique()) - {"exclude", "unchanged", "suboptimal study"})
    labels = (
        tables.choose_labels(request.label, [*FINDINGS, *single], table.path.name) if request.label else tuple(FINDINGS)
    )
    # Null is not excluded.
    excluded = terms.list.contains("exclude") | (projection.str.to_uppercase() == "EXCLUDE").fill_null(False)
    says = terms.list.eval(pl.element().filter(~pl.element().is_in(["unchanged", "suboptimal study"])))
    silent = excluded | (says.list.len() == 0)
    # "unchanged": findings of an earlier report hold, and are not named here.
    absent = pl.select(pl.when(terms.list.contains("unchanged")).then(None).otherwise(0)).to_series()
    values = []
    for name in labels:
        named = terms.list.set_intersection(pl.Series([list(FINDINGS.get(name, (name,)))])).list.len() > 0
        value = pl.when(silent).then(None).when(named).then(1).otherwise(absent)
        values.append(pl.select(value.cast(pl.Int8)).to_series().alias(name))
    return labels, values, int(silent.sum())


READER = Reader("padchest", _find, _read, _COLUMNS, frozenset({"day"}))
