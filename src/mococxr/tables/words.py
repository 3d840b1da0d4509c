"""What is written in a cell -> what it means: unknown, an identifier, a number, a label, a sex, a view, a split, an age."""

from __future__ import annotations

from collections import Counter

import polars as pl

from mococxr.splits import SPLIT_WORDS

UNKNOWN = frozenset({
    "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "n.d.", "nan", "-nan", "#num!", "#value!", "#ref!", "#div/0!", "#null!",
    "#name?", "nat", "none", "null", "(null)", "\\n", ".", "..", "-", "--", "---", "\u2013", "\u2014", "?", "??", "???",
    "unknown", "unk", "unkn", "(unknown)", "<unknown>", "not available", "not known", "not stated", "missing", "(blank)",
    "undefined", "unspecified", "not specified",
})  # fmt: skip
"""Words that say that something is not known, in lower case: those of R, pandas, SQL, SAS, Excel and of people."""
_LONGEST = max(map(len, UNKNOWN))
POSITIVE = frozenset({"1", "true", "t", "yes", "y", "positive", "pos", "present", "+"})
NEGATIVE = frozenset({"0", "false", "f", "no", "n", "negative", "neg", "absent", "-"})
UNCERTAIN = frozenset({"-1", "uncertain", "equivocal", "indeterminate"})
LABEL_VALUES = (1.0, 0.0, -1.0)
_SEXES = {
    **dict.fromkeys(("m", "male", "man", "boy", "männlich", "maennlich", "masculino", "masculin", "hombre"), "M"),
    **dict.fromkeys(("f", "female", "woman", "girl", "w", "weiblich", "femenino", "féminin", "mujer"), "F"),
    **dict.fromkeys(("u", ""), None),
}
_VIEWS = {
    **dict.fromkeys(
        ("ap", "ap horizontal", "ap supine", "ap erect", "ap portable", "anteroposterior", "antero posterior"), "AP"
    ),
    **dict.fromkeys(("pa", "pa erect", "posteroanterior", "postero anterior"), "PA"),
    **dict.fromkeys(("l", "ll", "rl", "lat", "lateral", "left lateral", "right lateral", "seitlich"), "Lateral"),
    "frontal": "Frontal",
    **dict.fromkeys(("u", "exclude", ""), None),
}


def trimmed(text: pl.Series) -> pl.Series:
    """Without blanks around; blank is null. `="0012"`, which keeps spreadsheets from dropping zeros, is 0012."""
    text = text.str.strip_chars()
    if text.str.starts_with('="').any():
        text = text.str.replace(r'^="([^"]*)"$', "$1").str.strip_chars()
    return text.set(text == "", None)


def unknown(text: pl.Series) -> pl.Series:
    """True where trimmed text says that the value is not known; null is False.

    `-` is negative, not unknown, in a column that holds `+` too.
    """
    # Different values only, since columns repeat them, and no long ones, which are never such a word.
    values = text.filter((text.str.len_bytes() <= _LONGEST).fill_null(False)).unique()
    is_word = values.str.to_lowercase().is_in(list(UNKNOWN))
    if not is_word.any():
        return pl.repeat(False, text.len(), dtype=pl.Boolean, eager=True)
    spelled = values.filter(is_word).to_list()
    if "-" in spelled and (values == "+").any():
        spelled.remove("-")
    return text.is_in(spelled).fill_null(False)


def without_unknown(frame: pl.DataFrame) -> tuple[pl.DataFrame, Counter[str]]:
    """Text columns with null for words that say unknown, and how often each word was there."""
    spelled: Counter[str] = Counter()
    columns = []
    for column in frame:
        is_word = unknown(column)
        if is_word.any():
            spelled.update(dict(column.filter(is_word).value_counts().iter_rows()))
            column = column.set(is_word, None)
        columns.append(column)
    return pl.DataFrame(columns), spelled


def identifiers(text: pl.Series) -> pl.Series:
    """Names of patients, studies and the like as they are compared: trimmed, accents composed, unknown as null."""
    text = trimmed(text)
    if (text.str.len_bytes() != text.str.len_chars()).any():
        text = text.str.normalize("NFC")  # names from macOS have accents as signs of their own
    return text.set(unknown(text), None)


def numbers(text: pl.Series) -> pl.Series:
    """Text -> Float64, null where it is no number.

    A decimal comma is read where every value of the column that is no number otherwise has one, and none can be a
    thousands separator only: `0,25`, `12,5`; of `1,234` alone nobody knows.
    """
    plain = text.cast(pl.Float64, strict=False)
    if plain.null_count() == text.null_count():  # all are numbers: the usual case
        return plain
    rest = text.filter(plain.is_null() & text.is_not_null())
    if rest.str.starts_with("\u2212").any():  # the minus of typographers
        return numbers(text.str.replace("^\u2212", "-"))
    written = rest.str.contains(r"^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$").all()
    clear = rest.str.contains(r"^[+-]?0*,|,\d{1,2}$|,\d{4,}").any()
    points = text.str.contains(".", literal=True).any()  # with points and commas one of them separates thousands
    if written and clear and not points:
        return text.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    return plain


def known_labels(text: pl.Series) -> pl.Series:
    """True where a value is 1, 0 or -1, however written (`1`, `1.0`); blanks are False."""
    return numbers(text).is_in(LABEL_VALUES).fill_null(False)


def is_label(text: pl.Series) -> bool:
    """Whether all values are among 1, 0, -1 and blank."""
    return bool((known_labels(text) | text.is_null()).all())


def labels(text: pl.Series) -> pl.Series:
    """Int8: 1, 0, -1, by number or by word (yes, no, positive, negative, true, false, uncertain); null for the rest."""
    value = numbers(text)
    value = value.set(~value.is_in(LABEL_VALUES).fill_null(False), None)
    if value.null_count() > text.null_count():
        lower = text.str.to_lowercase()
        by_word = {word: number for number, some in ((1, POSITIVE), (0, NEGATIVE), (-1, UNCERTAIN)) for word in some}
        spelled = lower.replace_strict(by_word, default=None, return_dtype=pl.Float64)
        value = pl.select(pl.coalesce(value, spelled)).to_series()
    return value.cast(pl.Int8).alias(text.name)


def is_spelled(text: pl.Series) -> bool:
    """Whether a column holds labels, some of them as words; an empty one does not."""
    return labels(text).null_count() == text.null_count() < text.len() and not is_label(text)


def ages(text: pl.Series) -> pl.Series:
    """Years from 0 as Float64; `58`, `058Y`, `7M` (months) and `3D` (days) are understood, anything else is null.

    Negative numbers are null: -1 is a usual code for an unknown age.
    """
    number = numbers(text.str.extract(r"(?i)^(\d+(?:[.,]\d+)?)\s*(?:y|m|w|d|yrs?|years?)?$", 1))
    unit = text.str.extract(r"(?i)([mwd])$", 1).str.to_lowercase()  # no unit: years
    # Months, weeks and days to years.
    return number / unit.replace_strict({"m": 12.0, "w": 52.18, "d": 365.25}, default=1.0, return_dtype=pl.Float64)


def sexes(text: pl.Series, others: bool = False) -> pl.Series:
    """`M` and `F` by the usual words in any case; an unknown one is null, another too, or as it is written (`others`)."""
    sex = _by_word(text, _SEXES)
    return sex if others else sex.set(~sex.is_in(["M", "F"]).fill_null(False), None)


def views(text: pl.Series) -> pl.Series:
    """`AP`, `PA`, `Lateral` or `Frontal`; an unknown view is null, another stays as it is written."""
    return _by_word(text, _VIEWS)


def _by_word(text: pl.Series, meaning: dict[str, str | None]) -> pl.Series:
    text = identifiers(text)
    lower = text.str.to_lowercase().str.replace_all(r"[\s_-]+", " ")  # AP_SUPINE, ap-supine
    named = lower.replace_strict(meaning, default=None, return_dtype=pl.String)
    return pl.select(pl.when(lower.is_in(list(meaning))).then(named).otherwise(text)).to_series().alias(text.name)


def splits(text: pl.Series) -> pl.Series:
    """`train`, `val` or `test` by the words in use; another word is null."""
    return text.str.to_lowercase().replace_strict(SPLIT_WORDS, default=None, return_dtype=pl.String)


def days_since_first_study(dates: pl.Series, patients: pl.Series) -> pl.Series:
    """Dates as text -> Int64, the days since the patient's first image here; no date is kept.

    Written 20140915, 2014-09-15 or with a time after it; anything else is null.
    """
    digits = dates.str.extract(r"^(\d{4}-?\d{2}-?\d{2})", 1).str.replace_all("-", "")
    day = digits.str.to_date("%Y%m%d", strict=False)
    frame = pl.DataFrame({"patient": patients, "day": day})
    # Within the patient: no calendar date can be told from it.
    since = pl.col("day") - pl.col("day").min().over("patient")
    return frame.select(since.dt.total_days()).to_series().alias("day")


def typed(text: pl.Series) -> pl.Series:
    """Whole numbers as Int64, numbers as Float64, else text; ids with leading zeros stay text."""
    values = text.drop_nulls()
    if not len(values) or values.str.contains(r"^[+-]?0\d").any():  # 007 is an identifier, not 7
        return text
    for kind in (pl.Int64, pl.Float64):
        cast = values.cast(kind, strict=False)
        if not cast.null_count() and (kind == pl.Int64 or cast.is_finite().all()):
            return text.cast(kind)
    return text
