"""The report of a study: every number that of the tables, one page that loads nothing, the same as Markdown."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import pytest

from fake_numbers import read
from fake_study import fake_study
from mococxr.errors import InputError
from mococxr.pages.render import escape_markdown
from mococxr.reporting.report import run, write_report

pytestmark = pytest.mark.usefixtures("light_figures")

LOST = ("moco", "finetune", "Effusion", 0.1)
WHY = "the draw has one class only: 34 images, none positive"
SMALL: dict[str, Any] = {
    "arms": ("moco", "imagenet"),
    "targets": ("Effusion",),
    "modes": ("linear",),
    "fractions": (0.01, 1.0),
}
SECTIONS = (
    "variance", "saved", "forecast", "comparisons", "calibration", "subgroups", "pretraining", "planning", "numbers",
    "manuscript",
)  # fmt: skip


class Tags(HTMLParser):
    """Which tags and attributes a page has, which stay open, and its visible text."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert tags.open == []
    return tags


def words(text: str) -> str:
    """The text that a reader sees, spaces made one."""
    return " ".join(" ".join(parsed(text).words).split())


def rows_of(page: str, section: str) -> list[list[str]]:
    """The body cells of all tables of one section, as text."""
    parts = re.findall(rf'<section id="(?:{section})"[^>]*>(.*?)</section>', page, re.S)
    assert parts
    bodies = re.findall(r"<tbody>(.*?)</tbody>", "".join(parts), re.S)
    rows = [row for body in bodies for row in re.findall(r"<tr>(.*?)</tr>", body, re.S)]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in rows]
    return [[" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in row] for row in cells]


def rounded(text: str, sign: bool = False) -> str:
    value = f"{float(text):{'+' if sign else ''}.3f}"
    return ("0.000" if float(value) == 0 else value).replace("-", "−")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fake_study(tmp_path_factory.mktemp("report") / "study", undefined={LOST: WHY})
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return (study / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def markdown(study: Path) -> str:
    return (study / "report.md").read_text(encoding="utf-8")


def text_of(folder: Path) -> str:
    return words(write_report(folder).read_text(encoding="utf-8"))


def test_every_number_of_the_difference_table_is_that_of_the_csv_rounded(study: Path, page: str) -> None:
    auroc = {(c["arm"], c["mode"], c["target"], c["fraction"]): c["auroc"] for c in read(study / "cells.csv")}
    expected = []
    for row in read(study / "differences.csv"):
        key = (row["mode"], row["target"], row["fraction"])
        if row["difference"]:
            pair = " / ".join(rounded(auroc[(row[arm], *key)]) for arm in ("arm", "against"))
            within = f"({rounded(row['low'], sign=True)} to {rounded(row['high'], sign=True)})"
            word = row["verdict"]
            if word in ("better", "worse") and float(row["p_holm"]) >= 0.05:
                word += ", not after Holm"
            expected.append(f"{pair} {rounded(row['difference'], sign=True)} {within} {word}")
    cells = [cell for row in rows_of(page, "found|others") for cell in row[1:] if "undefined" not in cell]
    assert cells == expected
    assert len(expected) == 23


def test_every_cell_and_comparison_is_in_its_table(study: Path, page: str) -> None:
    for row, cell in zip(rows_of(page, "numbers"), read(study / "cells.csv"), strict=True):
        if cell["auroc"]:
            within = f"({rounded(cell['low'])} to {rounded(cell['high'])})"
            assert row[4:6] == [f"{rounded(cell['auroc'])} {within}", rounded(cell["draw_sd"])]
    for row, comparison in zip(rows_of(page, "comparisons"), read(study / "differences.csv"), strict=True):
        if comparison["p"]:
            assert row[4:8] == [f"{float(comparison[name]):.3f}" for name in ("p", "p_total", "p_holm", "p_bh")]
        assert row[8] == comparison["verdict"]


def test_the_markdown_says_what_the_page_says(study: Path, page: str, markdown: str) -> None:
    for text in re.findall(r'<span class="(?:gist|title)">(.*?)</span>', page, re.S):
        assert escape_markdown(words(text).replace("\u00a0", " ")) in markdown, text
    for key in SECTIONS:
        for row in rows_of(page, key):
            for cell in row:
                assert escape_markdown(cell.replace("\u00a0", " ")) in markdown
    for row in rows_of(page, "found|others"):
        for cell in row[1:]:
            assert "undefined" in cell or f"| {escape_markdown(cell)} |" in markdown
    for name in re.findall(r"\(figures/(.*?)\)", markdown):
        assert (study / "figures" / name).is_file()
    assert "\n\n\n" not in markdown
    tables = re.findall(r"(?:^\|.*\|\n)+", markdown, re.M)
    assert len(tables) > 15
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    tags = parsed(page)
    loading = {"script", "link", "img", "iframe", "object", "embed", "base", "image"}
    assert not {tag for tag, _ in tags.seen} & loading
    for _, attributes in tags.seen:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "action"):
                assert (value or "").startswith("#")
    assert not re.search(r"@import|url\((?!#)", page)
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= names


def test_a_script_in_a_name_stays_text(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    target = "a|b_c* $x^2$ & <img src=x onerror=1>"
    names = {"arms": (evil, "_hidden", "$\\frac{$", "胸部", "imagenet"), "targets": (target,), "modes": ("linear",)}
    folder = fake_study(tmp_path / "s", **names, fractions=(0.1, 1.0))
    page = write_report(folder).read_text(encoding="utf-8")
    assert not {"img", "script"} & {tag for tag, _ in parsed(page).seen}
    assert evil in words(page)
    assert target in words(page)
    figure = html.unescape(page[page.index("<figure") : page.index("</figure>")])
    assert all(name in figure for name in names["arms"][:4])
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "<img" not in markdown[: markdown.index("```")]
    assert "a\\|b\\_c\\*" in markdown


def test_undefined_cells_are_called_so_with_their_reason(page: str, markdown: str) -> None:
    cell = rows_of(page, "found|others")[6][2]
    assert cell.startswith("undefined / 0.")
    assert cell.endswith(f"undefined MoCo: {WHY}")
    assert ["Effusion", "finetune", "MoCo", "10 %", "all", WHY] in rows_of(page, "warnings")
    assert "1 of 36 cells is undefined" in words(page)
    assert escape_markdown(WHY) in markdown
    assert not {"nan", "none"} & set(re.sub(r"None\.", "", words(page)).lower().split()) - {"none"}


def test_a_study_of_one_arm_compares_nothing_and_says_so(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "s", **SMALL | {"arms": ("imagenet",)}, recorded={"primary": None, "planning": {}})
    page = write_report(folder).read_text(encoding="utf-8")
    assert "There is no other arm to compare it with." in words(page)
    for key in ("variance", "saved", "comparisons", "planning", "pretraining"):
        assert f'<section id="{key}"' not in page


def test_each_section_gives_its_summary_before_it_is_opened(page: str) -> None:
    for key in SECTIONS:
        opening = rf'<section id="{key}" class="fold">\s*<details><summary>(.*?)</summary>'
        section = re.search(opening, page, re.S)
        assert section, key
        assert '<span class="gist">' in section[1], key
    first = page[: page.index('<section id="others"')]
    assert first.index('class="sentence"') < first.index("<figure") < first.index('<table class="differences"')
    assert "<details" not in first
    assert first.count("<figure") == 2


def test_the_command_says_where_the_page_is_writes_the_same_bytes_again_and_leaves_no_global_state_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, outputs = dict(matplotlib.rcParams), []
    for name in ("a", "b"):
        folder = fake_study(tmp_path / name, **SMALL)
        run(SimpleNamespace(study=folder))
        assert capsys.readouterr().out.strip() == str(folder / "report.html")
        written = [folder / "report.html", folder / "report.md", *sorted((folder / "figures").iterdir())]
        outputs.append({path.name: path.read_bytes() for path in written})
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 2 + 3 * (1 + 1 + 2 + 2)
    assert dict(matplotlib.rcParams) == before


def test_identifiers_are_not_used_twice_and_wide_things_scroll_in_their_own_box(page: str) -> None:
    names = [attributes["id"] for tag, attributes in parsed(page).seen if "id" in attributes and tag != "g"]
    assert len(names) == len(set(names))
    tables = [match.start() for match in re.finditer("<table", page)]
    assert len(tables) > 6
    for start in tables:
        assert '<div class="scroll"' in page[start - 260 : start]
    assert "details::details-content { content-visibility: visible" in page[page.index("@media print") :]


@pytest.mark.parametrize("name", ["cells.csv", "differences.csv", "trials.csv", "settings.yaml", "study.json"])
def test_a_missing_file_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    folder = fake_study(tmp_path / "s", **SMALL)
    (folder / name).unlink()
    with pytest.raises(InputError, match=re.escape(str(folder / name))) as caught:
        write_report(folder)
    assert "mococxr study" in caught.value.way_out
    assert not (folder / "report.html").exists()
    assert not (folder / "figures").exists()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("moco,linear,Effusion,0.01,0.", "moco,linear,Effusion,0.01,x0.", "row 1: auroc is 'x0."),
        ("moco,linear,Effusion,0.01,", "moco,linear,,0.01,", "row 1: target is blank"),
        ("moco,linear,Effusion,1.0,", "moco,linear,Effusion,0.01,", "row 2, repeats an earlier"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    folder = fake_study(tmp_path / "s", **SMALL)
    text = (folder / "cells.csv").read_text()
    assert old in text
    (folder / "cells.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(problem)):
        write_report(folder)


def test_planning_and_tests_of_the_facts_are_quoted(study: Path, page: str) -> None:
    facts = json.loads((study / "study.json").read_text())
    assert facts["tests"]["words"] in words(page)
    assert facts["planning"]["Pneumonia"]["words"] in words(page)
