"""Check the built site and the pages outside of it: `python docs/check_site.py`, part of `make site`.

Links and their anchors lead somewhere; no page loads anything from elsewhere; and where Chromium is installed, each page
is opened: axe finds nothing wrong with it, nothing on it fails, and it fits a screen of 390 px. Exit status 1 where one
does not.
"""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("object", "data")}
"""Attributes whose address a browser fetches by itself."""
MARKDOWN = ("README.md", "AGENTS.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "weights/README.md")
AXE = "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
WORDS = "v => v.id + ': ' + v.help + ' (' + v.nodes.slice(0, 3).map(n => n.target).join('; ') + ')'"


@dataclass
class Seen(HTMLParser):
    """What a page has: places that links lead to, links, addresses that it loads."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the attributes of an element."""
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if (tag, name) == ("a", "href") and value:
                self.links.append(value)
            if (tag, name) in LOADED and value:
                self.loaded.append(value)


def read(file: Path) -> Seen:
    """What a page of HTML has."""
    seen = Seen()
    seen.feed(file.read_text(encoding="utf-8"))
    return seen


def foreign(seen: Seen, text: str) -> list[str]:
    """Addresses elsewhere that the page would load."""
    imported = re.findall(r"@import\s+(?:url\()?['\"]?([^'\")]+)|url\(['\"]?(//[^'\")]+|https?:[^'\")]+)", text)
    every = [*seen.loaded, *(address for pair in imported for address in pair if address)]
    return [address for address in every if urlsplit(address).netloc]


def broken(site: Path) -> Iterator[str]:
    """Links of a site that lead nowhere, and what its pages would load from elsewhere."""
    pages = {file: read(file) for file in sorted(site.rglob("*.html"))}
    for file, seen in pages.items():
        name = file.relative_to(site)
        yield from (f"{name} loads {address}" for address in foreign(seen, file.read_text(encoding="utf-8")))
        if file.name == "404.html":  # its links are of the server's root
            continue
        for link in seen.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name}: no such page: {link}"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids | {"__top"}:
                yield f"{name}: no such place: {link}"


def broken_markdown(file: Path) -> Iterator[str]:
    """Links of a Markdown file to files and headings that are not there."""
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = file.parent / unquote(parts.path) if parts.path else file
        if not target.exists():
            yield f"{file.name}: no such file: {link}"
        elif parts.fragment and parts.fragment not in _headings(target):
            yield f"{file.name}: no such heading: {link}"


def _headings(file: Path) -> set[str]:
    words = re.findall(r"^#+ +(.*)$", file.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in words}


def opened(site: Path, browser: str) -> Iterator[str]:
    """What is wrong with the pages of a site in a browser."""
    import axe_playwright_python

    sys.path.insert(0, str(ROOT / "tests"))
    from browser import chromium

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    handler = functools.partial(_Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, chromium(browser, Path(profile)) as tab:
        page = tab()
        for file in sorted(site.rglob("*.html")):
            name = file.relative_to(site)
            address = f"http://127.0.0.1:{server.server_port}/{name}"
            page.open(address)
            page.wait(f"location.href == {address!r} && document.readyState == 'complete'")
            page.value(axe)
            yield from (f"{name}: {problem}" for problem in page.value(f"{AXE}.then(r => r.violations.map({WORDS}))"))
            page.open(address, width=390)
            page.wait("document.readyState == 'complete'")
            if (width := page.value("document.documentElement.scrollWidth")) > 390:
                yield f"{name}: {width} px wide on a screen of 390 px"
            yield from (f"{name}: {problem}" for problem in page.problems)
            page.problems.clear()
    server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""


def main() -> int:
    """Check everything; the exit status."""
    problems = list(broken(SITE))
    for name in MARKDOWN:
        problems += broken_markdown(ROOT / name)
    if browser := shutil.which("chromium"):
        problems += opened(SITE, browser)
    else:
        print("no chromium: the pages were not opened, and axe did not look at them")
    print("\n".join([f"{len(problems)} problems of {len(list(SITE.rglob('*.html')))} pages", *problems]))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
