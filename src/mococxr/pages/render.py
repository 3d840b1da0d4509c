"""How a page is made: rows in, one file out; no script, nothing loaded, same rows, same bytes.

A page is a template that extends `base` and fills its blocks (`content`, `style`), and a module that makes its rows:

    {% extends base %}
    {% block content %}
    {% call page.section("cells", "All cells", summary) %}
    {{ page.points(sentences) }}
    {{ page.table(cells) }}
    {{ page.figures(curves) }}
    {% endcall %}
    {% endblock %}

    html = render("reporting/body.j2", "html", title=..., eyebrow=..., lead=..., alerts=[...], cells=tabulate(...))

`page` holds the macros of `html.j2` or, for the form `md`, those of `md.j2`, which have the same names; `fmt` is
`mococxr.pages.format`. Values are escaped by the form, so a template never escapes. Text of a template itself is not:
in a page of both forms put sentences into strings or `{% call page.text() %}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import jinja2
from markupsafe import Markup

from mococxr.pages import format as fmt

STYLES = "pages/page.css"
CONTENTS = "<!-- contents -->"
"""Where a template asks for the table of contents."""
FEWEST = 3
"""Sections from which on a page has one."""
_SECTION = re.compile(
    r'<summary>(?P<summary>(?:(?!</summary>).)*)</summary>\s*<span class="stop" id="(?P<inside>[^"]+)"'
    r'|<section [^>]*?id="(?P<id>[^"]+)"[^>]*>\s*<h2[^>]*>(?P<title>.*?)</h2>'
    r'|<h3 class="title" id="(?P<open>[^"]+)">(?P<heading>.*?)</h3>',
    re.S,
)
"""A section that is folded, one with a heading, one that would be folded and is open."""


@dataclass(frozen=True)
class IntervalBar:
    """An interval drawn on a scale, in per cent of its width; `state`: gain, loss or none (colour and filling)."""

    low: float
    high: float
    middle: float
    zero: float
    state: str


@dataclass(frozen=True)
class Table:
    """A table of text. Columns from `text` on hold numbers and are aligned right.

    `bars`: where there are any, a last column of drawn intervals, one for each row, under the heading `bar_head`.
    """

    head: list[str]
    rows: list[list[str]]
    text: int = 1
    note: str = ""
    bars: list[IntervalBar | None] = field(default_factory=list)
    bar_head: str = ""


@dataclass(frozen=True)
class Alert:
    """What must be known before any number is read."""

    title: str
    text: str


Column = str | tuple[str, Callable[[Any], str]] | Callable[[Any], str]
"""The name of a value in a row; that and its form, a dash where there is no value; or a function of the row."""


def tabulate(rows: Iterable[Any], columns: Mapping[str, Column], text: int = 1, note: str = "") -> Table:
    """A table of rows: heading -> what stands in the column, in order."""
    return Table(list(columns), [[_cell(row, column) for column in columns.values()] for row in rows], text, note)


def _cell(row: Any, column: Column) -> str:
    if isinstance(column, str):
        return fmt.fact(row[column])
    return fmt.dash(row[column[0]], column[1]) if isinstance(column, tuple) else column(row)


def interval_bar(
    low: float, middle: float, high: float, zero: float, scale: tuple[float, float], state: str = ""
) -> IntervalBar:
    """An interval on a scale from `scale[0]` to `scale[1]`; its state is the side of `zero` on which it lies."""
    start, end = scale

    def position(value: float) -> float:
        return round(100 * (min(max(value, start), end) - start) / (end - start), 2)

    state = state or ("gain" if low > zero else "loss" if high < zero else "none")
    return IntervalBar(position(low), position(high), position(middle), position(zero), state)


def render(template: str, form: Literal["html", "md"] = "html", *, styles: str = "", **values: Any) -> str:
    """A template of the package filled in.

    Args:
        template: its path in the package, e.g. `audit/audit.html.j2`.
        form: HTML, with all styles and figures inside, or Markdown with GitHub tables.
        styles: the path of a CSS file in the package that is added to `pages/page.css`.
        values: what the template and `base` show: `title`, `eyebrow`, `lead`, `alerts`, and the template's own.
    """
    environment = _environment(form)
    # Macros of one form under one name: one template serves both.
    values["page"] = environment.get_template(f"pages/{form}.j2").module
    values["base"] = f"pages/base.{form}.j2"
    style = Markup("".join(_read(name) for name in (STYLES, styles) if name))
    text = environment.get_template(template).render(style=style, **{"alerts": [], "eyebrow": "", **values})
    if form == "html":
        return text.replace(CONTENTS, _contents(text))
    # Blocks that are left out leave blank lines.
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _contents(page: str) -> str:
    """Links to all sections of a page, which a browser opens where they are folded, and a box that opens them all.

    Without a script: a link leads to the start of what is folded, and the box is read by the style sheet.
    """
    sections = []
    for part in _SECTION.finditer(page):
        title = part["summary"] or part["title"] or part["heading"]
        whole = re.search(r'<span class="title">(.*?)</span>', title, re.S)
        sections.append((part["inside"] or part["id"] or part["open"], whole[1] if whole else title))
    if len(sections) < FEWEST:
        return ""
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title in sections)
    box = '<label><input type="checkbox" id="open-all" autocomplete="off"/> Open all sections</label>'
    return f'<nav class="contents" aria-label="Contents"><h2>Contents</h2> <ul>{links}</ul> {box}</nav>'


@cache
def _environment(form: Literal["html", "md"]) -> jinja2.Environment:
    """Of HTML or of Markdown; it keeps the templates that it has compiled."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,  # names of arms and findings come from users
        finalize=_unbroken if form == "html" else _markdown,
        undefined=jinja2.StrictUndefined,  # a misspelt name is an error, not a blank
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"one_line": _one_line, "fence": _fence}
    environment.globals |= {"fmt": fmt, "bar_of": _bar_of}
    return environment


def _bar_of(interval: tuple[float, float, float], reach: float) -> IntervalBar:
    """A difference, its lower and its upper limit on a scale around 0."""
    middle, low, high = interval
    return interval_bar(low, middle, high, 0.0, (-reach, reach))


def escape_markdown(text: str) -> str:
    """Text from users (arms, targets, reasons) as plain text: no markup, no HTML, no broken table rows."""
    # | would end a cell, $ begins a formula on GitHub.
    marked = re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", " ".join(text.split()))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _read(name: str) -> str:
    return files("mococxr").joinpath(name).read_text(encoding="utf-8")


def _unbroken(value: Any) -> Any:
    """No line break between a number and its unit."""
    # Markup is code: left alone.
    return _one_stop(value).replace(" %", "\u00a0%").replace(" px", "\u00a0px") if type(value) is str else value


def _one_stop(text: str) -> str:
    """A sentence that quotes another ends in one full stop; `...` and `../x` stay."""
    return re.sub(r"(?<=[\w)”])\.\.(?=\s|$)", ".", text)


def _markdown(value: Any) -> Any:
    # What is marked up is escaped already.
    return value if hasattr(value, "__html__") else Markup(escape_markdown(_one_stop(str(value))))


def _one_line(text: Markup) -> Markup:
    """What a `call` block holds, on one line."""
    return Markup(_unbroken(" ".join(str(text).split())))


def _fence(code: str) -> Markup:
    """Code as a Markdown block, by more backticks than stand in it."""
    ticks = "`" * (3 + max((len(run) for run in re.findall("`+", code)), default=0))
    return Markup(f"{ticks}\n{code.rstrip()}\n{ticks}")
