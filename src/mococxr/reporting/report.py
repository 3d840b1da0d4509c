"""Result files -> one self-contained HTML page, the same as Markdown, and figures. Computes nothing new.

`mococxr.results` reads, `findings` and `words` speak, `tables` and `figures` lay out, `page` puts them together. Below
the first screen each fold has a file: `doubt`, `comparisons`, `calibration`, `groups`, `pretraining`, `made`, `paper`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mococxr import console
from mococxr.files import atomic_write
from mococxr.results import read_results

__all__ = ["run", "write_report"]


def write_report(study: Path) -> Path:
    """Write `report.html`, `report.md` and `figures/` (PNG and SVG) into a STUDY folder.

    The same folder gives the same bytes: the page holds no clock time but those recorded by `study`.

    Args:
        study: a STUDY folder: `cells.csv`, `differences.csv`, `trials.csv`, `settings.yaml`, `study.json`.

    Returns:
        The path of `report.html`.

    Raises:
        InputError: a file is missing or damaged; nothing was written.
    """
    from mococxr.reporting.figures import draw_figures
    from mococxr.reporting.markdown import to_markdown
    from mococxr.reporting.page import lay_out, to_html
    from mococxr.reporting.panels import draw_panels

    content = read_results(Path(study))
    figures = [*draw_figures(content), *draw_panels(content)]
    page = lay_out(content, figures)
    html, markdown = to_html(page), to_markdown(page)
    for figure in figures:
        atomic_write(content.path / "figures" / f"{figure.name}.svg", figure.svg)
        atomic_write(content.path / "figures" / f"{figure.name}.png", figure.png)
    atomic_write(content.path / "report.md", markdown)
    atomic_write(content.path / "report.html", html)
    return content.path / "report.html"


def run(settings: Any) -> None:
    """The command `report`: write the page of `settings.study` and say where it lies."""
    console.result(str(write_report(Path(settings.study))))
