"""An arm without an encoder: a table of features, as `embed` writes it, or a torch module whose features become one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from mococxr.encoders import Encoder, EncoderSource, EncoderSpec, quoted
from mococxr.errors import InputError
from mococxr.features import features, pick_device
from mococxr.files import write_parquet
from mococxr.store import Store

KIND = "features"
"""`EncoderSource.kind` of a table: it is never opened, and only a linear probe is trained on it."""
COLUMNS = ("path", "patient", "features")


def table_source(name: str, size: int | None = None) -> EncoderSource:
    """A table of features as an encoder source; its file stands for the weights.

    Args:
        name: a Parquet file with `path, patient` of the store and a list column `features` of one length.
        size: written behind it.

    Raises:
        InputError: no such file, a column is missing, an image is listed twice, features differ in length, or a size.
    """
    if size is not None:
        raise InputError(f"{name}@{size}: a table of features has no size.", f"Leave @{size} out.")
    table = _read(Path(name))
    widths = table["features"].list.len().unique()
    if table["features"].null_count() or len(widths) != 1 or not widths[0]:
        raise InputError(f"{name}: features are missing or differ in length.", "Write it again with `embed`.")
    if table.select("path", "patient").is_duplicated().any():  # a join would give the image two rows
        raise InputError(f"{name} lists an image twice.", "Keep one row per image.")
    return EncoderSource(name, KIND, EncoderSpec("features", size=0, feature_dim=widths[0]), files=(Path(name),))


def table_features(source: EncoderSource, store: Store, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The features (N, D) that a table has of the store's `rows`.

    Raises:
        InputError: an image is not in the table, or one of its features is not finite.
    """
    images = store.index.select("path", "patient")[rows]
    table = images.join(_read(source.files[0]), on=["path", "patient"], how="left", maintain_order="left")
    missing = table.filter(pl.col("features").is_null())
    if len(missing):
        raise InputError(
            f"{source.name} has no features of {len(missing):,} images of {store.path}, e.g. {missing['path'][0]}.",
            "Write it with `mococxr embed STORE`; with --test-on it must list the images of both stores. A table without "
            "the training images that have no label goes with --standardize labelled.",
        )
    values = table["features"].explode().to_numpy().reshape(len(rows), source.spec.feature_dim).astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{source.name} has features that are not finite.", "Remove or fix these images.")
    return values


def _read(path: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"Cannot read {path}: {error}.", "Name a Parquet table that `embed` wrote.") from error
    for column in COLUMNS:
        if column not in table.columns:
            raise InputError(f"{path} has no column {column}.", f"Its columns are {', '.join(COLUMNS)}.")
    # Another program may have written identifiers as numbers.
    return table.select(pl.col("path", "patient").cast(pl.String), "features")


def modules_on_disk(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `study` in which every arm is text.

    Args:
        settings: `arm` may map names to encoders: text, a path, or a torch module in the form of `load_encoder`:
            (N, 1, H, W) float 0 to 1 in, (N, D) out. The features of a module are written to
            `OUT.arms/NAME.parquet`; its frames have the side `size`, or `module.spec.size` where it has one.

    Raises:
        InputError: no `size` for a module, or it gives features of another shape.
    """
    arms = settings["arm"]
    if not isinstance(arms, Mapping):
        return dict(settings)
    texts = []
    for name, encoder in arms.items():
        source = encoder
        if isinstance(encoder, nn.Module):
            source = Path(f"{settings['out']}.arms", f"{name}.parquet")
            _write_features(encoder, str(name), settings, source)
        texts.append(f"{name}={source if isinstance(source, str) else quoted(source)}")
    return {**settings, "arm": texts}


def _write_features(module: nn.Module, name: str, settings: Mapping[str, Any], path: Path) -> None:
    size = settings.get("size") or getattr(getattr(module, "spec", None), "size", None)
    if not size:
        raise InputError(f"Arm {name!r} is a module that does not say its input size.", "Give size=, in px.")
    encoder = _encoder_of(module, size)
    tables = []
    for path_of_store in dict.fromkeys(filter(None, (settings["store"], settings.get("test_on")))):
        store = Store.open(path_of_store)
        values = features(
            encoder, store, np.arange(len(store)), size=size, crop_mode=settings.get("crop_mode") or "center",
            device=pick_device(settings.get("device") or "auto"), label=f"features of {name}",
        )  # fmt: skip
        # From numpy comes an Array column, and `table_source` reads lists.
        column = pl.Series("features", values).cast(pl.List(pl.Float32))
        tables.append(store.index.select("path", "patient").with_columns(column))
    # Both stores may hold an image.
    write_parquet(path, pl.concat(tables).unique(["path", "patient"], keep="first", maintain_order=True))


def _encoder_of(module: nn.Module, size: int) -> Encoder:
    """The module behind the face of an encoder, whose frames are 0 to 1 of one channel."""
    device = next((weight.device for weight in module.parameters()), torch.device("cpu"))  # where the caller has put it
    with torch.inference_mode():
        answer = module.eval()(torch.zeros(1, 1, size, size, device=device))
    if not isinstance(answer, torch.Tensor) or answer.ndim != 2:
        raise InputError("The module of an arm does not give features of shape (N, D).", "Pool and flatten its output.")
    # Mean 0, spread 1: frames reach the module as 0 to 1.
    return Encoder(module, EncoderSpec("module", size, 1, 0.0, 1.0, feature_dim=answer.shape[1])).eval()
