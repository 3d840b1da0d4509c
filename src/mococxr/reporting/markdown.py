"""The page as Markdown: the same facts, with GitHub tables."""

from __future__ import annotations

import re

from mococxr.reporting.figures import Picture
from mococxr.reporting.page import Block, Page
from mococxr.reporting.section import Section
from mococxr.reporting.tables import DifferenceTable, Table

NAMES = {"auroc": "AUROC", "average_precision": "average precision"}


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
    lines += ["## What was found", "", escaped(page.intro), ""]
    for block in page.blocks:
        lines += _block_lines(page, block)
    for group, sections in page.groups:
        lines += [f"## {escaped(group)}", ""] if sections else []
        for section in sections:
            lines += _section_lines(section)
    return "\n".join(lines).rstrip() + "\n"


def _block_lines(page: Page, block: Block) -> list[str]:
    """One target: sentence, over what, curves, table."""
    verdict = block.verdict
    mark = " (primary comparison)" if verdict.primary else ""
    lines = [
        f"**{escaped(verdict.target)}**{mark}: **{escaped(verdict.chip)}.** {escaped(verdict.sentence)}",
        "",
    ]
    points = [f"{over.label}: {over.word}, {over.text}" for over in verdict.over]
    points += [verdict.missing] if verdict.missing else []
    lines += [*(f"* {escaped(point)}" for point in points), *([""] if points else [])]
    lines += _picture_lines(block.figures)
    lines += [escaped(page.curve_note), ""] if block.figures else []
    if block.table:
        lines += [*_difference_lines(block.table), escaped(page.difference_note), ""]
    return lines


def _picture_lines(figures: list[Picture]) -> list[str]:
    lines = []
    for picture in figures:
        name = f"{picture.title} ({NAMES.get(picture.metric, picture.metric)})"
        lines += [f"![{escaped(name)}](figures/{picture.name}.png)", ""]
    return lines


def _section_lines(section: Section) -> list[str]:
    lines = [f"### {escaped(section.title)}", ""]
    lines += [f"**{escaped(section.gist)}**", ""] if section.gist else []
    points = [f"{name}: {value}" for name, value in section.facts]
    for bar in section.bars:
        parts = [*(f"{part.label} {part.text}" for part in bar.parts), *bar.missing]
        points.append(f"{bar.caption} {'; '.join(parts)}")
    points += section.lines
    lines += [*(f"* {escaped(point)}" for point in points), *([""] if points else [])]
    for title, text in section.pages:
        lines += [f"#### {escaped(title)}", "", escaped(text), ""]
    lines += _picture_lines(section.figures)
    for caption, plain_table in section.tables:
        lines += [f"#### {escaped(caption)}", ""] if caption else []
        lines += table_lines(plain_table)
    if section.code:
        fence = "`" * (3 + max((len(run) for run in re.findall("`+", section.code)), default=0))
        lines += [fence, section.code.rstrip(), fence, ""]
    return lines


def table_lines(table: Table) -> list[str]:
    """A GitHub table."""
    rule = ["---" if i < table.numbers_from else "---:" for i in range(len(table.head))]
    lines = [_line([escaped(text) for text in table.head]), _line(rule)]
    lines += [_line([escaped(text) for text in row]) for row in table.rows]
    return [*lines, "", *([escaped(table.note), ""] if table.note else [])]


def _difference_lines(table: DifferenceTable) -> list[str]:
    lines = [_line(["Mode", "Arms", *table.fractions])]
    lines.append(_line(["---"] * (2 + len(table.fractions))))
    for mode, arm, against, cells in table.rows:
        names = [escaped(mode), escaped(f"{arm} / {against}")]
        lines.append(_line([*names, *(escaped(cell.text) for cell in cells)]))
    return [*lines, ""]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
