"""Tables whose columns have types, Parquet among them -> the cells of a text table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import files
from mococxr.errors import InputError, Shown
from mococxr.tables.text import MOST_COLUMNS, Cells

MOST_CELLS = 1 << 29
"""Cells of a Parquet file; a small one can repeat a value more often than memory holds."""
EXACT = 2.0**53
"""Whole numbers up to here are exact as floats."""
_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, MemoryError)


def read_parquet(data: bytes, path: Path) -> Cells:
    """The cells of a Parquet file; columns of lists and the like are not read.

    Raises:
        InputError: damaged, or too large.
    """
    try:
        schema = pl.read_parquet_schema(BytesIO(data))
        # From the footer: nothing is unpacked yet.
        rows = pl.scan_parquet(BytesIO(data)).select(pl.len()).collect().item()
        wide = [name for name, kind in schema.items() if not _is_single(kind)]
        names = [name for name in schema if name not in wide]
        if rows * len(names) > MOST_CELLS or len(schema) > MOST_COLUMNS:
            raise InputError(
                "{path} has {rows:,} rows of {columns:,} columns: too many.", "Give a table with one row an image.",
                path=path, rows=rows, columns=len(schema),
            )  # fmt: skip
        cells = as_cells(pl.read_parquet(BytesIO(data), columns=names))
    except _ERRORS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")  # it may quote a cell
        raise InputError(
            "{path} cannot be read as a table: {reason}.", "Save it again as Parquet or CSV (UTF-8).",
            path=path, reason=reason,
        ) from error  # fmt: skip
    return Cells(cells.names, cells.frame, cells.lines, cells.line_format, {name: str(schema[name]) for name in wide})


def parquet_names(data: bytes) -> list[str]:
    """The names of the columns of a Parquet file; empty where it is damaged."""
    try:
        return list(pl.read_parquet_schema(BytesIO(data)))
    except _ERRORS:
        return []


def as_cells(frame: pl.DataFrame) -> Cells:
    """The cells of columns with single values; a number is written so that it is the same when it is read again."""
    columns = [_as_text(column) for column in frame]
    text = pl.DataFrame([column.alias(str(i)) for i, column in enumerate(columns)])
    return Cells(frame.columns, text, pl.int_range(1, frame.height + 1, dtype=pl.UInt32, eager=True), "")


def _is_single(kind: pl.DataType) -> bool:
    """Whether cells hold single values, or lists of words, which stand in one cell as `TB|Edema`."""
    return kind == pl.List(pl.String) or not (kind.is_nested() or kind in (pl.Object, pl.Binary))


def _as_text(column: pl.Series) -> pl.Series:
    if column.dtype == pl.List(pl.String):
        return column.list.join("|")
    if column.dtype.is_float():
        column = column.cast(pl.Float64).fill_nan(None)  # NaN is how pandas says unknown
        whole = (column == column.floor()) & (column.abs() < EXACT)
        if whole.any():
            # 12, not 12.0: it may be an identifier.
            as_int = column.set(~whole.fill_null(False), None).cast(pl.Int64).cast(pl.String)
            return pl.select(pl.coalesce(as_int, column.cast(pl.String))).to_series()
    return column.cast(pl.String)


# --- data frames in Python


@contextmanager
def on_disk(values: Mapping[str, Any], names: tuple[str, ...], out: Path | None) -> Iterator[dict[str, Any]]:
    """Settings in which data frames became files.

    Args:
        values: setting name -> value.
        names: the settings that take a table.
        out: the folder that the command makes. The files then stay beside it, in `OUT.tables`, so that the command can be
            given again; they are for their owner alone. Without one they are gone when the command is done.

    Raises:
        InputError: a frame that cannot be written as a table.
    """
    with tempfile.TemporaryDirectory(prefix="mococxr-") as temporary:
        folder = Path(temporary) if out is None else Path(f"{out}.tables")
        written = dict(values)
        for name in names:
            value = values.get(name)
            several = isinstance(value, list | tuple)
            items = [
                _written(item, folder / f"{name}{i or ''}.parquet") if is_frame(item) else item
                for i, item in enumerate(value if several else [value])  # type: ignore[arg-type]
            ]
            if value is not None:
                written[name] = items if several else items[0]
        yield written


def is_frame(value: object) -> bool:
    """Whether a value is a data frame of polars or pandas, or a table of Arrow."""
    library = type(value).__module__.partition(".")[0]  # by name: pandas and pyarrow need not be installed
    return library in ("polars", "pandas", "pyarrow") and type(value).__name__ in ("DataFrame", "LazyFrame", "Table")


def _written(value: Any, path: Path) -> Path:
    """The file that a frame became."""
    try:
        with files.atomic(path, 0o600) as temporary:  # it may name patients
            as_polars(value).write_parquet(temporary)
    except (*_ERRORS, TypeError) as error:
        raise InputError(
            "The data frame given as {name} cannot be read as a table: {reason}.",
            "Give each column name once, and columns of numbers or text.",
            name=Shown(path.stem),
            reason=(str(error).splitlines() or [type(error).__name__])[0].rstrip("."),
        ) from error
    return path


def as_polars(value: Any) -> pl.DataFrame:
    """A frame of polars, pandas or Arrow; an index with a name is a column, mixed cells of pandas are text."""
    if isinstance(value, pl.LazyFrame):
        return value.collect()
    if isinstance(value, pl.DataFrame):
        return value
    if type(value).__module__.startswith("pyarrow"):
        frame = pl.from_arrow(value)
        assert isinstance(frame, pl.DataFrame)
        return frame
    if any(name is not None for name in value.index.names):  # an index without a name is a row number
        value = value.reset_index()
    if not value.columns.is_unique:  # value[name] would be two columns
        raise ValueError("a column name is there twice")
    columns = []
    for name in value.columns:
        column = value[name]
        if column.dtype == object:
            column = column.map(str, na_action="ignore")  # mixed cells: Arrow refuses them
        columns.append(pl.Series(str(name), pl.from_pandas(column, nan_to_null=True)))
    return pl.DataFrame(columns)
