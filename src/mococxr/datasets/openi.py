"""Open-i, the Indiana University collection (Demner-Fushman et al., 2016): `ecgen-radiology/*.xml` and PNG images.

Also Kaggle's form of it, `indiana_projections.csv` and `indiana_reports.csv`. Labels are the MeSH headings that people
gave the report (`FINDINGS`); any single heading can be asked for by `--label HEADING`. A report without headings, or
indexed as `no indexing`, leaves its images without labels. Of the report's text nothing is read. A report is one study
of one patient: the number of the report is the patient's id in the images' own headers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl

from mococxr import tables
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.datasets.search import by_columns, locate, tables_in
from mococxr.errors import InputError, Shown
from mococxr.tables import Table, read_table

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
_NONE = ("no indexing", "technical quality of image unsatisfactory")
_LARGEST = 1 << 20
"""Bytes of a report; the largest real one has nine thousand."""


def _reports(root: Path) -> list[Path]:
    """The XML reports, in `ecgen-radiology/` or in the root itself."""
    paths = [*(root / "ecgen-radiology").glob("*.xml")] or [*root.glob("*.xml")]
    return sorted(paths, key=lambda path: (len(path.name), path.name))  # 2.xml before 10.xml: names are numbers


def _kaggle(request: Request) -> Path | None:
    """Kaggle's table of the images."""
    named = next(iter(tables_in(request.root, "indiana_projections.csv*")), None)
    return named or by_columns(request, READER.columns)


def _find(request: Request) -> Path | None:
    folder = request.root / "ecgen-radiology"  # XML files alone could be of any program
    return folder if folder.is_dir() else _kaggle(request)


def _read(request: Request) -> Rows:
    """Read Kaggle's tables where they are, else the reports."""
    root = request.root
    path, reports = _kaggle(request), _reports(root)
    if path is None and not reports:
        raise InputError(
            "{source} holds no ecgen-radiology/*.xml or indiana_projections.csv.",
            "Check the source.",
            source=Shown(root),
        )
    used: tuple[Table, ...] = ()
    inputs: dict[str, str] = {}
    if path:
        rows, headings, used = _of_tables(path, request)
    else:
        rows, headings, inputs = _of_reports(reports)
    labels, values = _findings(headings, request)
    image = rows["image"]
    folders = ["images/images_normalized", "images", "images_normalized", "NLMCXR_png", "NLMCXR_dcm", "", "*"]
    missing = "images/" + image.str.replace(r"(\.png)?$", ".png")
    rows = rows.join(values, on="patient", how="left", maintain_order="left")
    return Rows(
        rows.with_columns(locate(image, root, folders, missing), study="patient"),
        labels,
        describe_row=lambda row: f"image {image[row]}",
        tables=used,
        inputs=inputs,
    )


def _of_reports(paths: list[Path]) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, str]]:
    """Images (`image, patient, view`), headings (`patient, headings`) and a hash, by the XML reports."""
    images, headings, digest = [], [], hashlib.sha256()
    for path in paths:
        data = _report_bytes(path)
        digest.update(data)  # one hash for 4,000 reports
        number, names, terms = _parsed(path, data)
        images += [(name, number, None) for name in names]
        headings.append((number, terms))
    text = {"image": pl.String, "patient": pl.String, "view": pl.String}
    listed: dict[str, Any] = {"patient": pl.String, "headings": pl.List(pl.String)}
    return (
        pl.DataFrame(images, schema=text, orient="row"),
        pl.DataFrame(headings, schema=listed, orient="row"),
        {"reports": digest.hexdigest()},
    )


def _report_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)  # one more tells that it is larger
    except OSError as error:
        raise InputError(
            "Cannot read {path}: {reason}.", "Check its permissions.", path=path, reason=Shown(error.strerror)
        ) from error
    if len(data) > _LARGEST:
        raise InputError(
            "{path} is larger than a report can be ({most:,} bytes).", "Restore or remove it.", path=path, most=_LARGEST
        )
    return data


class _Headers(ElementTree.TreeBuilder):
    """Refuses a document type, and with it every entity, before anything is expanded."""

    def doctype(self, *_: object) -> None:
        raise PermissionError


def _parsed(path: Path, data: bytes) -> tuple[str, list[str], list[str]]:
    """The number of a report, its images and its MeSH headings; no other text leaves this function.

    Raises:
        InputError: not XML, with a document type, or without a number.
    """
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_Headers()))
    except PermissionError as error:
        raise InputError("{path} declares a document type, which no report does.", "Remove it.", path=path) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last: an unknown coding
        raise InputError("{path} is not XML: {reason}.", "Restore or remove it.", path=path, reason=error) from error
    number = _ids(root.iter("uId"))[:1]
    if not number:
        raise InputError(
            "{path} is not a report of Open-i: it has no uId.", "Give the folder of its reports.", path=path
        )
    headings = ["".join(each.itertext()).strip() for mesh in root.iter("MeSH") for each in mesh.findall("major")]
    return number[0], _ids(root.iter("parentImage")), headings


def _ids(elements: Iterable[ElementTree.Element]) -> list[str]:
    return [each.attrib["id"] for each in elements if each.get("id")]


def _of_tables(path: Path, request: Request) -> tuple[pl.DataFrame, pl.DataFrame, tuple[Table, ...]]:
    """The same by Kaggle's tables; of the reports only the number and the headings are used."""
    images = read_table(path)
    beside = next(iter(tables_in(request.root, "indiana_reports.csv*")), None)
    beside = beside or by_columns(request, ("uid", "MeSH"))
    if beside is None:
        raise InputError(
            "{path} has no indiana_reports.csv beside it.", "Put it there: it holds the labels.", path=path
        )
    reports = read_table(beside)
    view = tables.views(images["projection"])
    rows = pl.DataFrame({"image": images["filename"], "patient": images["uid"], "view": view})
    headings = reports["MeSH"].fill_null("").str.split(";")
    return rows, pl.DataFrame({"patient": reports["uid"], "headings": headings}), (images, reports)


def _findings(headings: pl.DataFrame, request: Request) -> tuple[tuple[str, ...], pl.DataFrame]:
    """The label columns' names, and `patient` with those columns."""
    # Behind the slash: where and how much.
    term = pl.element().str.extract(r"^([^/]*)", 1).str.strip_chars().str.to_lowercase()
    terms = headings.unique("patient", maintain_order=True)  # a report listed twice would double its images in the join
    terms = terms.with_columns(pl.col("headings").list.eval(term.filter(term != "")))
    single = sorted(set(terms["headings"].explode().drop_nulls()) - set(_NONE))
    labels = tables.choose_labels(request.label, [*FINDINGS, *single], "Open-i") if request.label else tuple(FINDINGS)
    indexed = pl.col("headings").list.eval(pl.element().filter(~pl.element().is_in(_NONE))).list.len() > 0
    named = {name: pl.col("headings").list.set_intersection(list(FINDINGS.get(name, (name,)))) for name in labels}
    values = [
        pl.when(indexed).then((matching.list.len() > 0).cast(pl.Int8)).alias(name) for name, matching in named.items()
    ]
    return labels, terms.select("patient", *values)


READER = Reader("openi", _find, _read, frozenset({"uid", "filename", "projection"}))
