"""TBX11K (Liu et al., CVPR 2020): `imgs/health`, `imgs/sick`, `imgs/tb` and `lists/`, or the simplified `data.csv`.

The official split is train and val. The test images have no public labels and are left out, as are the images of other
sets in `imgs/extra` (Shenzhen and Montgomery among them). It has no patient identifiers: `--patients-unknown` is needed.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mococxr import files, tables
from mococxr.datasets.dataset import Reader, Request, Rows
from mococxr.datasets.search import by_columns
from mococxr.errors import InputError, Shown
from mococxr.tables import Table, header, read_lines, read_table

LABELS = ("Tuberculosis", "Active Tuberculosis", "Latent Tuberculosis", "Sick")
"""`Sick` is sick without tuberculosis. Of an image with tuberculosis of unknown kind, active and latent are unknown."""
_LISTS = {"tbx11k_train.txt": "train", "tbx11k_val.txt": "val"}
_BOXES = {"ActiveTuberculosis": "active", "ObsoletePulmonaryTuberculosis": "latent"}


def _lists(root: Path) -> dict[Path, str]:
    """The official lists that are there, in whatever case they are named."""
    paths = sorted((root / "lists").iterdir()) if (root / "lists").is_dir() else []
    return {path: _LISTS[path.name.lower()] for path in paths if path.name.lower() in _LISTS}


def _find(request: Request) -> Path | None:
    """The simplified table, whose name `data.csv` alone says nothing, or the official lists."""
    table = request.table or by_columns(request, READER.columns) or request.source / "data.csv"
    return table if READER.has_columns(header(table)) else next(iter(_lists(request.root)), None)


def _read(request: Request) -> Rows:
    """Read the lists, or the simplified table."""
    path = request.table or by_columns(request, READER.columns) or request.source / "data.csv"
    used: tuple[Table, ...] = ()
    inputs: dict[str, str] = {}
    if path.is_file():
        used = (read_table(path),)
        rows = _simplified(used[0], request.root)
    elif _lists(request.source):
        rows, inputs = _listed(request.source)
    else:
        raise InputError(
            "{source} holds no lists/TBX11K_train.txt or data.csv.",
            "Give the release's folder.",
            source=Shown(request.source),
        )
    paths = rows["path"].to_list()
    return Rows(
        _labelled(rows),
        tables.choose_labels(request.label, LABELS, "TBX11K"),
        metadata=("kind",),
        describe_row=lambda row: paths[row],
        tables=used,
        inputs=inputs,
        has_official_split=rows["split"].n_unique() > 1,
        notes=(Shown("The test images have no public labels: the official split is train and val."),),
    )


def _labelled(rows: pl.DataFrame) -> pl.DataFrame:
    """`kind` (healthy, sick, tb), `active` and `latent` (or neither known) -> the label columns."""
    tb = pl.col("kind") == "tb"
    known = ~tb | pl.col("active") | pl.col("latent")  # tuberculosis without a box: of unknown kind
    return rows.with_columns(
        tb.cast(pl.Int8).alias(LABELS[0]),
        pl.when(known).then(pl.col("active").cast(pl.Int8)).alias(LABELS[1]),
        pl.when(known).then(pl.col("latent").cast(pl.Int8)).alias(LABELS[2]),
        (pl.col("kind") == "sick").cast(pl.Int8).alias(LABELS[3]),
    )


def _listed(root: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """The images of the lists, with active and latent by the boxes of `annotations/json`; and the files' hashes."""
    images: list[tuple[str, str]] = []
    inputs = {}
    for path, split in _lists(root).items():
        inputs[path.name] = files.sha256_file(path)
        images += [(line, split) for line in read_lines(path)]
    rows = pl.DataFrame(images, schema={"image": pl.String, "split": pl.String}, orient="row")
    rows = rows.with_columns(kind=pl.col("image").str.extract(r"(?:^|/)(health|sick|tb)/[^/]+$", 1))
    if rows["kind"].null_count():
        at = rows["kind"].is_null().arg_max() or 0
        raise InputError(
            "{folder}: {image!r} is not an image in health/, sick/ or tb/.",
            "Restore the lists.",
            folder=root / "lists",
            image=rows["image"][at],
        )
    boxes = {name: set[str]() for name in _BOXES.values()}
    for path in sorted((root / "annotations" / "json").glob("TBX11K_*.json")):
        inputs[path.name] = files.sha256_file(path)
        for kind, image in _boxes(path):
            boxes[kind].add(image)
    name = pl.col("image").str.strip_prefix("imgs/")
    return rows.select(
        "split",
        path="imgs/" + name,
        kind=pl.col("kind").replace("health", "healthy"),
        active=name.is_in(sorted(boxes["active"])),
        latent=name.is_in(sorted(boxes["latent"])),
    ), inputs


def _boxes(path: Path) -> list[tuple[str, str]]:
    """`active` or `latent`, and the image, of every box in a COCO file."""
    content = files.read_json(path)
    try:
        kinds = {each["id"]: _BOXES.get(each["name"]) for each in content["categories"]}
        images = {each["id"]: str(each["file_name"]) for each in content["images"]}
        boxes = [(kinds[each["category_id"]], images[each["image_id"]]) for each in content["annotations"]]
    except (KeyError, TypeError) as error:
        raise InputError(
            "{path} is not a COCO file of TBX11K: {reason!r}.", "Restore or remove it.", path=path, reason=error
        ) from error
    return [(kind, image) for kind, image in boxes if kind]  # boxes of unknown kind are of neither


def _simplified(table: Table, root: Path) -> pl.DataFrame:
    """The images of `data.csv`, which has a row a box; rows of other sets and of the test set are left out."""
    names = {name: table.column(name) for name in ("fname", "source", "target", "tb_type", "image_type")}
    text = table.frame.select(**names)
    source = text["source"].str.to_lowercase()
    known = source.is_in(["train", "val"]) & text["target"].is_in(["tb", "no_tb"])  # others have no public label
    folder = "images/" if (root / "images").is_dir() else ""
    tb_type = pl.col("tb_type").fill_null("").str.to_lowercase()
    rows = text.filter(known).select(
        path=folder + pl.col("fname"),
        split=pl.col("source").str.to_lowercase(),
        kind=pl.when(pl.col("target") == "tb").then(pl.lit("tb"))
        .when(pl.col("image_type").str.starts_with("sick")).then(pl.lit("sick")).otherwise(pl.lit("healthy")),
        active=tb_type.str.contains("active"),
        latent=tb_type.str.contains("latent"),
    )  # fmt: skip
    first = pl.col("split", "kind").first()
    return rows.group_by("path", maintain_order=True).agg(first, pl.col("active", "latent").any())


READER = Reader("tbx11k", _find, _read, frozenset({"fname", "target", "tb_type", "image_type"}))
