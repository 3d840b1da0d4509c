"""What `mkdocs build` needs beside the pages: those made from the code, and what the blocks of pages printed and drew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from site_pages import generated

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / ".make/site"
HOW_TO = "How to"
"""Where a page stands that the navigation of mkdocs.yml does not name."""
OUTPUT = re.compile(r"(^```(?:sh|python)\b(?:(?!^```).)*^```\n)\n?<!-- output -->", re.M | re.S)
"""A block behind which its output is to stand."""
LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)[^)]*\)")
"""A link that leads up."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code, and the pictures that the blocks made."""
    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    for picture in sorted((MADE / "made").glob("*")):
        files.append(File.generated(config, f"made/{picture.name}", abs_src_path=str(picture)))
    config.nav = [_with_folder(item, files) for item in config.nav or []]
    named = set(_pages(config.nav))
    new = [file.src_uri for file in files.documentation_pages() if file.src_uri not in named]
    next(item[HOW_TO] for item in config.nav if HOW_TO in item).extend(sorted(new))
    return files


def _pages(item: Any) -> Iterator[str]:
    """Every page that the navigation names."""
    if isinstance(item, str):
        yield item
    else:
        for inner in item.values() if isinstance(item, dict) else item:
            yield from _pages(inner)


def _with_folder(item: Any, files: Files) -> Any:
    """An item of the navigation; one that names a folder holds its pages, in the order in which they came."""
    if isinstance(item, dict):
        return {title: _with_folder(inner, files) for title, inner in item.items()}
    if isinstance(item, list):
        return [_with_folder(inner, files) for inner in item]
    if item.endswith("/"):
        pages = [file.src_uri for file in files.documentation_pages() if file.src_uri.startswith(item)]
        return sorted(pages, key=lambda page: not page.endswith("/index.md"))
    return item


@cache
def _outputs() -> dict[str, dict[str, str]]:
    file = MADE / "outputs.json"
    outputs: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return outputs


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Put what a block printed behind it, and leave out links to files that are no pages."""
    printed = _outputs().get(f"docs/{page.file.src_uri}", {})

    def with_output(match: re.Match[str]) -> str:
        line = _line_of(page, match[1])
        text = "\n".join(_readable(printed.get(str(line), "(run by `make site`)\n")))
        return f"{match[1]}\n```text\n{text}\n```\n"

    return LINK.sub(lambda link: _inside(link, page), OUTPUT.sub(with_output, markdown))


def _inside(link: re.Match[str], page: Page) -> str:
    """The link, or its words alone where it leads out of `docs`, to a file that is no page."""
    return link[0] if link[2].count("../") <= page.file.src_uri.count("/") else link[1]


def _line_of(page: Page, block: str) -> int:
    """The line of a block's fence in its file, as the runner counts."""
    text = Path(page.file.abs_src_path or "").read_text(encoding="utf-8")
    return text.count("\n", 0, text.index(block.rstrip("\n"))) + 1


def _readable(text: str) -> list[str]:
    """The lines of an output, without what is of this machine alone."""
    lines = [line.rstrip() for line in text.splitlines()]
    kept = [re.sub(r"/\S*/page/", "", line) for line in lines if not re.search(r"\d images/s|\bleft\b.*%", line)]
    return kept[:60] + ([f"... {len(kept) - 60} more lines"] if len(kept) > 60 else [])


def on_page_content(html: str, **_: Any) -> str:
    """Tables and code that are wider than the screen can be moved by the keyboard."""
    html = re.sub(r"<table>", '<div class="wide" tabindex="0"><table class="data">', html).replace(
        "</table>", "</table></div>"
    )
    return html.replace("<pre>", '<pre tabindex="0">')


def on_post_page(output: str, **_: Any) -> str:
    """The theme's search has a name for those who hear the page."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )
