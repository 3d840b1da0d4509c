"""Ages in years -> bands, the same wherever images are grouped by age."""

from __future__ import annotations

import polars as pl

BANDS = ((0, 2), (2, 12), (12, 18), (18, 40), (40, 60), (60, 80), (80, 200))
"""Bands of age in years, the upper end not in them."""


def age_bands(ages: pl.Series) -> pl.Series:
    """The band of each age as text, `40 to 59` or `80 and over`; null where the age is not known or in no band."""
    names = [f"{low} to {high - 1}" if high < 200 else f"{low} and over" for low, high in BANDS]
    years = ages.cast(pl.Float64, strict=False).to_list()
    places = [
        next(
            (n for n, (low, high) in zip(names, BANDS, strict=True) if age is not None and low <= age < high),
            None,
        )
        for age in years
    ]
    return pl.Series(places, dtype=pl.String)
