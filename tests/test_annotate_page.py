"""The page in a browser, by keyboard alone: answers, notes, back, a killed server, two readers, a phone."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotate_process import start
from browser import Page, chromium
from mococxr.preparation.prepare import run as prepare
from mococxr.store import Store
from mococxr.store.label_history import standing
from small_images import settings, write_images

IMAGES = 12
SHOWN = "document.body && document.body.dataset.shown"
PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="no chromium")]


@pytest.fixture
def tabs(tmp_path: Path) -> Iterator[Any]:
    with chromium(str(PROGRAM), tmp_path / "profile") as tab:
        yield tab


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", IMAGES)
    return prepare(settings(tmp_path / "images", tmp_path / "store", split=(0.4, 0.3, 0.3))).path


def join(page: Page, address: str, reader: str) -> None:
    """Open the page and choose a name, by keys."""
    page.open(address)
    page.wait("document.activeElement && document.activeElement.id == 'name'")  # what it proposes is selected
    page.press(*reader, "Enter")
    page.wait(SHOWN)


def answer(page: Page, *keys: str) -> int:
    """Answer each finding of an image; gives the milliseconds from the last key to the next image."""
    before = page.value(SHOWN)
    for key in keys:
        page.press(key)
        page.wait("document.getElementById('status').textContent.endsWith('Saved.') && waiting == 0")
    page.wait(f"document.body.dataset.shown != '{before}'")
    return int(page.value("document.body.dataset.ms"))


def events(store: Path) -> list[tuple[Any, ...]]:
    return Store.open(store).history.select("path", "target", "value", "reader", "note").rows()


def image(number: int) -> str:
    return f"images/image{number - 1:04d}.png"


def checked(page: Page) -> list[str]:
    """The answers that the page shows as given."""
    return list(page.value("[...document.querySelectorAll('[aria-checked=true]')].map(b => b.dataset.value)"))


def test_two_readers_label_by_keyboard_and_a_killed_server_loses_nothing(
    store: Path, tabs: Any, tmp_path: Path
) -> None:
    listed = pl.DataFrame({"path": [image(n + 1) for n in range(IMAGES)], "readers": [2] + [1] * (IMAGES - 1)})
    listed.write_csv(tmp_path / "list.csv")
    flags = ("--target", "Nodule", "--next", str(tmp_path / "list.csv"), "--reader", "A")
    server, address = start(store, *flags)
    page = tabs()
    join(page, address, "")
    times = [answer(page, "1", "0")]
    page.press("n", *"dim", "Escape")
    times.append(answer(page, "u", "1"))
    assert events(store)[:2] == [(image(1), "Effusion", 1, "A", None), (image(1), "Nodule", 0, "A", None)]
    assert events(store)[2:] == [(image(2), "Effusion", -1, "A", "dim"), (image(2), "Nodule", 1, "A", "dim")]
    page.press("b")
    page.wait("document.body.dataset.shown == '2'")
    assert checked(page) == ["-1", "1"]
    assert page.value("document.getElementById('note').value") == "dim"
    page.press("ArrowDown", "x")
    page.wait("waiting == 0")
    assert checked(page) == ["-1"]
    times.append(answer(page, "0"))
    assert [value for _, _, value, *_ in events(store)[4:]] == [None, 0]
    page.press("s")
    page.wait("document.body.dataset.shown == '4'")
    facts = "document.getElementById('facts').textContent"
    before = page.value(facts)
    page.press("]", "+", "i", "o")
    page.wait("document.getElementById('large').getAttribute('aria-label').startsWith('Other image')")
    page.press("]", "+")
    page.wait(f"{facts} != {before!r} && document.getElementById('large').classList.contains('inverted')")
    times += [answer(page, "1", "0") for _ in range(3)]
    assert page.problems == []
    assert min(times) < 1000, f"milliseconds (under 100 where nothing else runs): {times}"

    server.kill()
    server.communicate()
    page.press("1")
    page.wait("!document.getElementById('alarm').hidden")
    kept = events(store)
    server, address = start(store, *flags, "--port", address.split(":")[2].split("/")[0])
    page.wait("document.getElementById('alarm').textContent.includes('started anew')")
    assert events(store) == kept
    join(page, address, "")
    assert page.value(SHOWN) == "3", "put off until the server ended"
    other = tabs()
    join(other, address, "B")
    assert other.value(SHOWN) == "1"
    answer(other, "0", "0")
    assert int(other.value(SHOWN)) > 6, "what A is promised is not shown to B"
    page.open(address.split("/enter")[0] + "/", 390, 844)
    page.wait("document.body && document.body.dataset.shown == '3'")
    assert page.value("document.documentElement.scrollWidth") == 390
    assert page.value(
        "[...document.querySelectorAll('.choices button')].every(b => b.getBoundingClientRect().height >= 44)"
    )
    assert page.value("document.querySelector('.finding.now').getBoundingClientRect().bottom < innerHeight")
    for reader in (page, other):
        while reader.value(SHOWN) != "end":
            answer(reader, "1", "0")
    os.kill(server.pid, signal.SIGINT)
    server.communicate(timeout=20)
    assert server.returncode == 0
    done = standing(Store.open(store).history).group_by("path", "target").agg(pl.col("reader").sort())
    assert dict(done.select("path", "reader").iter_rows())[image(1)] == ["A", "B"]
    assert sorted(done["reader"].list.len()) == [1] * 2 * (IMAGES - 1) + [2, 2]
