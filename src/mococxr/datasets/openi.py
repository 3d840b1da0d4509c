"""Open-i, the Indiana University collection (Demner-Fushman et al., 2016): `ecgen-radiology/*.xml` and PNG images.

Also Kaggle's form of it, `indiana_projections.csv` and `indiana_reports.csv`. Labels are the MeSH headings that people
gave the report (`FINDINGS`); any single heading can be asked for by `--label HEADING`. A report without headings, or
indexed as `no indexing`, leaves its images without labels. Of the report's text nothing is read. A report is one study
of one patient: the number of the report is the patient's id in the images' own headers.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl

from mococxr.datasets import columns, places
from mococxr.datasets.dataset import Cohort, Request, finish
from mococxr.datasets.openi_xml import read_report
from mococxr.datasets.tables import Table, read_table
from mococxr.errors import InputError

FINDINGS = {
    "Normal": ("normal",),
    "Atelectasis": ("pulmonary atelectasis",),
    "Calcified Granuloma": ("calcified granuloma",),
    "Cardiomegaly": ("cardiomegaly",),
    "Consolidation": ("consolidation",),
    "Edema": ("pulmonary edema",),
    "Effusion": ("pleural effusion", "hydropneumothorax"),
    "Emphysema": ("emphysema", "pulmonary emphysema", "bullous emphysema"),
    "Fibrosis": ("pulmonary fibrosis",),
    "Fracture": ("fractures, bone",),
    "Hernia": ("hernia, hiatal", "hernia, diaphragmatic"),
    "Infiltrate": ("infiltrate",),
    "Mass": ("mass",),
    "Nodule": ("nodule",),
    "Opacity": ("opacity", "airspace disease"),
    "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
}
"""Label column -> the headings, before their first slash and in lower case, that make it 1."""
COLUMNS = {"uid", "filename", "projection"}
"""Columns by which Kaggle's table of images is known."""
_NONE = ("no indexing", "technical quality of image unsatisfactory")
_TEXT = {"image": pl.String, "patient": pl.String, "view": pl.String}


def reports(root: Path) -> list[Path]:
    """The XML reports, in `ecgen-radiology/` or in the root itself."""
    found = [*(root / "ecgen-radiology").glob("*.xml")] or [*root.glob("*.xml")]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def read(request: Request) -> Cohort:
    """Read Kaggle's tables where they are, else the reports.

    Raises:
        InputError: see `read_cohort`.
    """
    root = request.root
    images = next(iter(places.tables(root, "indiana_projections.csv*")), None)
    found = reports(root)
    if images is None and not found:
        raise InputError(
            f"{root} holds no ecgen-radiology/*.xml or indiana_projections.csv.", "Check the source."
        )
    rows, headings, inputs = _of_tables(images, root) if images else _of_reports(found)
    labels, values = _findings(headings, request)
    rows = rows.join(values, on="patient", how="left", maintain_order="left")
    folders = ["images/images_normalized", "images", "images_normalized", "NLMCXR_png", "NLMCXR_dcm", "", "*"]
    missing = "images/" + rows["image"].str.replace(r"(\.png)?$", ".png")
    cohort = Cohort(
        name="openi",
        source="openi",
        root=root,
        rows=rows.with_columns(places.on_disk(rows["image"], root, folders, missing), study="patient"),
        labels=labels,
        inputs=inputs,
    )
    return finish(cohort, lambda row: f"image {rows['image'][row]}", request.patients_unknown)


def _of_reports(paths: list[Path]) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, str]]:
    """Images (`image, patient, view`), headings (`patient, headings`) and a hash, by the XML reports."""
    images, headings, digest = [], [], hashlib.sha256()
    for path in paths:
        report, data = read_report(path)
        digest.update(data)
        images += [(image, report.number, None) for image in report.images]
        headings.append((report.number, report.headings))
    rows = pl.DataFrame(images, schema=_TEXT, orient="row")
    said = pl.DataFrame(headings, schema={"patient": pl.String, "headings": pl.List(pl.String)}, orient="row")
    return rows, said, {"reports": digest.hexdigest()}


def _of_tables(path: Path, root: Path) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, str]]:
    """The same by Kaggle's tables; of the reports only the number and the headings are used."""
    images = read_table(path)
    beside = next(iter(places.tables(root, "indiana_reports.csv*")), None)
    if beside is None:
        raise InputError(
            f"{path} has no indiana_reports.csv beside it.", "Put it there: it holds the labels."
        )
    said = read_table(beside)
    rows = images.frame.select(
        image=images.column("filename"),
        patient=images.column("uid"),
        view=pl.col(images.column("projection")).str.to_titlecase(),
    )
    headings = said.frame.select(
        patient=said.column("uid"), headings=pl.col(said.column("MeSH")).fill_null("").str.split(";")
    )
    return rows, headings, _hashes(images, said)


def _hashes(*tables: Table) -> dict[str, str]:
    return {table.path.name: table.sha256 for table in tables}


def _findings(headings: pl.DataFrame, request: Request) -> tuple[tuple[str, ...], pl.DataFrame]:
    """The label columns' names, and `patient` with those columns."""
    term = pl.element().str.extract(r"^([^/]*)", 1).str.strip_chars().str.to_lowercase()
    said = headings.unique("patient", maintain_order=True)
    said = said.with_columns(pl.col("headings").list.eval(term.filter(term != "")))
    single = sorted(set(said["headings"].explode().drop_nulls()) - set(_NONE))
    labels = (
        columns.wanted(request.label, [*FINDINGS, *single], "Open-i") if request.label else tuple(FINDINGS)
    )
    indexed = pl.col("headings").list.eval(pl.element().filter(~pl.element().is_in(_NONE))).list.len() > 0
    named = {
        name: pl.col("headings").list.set_intersection(list(FINDINGS.get(name, (name,)))) for name in labels
    }
    values = [
        pl.when(indexed).then((found.list.len() > 0).cast(pl.Int8)).alias(name)
        for name, found in named.items()
    ]
    return labels, said.select("patient", *values)
