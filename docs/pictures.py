"""Pictures of the site that blocks have made: files as they are, pages as Chromium shows them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path


def take(folder: Path, source: str, out: Path) -> None:
    """Copy a picture, or photograph a page.

    Args:
        folder: in which the blocks of the page ran.
        source: a picture in it; or `PAGE.html WIDTHxHEIGHT or PICTURE`, where PICTURE stands in for want of a browser.
        out: the picture on the site.
    """
    page, _, instead = source.partition(" or ")
    name, _, size = page.partition(" ")
    if not size:
        shutil.copy(folder / name, out)
    elif browser := shutil.which("chromium"):
        photograph(browser, folder / name, out, size)
    else:
        shutil.copy(folder / instead, out)


def photograph(browser: str, page: Path, out: Path, size: str) -> None:
    """The upper part of a page, `WIDTHxHEIGHT` px."""
    with tempfile.TemporaryDirectory() as profile:
        flags = [f"--user-data-dir={profile}", f"--window-size={size.replace('x', ',')}", f"--screenshot={out}"]
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *flags, page.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
