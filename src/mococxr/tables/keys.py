"""Keys that a spreadsheet changed on the way: leading zeros lost, a decimal point added, digits lost."""

from __future__ import annotations

import polars as pl

from mococxr.errors import Shown, message


def as_known(keys: pl.Series, known: pl.Series) -> tuple[pl.Series, int]:
    """Keys as they are in `known`, also where a spreadsheet made numbers of them: `12`, `12.0` and `'12` for `00012`.

    Only where there is no doubt: one key of each side has these digits, and none of them is the same on both.

    Args:
        keys: of a table.
        known: the keys to be matched.

    Returns:
        The keys, changed where they are matched by their digits, and how many rows were.

    >>> as_known(pl.Series(["12", "7", "x"]), pl.Series(["00012", "007", "07"]))[0].to_list()
    ['00012', '7', 'x']
    """
    ours, theirs = (_by_digits(side) for side in (keys, known))
    pairs = ours.join(theirs, on="digits", suffix="_known").filter(pl.col("key") != pl.col("key_known"))
    new = keys.replace(pairs["key"], pairs["key_known"])
    changed = (new != keys).fill_null(False)
    return new, int(changed.sum())


def _by_digits(keys: pl.Series) -> pl.DataFrame:
    """`key, digits` of the keys that are whole numbers, where only one key has these digits."""
    distinct = keys.drop_nulls().unique()
    digits = distinct.str.extract(r"^'?0*(\d+?)(?:\.0+)?$", 1)  # a leading ' keeps a number as text in spreadsheets
    # 07 and 7 stay apart.
    return pl.DataFrame({"key": distinct, "digits": digits}).drop_nulls().filter(pl.col("digits").is_unique())


def notes(keys: pl.Series, column: str, changed: int) -> list[Shown]:
    """What to say of a column of keys: how many were matched by their digits, how many lost digits for good."""
    remarks = []
    if changed:
        text = "{count:,} rows are matched by the digits of {column} alone: leading zeros were lost."
        remarks.append(message(text, count=changed, column=Shown(column)))
    if broken := int(keys.str.contains(r"^\d[.,]\d+[eE]\+\d+$").sum()):
        text = "{count:,} values of {column} are rounded (as 1.23E+11): a spreadsheet lost their last digits."
        remarks.append(message(text, count=broken, column=Shown(column)))
    return remarks
