"""Pages in a browser: printed, folded and opened, on a phone, in the dark, and as axe sees them."""

from __future__ import annotations

import base64
import importlib.util
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Page, chromium
from fake_reproduction import fake_reproduction
from fake_study import fake_study
from mococxr.reporting.report import write_report
from mococxr.reproduction.page import write_page

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no chromium"),
    pytest.mark.usefixtures("light_figures"),
]
INCH = 25.4
PAPERS = {"A4": (210 / INCH, 297 / INCH), "Letter": (8.5, 11)}
AXE = "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
SAID = ".then(result => result.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.html.slice(0, 150))))"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    study = fake_study(folder / "study", ("moco", "imagenet"), ("Pneumonia", "Effusion"), ("linear",))
    return {"report": write_report(study), "reproduction": write_page(fake_reproduction(folder / "reproduction"))}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(str(PROGRAM), tmp_path_factory.mktemp("browser") / "profile") as new_tab:
        yield new_tab()


def show(tab: Page, path: Path, width: int = 1280) -> None:
    tab.open(path.as_uri(), width)
    tab.wait(f"document.readyState == 'complete' && location.href.startsWith({str(path.as_uri())!r})")


def printed(tab: Page, size: tuple[float, float]) -> bytes:
    """The page as Chromium prints it, without background graphics."""
    how: dict[str, Any] = {"paperWidth": size[0], "paperHeight": size[1], "printBackground": False}
    return base64.b64decode(tab.call("Page.printToPDF", preferCSSPageSize=True, **how)["data"])


def contents(pdf: bytes) -> bytes:
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S)
    return b"\n".join(zlib.decompress(stream) for stream in streams if stream[:1] == b"\x78")


@pytest.mark.parametrize("paper", PAPERS)
def test_a_small_study_prints_on_15_pages_with_its_folds_open_and_its_bars_in_colour(
    pages: dict[str, Path], tab: Page, paper: str
) -> None:
    show(tab, pages["report"])
    pdf = printed(tab, PAPERS[paper])
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 15
    # the colour of the first part of the stacked bars, #0072B2, as a filling
    assert re.search(rb"\b0 \.44\d+ \.69\d+ rg", contents(pdf))
    tab.call("Emulation.setEmulatedMedia", media="print")
    hidden = (
        "[...document.querySelectorAll('details')].filter(d => d.offsetHeight < 40 || !d.lastElementChild.offsetHeight)"
    )
    assert tab.value(f"{hidden}.map(d => d.innerText.slice(0, 60))") == []
    width = round(PAPERS[paper][0] * 96 - 2 * 11 / INCH * 96)
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
    beyond = "t => t.getBoundingClientRect().right > innerWidth + 1"
    wide = f"[...document.querySelectorAll('table, pre, figure')].filter({beyond})"
    assert tab.value(f"{wide}.map(t => t.innerText.slice(0, 60))") == [], "cut at the edge of the paper"
    tab.call("Emulation.setEmulatedMedia", media="")


def test_the_contents_lead_into_folds_and_a_box_opens_them_all_without_a_script(
    pages: dict[str, Path], tab: Page
) -> None:
    for path in pages.values():
        show(tab, path)
        assert tab.value("document.scripts.length") == 0
        links = tab.value("[...document.querySelectorAll('.contents a')].map(a => a.getAttribute('href'))")
        assert len(links) >= 5
        assert tab.value("[...document.querySelectorAll('a[href^=\"#\"]')].every(a => document.querySelector(a.hash))")
    show(tab, pages["report"])
    assert tab.value("document.querySelectorAll('.fold details[open]').length") == 0
    tab.value("document.querySelector('.contents a[href=\"#calibration-inside\"]').click()")
    assert tab.wait("document.querySelector('#calibration details').open")
    short = "d.offsetHeight - d.firstElementChild.offsetHeight < 20"
    closed = f"[...document.querySelectorAll('details')].filter(d => {short}).length"
    assert tab.value(closed) > 5
    tab.value("document.querySelector('#open-all').click()")
    assert tab.value(closed) == 0


@pytest.mark.parametrize("name", ["report", "reproduction"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(pages: dict[str, Path], tab: Page, name: str, scheme: str) -> None:
    package = importlib.util.find_spec("axe_playwright_python")
    if package is None or package.origin is None:
        pytest.skip("no axe: pip install axe-playwright-python")
    tab.call("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": scheme}])
    show(tab, pages[name])
    tab.value("document.querySelectorAll('details').forEach(d => { d.open = true })")
    tab.value((Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    assert tab.value(AXE + SAID) == []


@pytest.mark.parametrize("name", ["report", "reproduction"])
def test_a_phone_shows_the_page_without_sideways_scroll_and_cuts_no_text(
    pages: dict[str, Path], tab: Page, name: str
) -> None:
    show(tab, pages[name], 390)
    tab.value("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert tab.value("document.documentElement.scrollWidth") <= 390
    cut = (
        "[...document.querySelectorAll('p, li, h1, h2, h3, summary, dd, figcaption')].filter(e => "
        "!e.closest('.scroll') && e.getBoundingClientRect().right > 391)"
    )
    assert tab.value(f"{cut}.map(e => e.innerText.slice(0, 60))") == []
