"""The page as Markdown: the same facts, with GitHub tables."""

from __future__ import annotations

import re

from mococxr.report.page import Page
from mococxr.report.tables import DifferenceTable, Table


def escaped(text: str) -> str:
    """Text from users (arms, targets, reasons) as plain text: no markup, no HTML, no broken table rows."""
    one_line = " ".join(text.split())
    marked = re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", one_line)
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def to_markdown(page: Page) -> str:
    """The Markdown text of a page."""
    lines = [f"# {escaped(page.title)}", "", escaped(page.subtitle), ""]
    lines += [*(f"* {escaped(f'{name}: {value}')}" for name, value in page.facts), ""]
    for banner in page.banners:
        lines += [f"> **{escaped(banner.title)}.** {escaped(banner.text)}", ""]
    lines += ["## What was found", ""]
    for verdict in page.verdicts:
        mark = " (primary comparison)" if verdict.primary else ""
        lines += [f"**{escaped(verdict.target)}**{mark}: {escaped(verdict.sentence)}", ""]
    lines += ["## Performance against labels", "", escaped(page.curve_note), ""]
    for picture in page.figures:
        name = f"{picture.title} ({'AUROC' if picture.metric == 'auroc' else 'average precision'})"
        lines += [f"![{escaped(name)}](figures/{picture.name}.png)", ""]
    if page.differences:
        lines += ["## Differences between arms", "", escaped(page.difference_note), ""]
    for table in page.differences:
        lines += _difference_lines(table)
    for section in page.sections:
        lines += [f"## {escaped(section.title)}", ""]
        points = [*(f"{name}: {value}" for name, value in section.facts), *section.lines]
        lines += [f"* {escaped(point)}" for point in points]
        lines += [""] if points else []
        for caption, plain_table in section.tables:
            lines += [f"### {escaped(caption)}", ""] if caption else []
            lines += table_lines(plain_table)
        if section.code:
            fence = "`" * (3 + max((len(run) for run in re.findall("`+", section.code)), default=0))
            lines += [fence, section.code.rstrip(), fence, ""]
    return "\n".join(lines).rstrip() + "\n"


def table_lines(table: Table) -> list[str]:
    """A GitHub table."""
    rule = ["---" if i < table.numbers_from else "---:" for i in range(len(table.head))]
    lines = [_line([escaped(text) for text in table.head]), _line(rule)]
    lines += [_line([escaped(text) for text in row]) for row in table.rows]
    return [*lines, "", *([escaped(table.note), ""] if table.note else [])]


def _difference_lines(table: DifferenceTable) -> list[str]:
    lines = [f"### {escaped(table.target)}", "", _line(["Mode", "Arms", *table.fractions])]
    lines.append(_line(["---"] * (2 + len(table.fractions))))
    for mode, arm, against, cells in table.rows:
        names = [escaped(mode), escaped(f"{arm} / {against}")]
        lines.append(_line([*names, *(escaped(cell.text) for cell in cells)]))
    return [*lines, ""]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
