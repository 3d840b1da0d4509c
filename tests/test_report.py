from __future__ import annotations

import csv
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import pytest

from fake_study import facts, fake_study
from mococxr.reporting.markdown import escaped
from mococxr.reporting.report import run, write_report

GONE = ("moco", "finetune", "Effusion", 0.1)
WHY = "the draw has one class only: 34 images, none positive"
SMALL: dict[str, Any] = {
    "arms": ("moco", "imagenet"),
    "targets": ("Effusion",),
    "modes": ("linear",),
    "fractions": (0.01, 1.0),
}


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


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rounded(text: str, sign: bool = False) -> str:
    value = f"{float(text):{'+' if sign else ''}.3f}"
    return ("0.000" if float(value) == 0 else value).replace("-", "−")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = fake_study(tmp_path_factory.mktemp("report") / "study", undefined={GONE: WHY})
    write_report(place)
    return place


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return (study / "report.html").read_text(encoding="utf-8")


def text_of(root: Path, **changed: Any) -> str:
    return words(write_report(fake_study(root, **SMALL | changed)).read_text(encoding="utf-8"))


def test_every_number_of_the_difference_table_is_that_of_the_csv_rounded(study: Path, page: str) -> None:
    auroc = {
        (c["arm"], c["mode"], c["target"], c["fraction"]): c["auroc"] for c in table(study / "cells.csv")
    }
    wanted = []
    for row in table(study / "differences.csv"):
        key = (row["mode"], row["target"], row["fraction"])
        if row["difference"]:
            pair = " / ".join(rounded(auroc[(row[arm], *key)]) for arm in ("arm", "against"))
            low, high = float(row["low"]), float(row["high"])
            within = f"({rounded(row['low'], sign=True)} to {rounded(row['high'], sign=True)})"
            word = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
            wanted.append(f"{pair} {rounded(row['difference'], sign=True)} {within} {word}")
    shown = [cell for row in rows_of(page, "found|others") for cell in row[1:] if "undefined" not in cell]
    assert shown == wanted
    assert len(wanted) == 23


def test_the_markdown_table_holds_the_same_cells_as_the_page(study: Path, page: str) -> None:
    markdown = (study / "report.md").read_text(encoding="utf-8")
    for row in rows_of(page, "found|others"):
        for cell in row[1:]:
            if "undefined" not in cell:
                assert f"| {escaped(cell)} |" in markdown


def test_every_cell_and_comparison_stands_among_all_numbers(study: Path, page: str) -> None:
    cells, differences = table(study / "cells.csv"), table(study / "differences.csv")
    for row, cell in zip(rows_of(page, "numbers"), cells, strict=True):
        if cell["auroc"]:
            within = f"({rounded(cell['low'])} to {rounded(cell['high'])})"
            assert row[4:6] == [f"{rounded(cell['auroc'])} {within}", rounded(cell["draw_sd"])]
    for row, difference in zip(rows_of(page, "comparisons"), differences, strict=True):
        if difference["p"]:
            assert row[4] == rounded(difference["p"])


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    tags = parsed(page)
    assert not {tag for tag, _ in tags.seen} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "image",
    }
    for _, attributes in tags.seen:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "action"):
                assert (value or "").startswith("#")
    assert not re.search(r"@import|url\((?!#)", page)
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_a_script_in_a_name_stays_text(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    target = "a|b_c* $x^2$ & <img src=x onerror=1>"
    place = fake_study(
        tmp_path / "s", arms=(evil, "imagenet"), targets=(target,), fractions=(0.1, 1.0), modes=("linear",)
    )
    page = write_report(place).read_text(encoding="utf-8")
    assert "<script" not in page
    assert not {"img", "script"} & {tag for tag, _ in parsed(page).seen}
    assert evil in words(page)
    assert target in words(page)
    markdown = (place / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "<img" not in markdown[: markdown.index("```")]
    assert "a\\|b\\_c\\*" in markdown


def test_odd_names_are_drawn_as_they_stand(tmp_path: Path) -> None:
    arms = ("_hidden", "$\\frac{$", "胸部", "imagenet")
    place = fake_study(tmp_path / "s", arms=arms, targets=("Effusion",), fractions=(0.1,), modes=("linear",))
    page = write_report(place).read_text(encoding="utf-8")
    figure = page[page.index("<figure") : page.index("</figure>")]
    for arm in arms[:3]:
        assert arm in html.unescape(figure)


def test_undefined_cells_are_called_so_with_their_reason(study: Path, page: str) -> None:
    cell = rows_of(page, "found|others")[6][2]
    assert cell.startswith("undefined / 0.")
    assert cell.endswith(f"undefined MoCo: {WHY}")
    assert ["Effusion", "finetune", "MoCo", "10 %", "all", WHY] in rows_of(page, "warnings")
    assert "1 of 36 cells is undefined" in words(page)
    assert escaped(WHY) in (study / "report.md").read_text(encoding="utf-8")
    assert "nan" not in words(page).lower().split()


def test_banners_stand_before_the_verdicts(tmp_path: Path) -> None:
    store = facts(("moco", "imagenet"), ("Effusion",))["store"] | {"phantom": True}
    text = text_of(tmp_path / "s", recorded={"store": store})
    assert text.index("it proves nothing") < text.index("With 1 % of the labels")


def test_a_study_of_one_arm_compares_nothing_and_says_so(tmp_path: Path) -> None:
    text = text_of(tmp_path / "s", arms=("imagenet",))
    assert "There is no other arm to compare it with." in text
    assert "differences between arms" not in text


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    outputs = []
    for name in ("a", "b"):
        place = fake_study(tmp_path / name, **SMALL)
        write_report(place)
        made = [place / "report.html", place / "report.md", *sorted((place / "figures").iterdir())]
        outputs.append({path.name: path.read_bytes() for path in made})
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 2 + 2


def test_drawing_leaves_no_global_state_behind(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    write_report(fake_study(tmp_path / "s", **SMALL))
    assert dict(matplotlib.rcParams) == before


def test_identifiers_are_not_used_twice_on_the_page(page: str) -> None:
    names = [attributes["id"] for tag, attributes in parsed(page).seen if "id" in attributes and tag != "g"]
    assert len(names) == len(set(names))


def test_wide_things_scroll_inside_their_own_box(page: str) -> None:
    tables = [position.start() for position in re.finditer("<table", page)]
    assert len(tables) > 6
    for start in tables:
        assert '<div class="scroll"' in page[start - 160 : start]


def test_the_command_says_where_the_page_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = fake_study(tmp_path / "s", **SMALL)
    run(SimpleNamespace(study=place))
    assert capsys.readouterr().out.strip() == str(place / "report.html")
