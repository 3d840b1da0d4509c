"""What all pages share: macros of both forms, numbers in words, figures."""

from __future__ import annotations

import re

import jinja2
import matplotlib
import pytest

from mococxr.pages import format as fmt
from mococxr.pages import render as pages
from mococxr.pages.figures import make_figure, one_axes


def test_both_forms_have_the_same_macros_with_the_same_arguments() -> None:
    found = []
    for form in ("html", "md"):
        text = pages._read(f"pages/{form}.j2")
        jinja2.Environment().parse(text)
        found.append(dict(re.findall(r"{% macro (\w+)(\(.*?\)) %}", text)))
    html, markdown = found
    html.pop("interval")  # drawn inside of tables only
    assert html == markdown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0741, "+0.074"), (-0.0741, "−0.074"), (-0.0003, "−0.0003"), (-0.00001, "0.000"), (0.0, "0.000"),
        (None, "undefined"),
    ],
)  # fmt: skip
def test_a_difference_has_a_sign_unless_it_rounds_to_nothing(value: float | None, text: str) -> None:
    assert fmt.signed(value) == text
    assert fmt.number(value) == ("0.000" if value == -0.0003 else text.lstrip("+"))


def test_numbers_in_words() -> None:
    assert [fmt.threshold(value) for value in (0.13, 5.736e-7, 0.0)] == ["0.130", "5.7 × 10⁻⁷", "0.000"]
    assert [fmt.p_value(p) for p in (0.0, 0.0004, 0.0123, None)] == ["< 0.001", "< 0.001", "0.012", "undefined"]
    row = {"difference": 0.074, "low": -0.01, "high": None, "brier": 0.1, "brier_low": 0.05, "brier_high": 0.2}
    assert fmt.interval(row, "difference", sign=True) == "+0.074"
    assert fmt.interval(row | {"high": 0.1}, "difference", sign=True) == "+0.074 (−0.010 to +0.100)"
    assert fmt.interval(row, "brier") == "0.100 (0.050 to 0.200)"
    assert fmt.time("2026-05-04T10:00:00Z") == "2026-05-04 10:00 UTC"
    assert fmt.span([31, 36, None]) == "31 to 36"


def test_an_interval_bar_says_by_its_state_on_which_side_it_lies() -> None:
    bar = pages.interval_bar(0.05, 0.1, 0.3, 0.0, (-0.2, 0.2))
    assert (bar.low, bar.middle, bar.high, bar.zero, bar.state) == (62.5, 75.0, 100.0, 50.0, "gain")
    assert pages.interval_bar(-0.1, 0.0, 0.1, 0.0, (-0.2, 0.2)).state == "none"


def test_a_figure_is_the_same_bytes_again_and_leaves_no_global_state_behind() -> None:
    def draw():
        drawing, axes = one_axes()
        axes.plot([0, 1], [0, 1])
        return drawing

    before = dict(matplotlib.rcParams)
    first, second = (make_figure("A b/c", "title", "a line", draw) for _ in range(2))
    assert first == second
    assert first.name == "a-b-c"
    assert first.inline.startswith("<svg")
    assert dict(matplotlib.rcParams) == before
