"""Tables whose columns have types, Parquet among them -> the cells of a text table."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import polars as pl

from mococxr.errors import InputError
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
    return not (kind.is_nested() or kind in (pl.Object, pl.Binary))


def _as_text(column: pl.Series) -> pl.Series:
    if column.dtype.is_float():
        column = column.cast(pl.Float64).fill_nan(None)
        whole = (column == column.floor()) & (column.abs() < EXACT)
        if whole.any():
            as_int = column.set(~whole.fill_null(False), None).cast(pl.Int64).cast(pl.String)
            return pl.select(pl.coalesce(as_int, column.cast(pl.String))).to_series()
    return column.cast(pl.String)
