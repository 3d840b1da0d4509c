"""Numbers and recorded facts in words, the same in HTML, in Markdown and in a README."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

NOT_RECORDED = "not recorded"
UNDEFINED = "undefined"
DASH = "–"
"""Stands in tables where there is no number."""

POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
Row = Mapping[str, Any]


def number(value: float | None, digits: int = 3) -> str:
    """`0.9666` -> `0.967`, with a true minus sign; None -> `undefined`."""
    if value is None:
        return UNDEFINED
    rounded = round(value, digits) + 0.0  # no −0.000
    return f"{rounded:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """`0.074` -> `+0.074`; what rounds to 0 gets a digit more, so that an interval does not seem to end at 0."""
    digits += value is not None and round(value, digits) == 0 != round(value, digits + 1)
    text = number(value, digits)
    return f"+{text}" if value is not None and round(value, digits) > 0 else text


def threshold(value: float | None) -> str:
    """A threshold on a score, which may be very small: `0.130`, `5.7 × 10⁻⁷`."""
    return number(value) if value is None or value == 0 or abs(value) >= 0.001 else plain(value, 2)


def plain(value: float, digits: int = 6) -> str:
    """A number of so many digits as it is printed: `410`, `0.0005`, `5.7 × 10⁻⁷`, never `4.1e+02`."""
    rounded = float(f"{value:.{digits}g}")
    if rounded and not 1e-4 <= abs(rounded) < 1e15:
        factor, power = f"{rounded:.{digits - 1}e}".split("e")
        factor = factor.rstrip("0").rstrip(".") if "." in factor else factor
        return f"{factor} × 10{str(int(power)).translate(POWERS)}".replace("-", "−")
    text = f"{rounded:,.{digits}f}" if abs(rounded) >= 1 else f"{rounded:.{digits + 4}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def percent(fraction: float) -> str:
    """`0.0625` -> `6.25 %`."""
    return f"{100 * fraction:.6g} %"  # 6 digits: 0.0625 must not become 6.2 %


def share(value: float | None) -> str:
    """A proportion in per cent with one decimal; None -> `undefined`."""
    return UNDEFINED if value is None else f"{100 * value:.1f} %"


def count(value: float | None) -> str:
    """A whole number."""
    return DASH if value is None else f"{value:,.0f}"


def p_value(p: float | None) -> str:
    """A p-value; one that rounds to 0 is given as a bound."""
    if p is None:
        return UNDEFINED
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"  # 0.0005 is the first that rounds to 0.001


def dash(value: Any, form: Callable[[Any], str] = number) -> str:
    """The value in a form, or a dash where there is none."""
    return DASH if value is None else form(value)


def interval(row: Row, name: str, *, sign: bool = False, ends: tuple[str, str] | None = None) -> str:
    """`0.074 (0.050 to 0.098)`: a column and the two that hold its interval; the value alone where that is blank.

    Args:
        row: a row of a table.
        name: the column of the value; its interval stands in `<name>_low` and `<name>_high`, else in `low`, `high`.
        sign: as a difference, with its sign.
        ends: other columns of the interval.
    """
    form = signed if sign else number
    limits = between(row, *(ends or ends_of(row, name)), form=form)
    return form(row[name]) + (f" ({limits})" if limits else "")


def share_interval(row: Row, name: str) -> str:
    """`91.0 % (88.0 to 94.0)`; a dash where there is no value."""
    low, high = (row[end] for end in ends_of(row, name))
    limits = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return DASH if row[name] is None else share(row[name]) + limits


def ends_of(row: Row, name: str) -> tuple[str, str]:
    """The columns of a value's interval."""
    return (f"{name}_low", f"{name}_high") if f"{name}_low" in row else ("low", "high")


def between(row: Row, low: str, high: str, form: Callable[[float | None], str] = number) -> str:
    """The ends of an interval, `0.892 to 0.951`; nothing where one is blank."""
    return "" if row[low] is None or row[high] is None else f"{form(row[low])} to {form(row[high])}"


def span(values: Iterable[float | None], dash: str = " to ") -> str:
    """The count that several have in common, or their smallest and largest: `34`, `31 to 36`."""
    known = [value for value in values if value is not None]
    if not known:
        return NOT_RECORDED
    low, high = round(min(known)), round(max(known))
    return f"{low:,}" if low == high else f"{low:,}{dash}{high:,}"


def fact(value: Any) -> str:
    """Any recorded fact as text; None or nothing -> `not recorded`."""
    if value is None or value in ("", [], {}):  # 0 and False are facts
        return NOT_RECORDED
    if isinstance(value, bool):  # before int, which bool is
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, dict):
        return "; ".join(f"{name}: {fact(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(fact(item) for item in value)
    return str(value)


def time(value: str | None) -> str:
    """`2026-05-04T10:00:00Z` -> `2026-05-04 10:00 UTC`; any other text as it stands."""
    parts = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(Z|\+00:00)?", value or "")
    return f"{parts[1]} {parts[2]}" + (" UTC" if parts[3] else "") if parts else fact(value)


def join_words(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def first_upper(text: str) -> str:
    """The text with a capital first letter, the rest as it stands."""
    return text[:1].upper() + text[1:]
