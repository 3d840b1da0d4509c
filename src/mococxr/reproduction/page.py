"""The page of a reproduction: `tables/*.csv`, `figures/` and `index.html`, from the files of its studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mococxr.files import atomic_write, write_csv
from mococxr.reporting.words import moment
from mococxr.reproduction import page_words as words
from mococxr.reproduction.page_results import Results, read_results
from mococxr.reproduction.page_tables import TABLES, frame, sheet


def write_page(out: Path) -> Path:
    """Write the tables, the figures and the page of a folder of `reproduce`, whatever of it was run.

    The same folder gives the same bytes: nothing is computed but measured less printed.

    Args:
        out: holds `reproduce.json` and `studies/`.

    Returns:
        The path of `index.html`.

    Raises:
        InputError: a file is missing or damaged; nothing was written.
    """
    from mococxr.reporting.page import render
    from mococxr.reproduction.page_figures import draw_panels

    results = read_results(Path(out))
    frames = {spec.name: frame(results, spec) for spec in TABLES}
    panels = draw_panels(results)
    pictures = {panel.name: panel.inline for panel in panels}
    styles = ("reporting/page.css", "reproduction/page.css")
    html = render("reproduction/page.html.j2", styles, pictures, panels=panels, **_values(results))
    for name, table in frames.items():
        write_csv(results.out / "tables" / f"{name}.csv", table)
    for panel in panels:
        atomic_write(results.out / "figures" / f"{panel.name}.svg", panel.svg)
    atomic_write(results.out / "index.html", html)
    return results.out / "index.html"


def _values(results: Results) -> dict[str, Any]:
    """What the template shows, in its order."""
    variants = results.variants()
    dataset = words.DATASETS[results.dataset]
    return {
        "title": f"The paper's experiments on {dataset}, beside its printed numbers",
        "subtitle": words.subtitle(results),
        "banners": words.banners(results),
        "claims": [words.verdict(results), *words.claims(results)],
        "departures": words.departures(results),
        "data": words.data_table(results),
        "notes": words.notes(results),
        "sheets": [sheet(results, spec) for spec in TABLES],
        "variant_lines": words.variant_lines(results, variants),
        "variant_table": words.variant_table(variants),
        "missing": words.missing_cells(results),
        "runs": words.run_table(results),
        "machine": words.machine_facts(results),
        "made": moment(results.record.get("created")),
        "methods": words.methods(results),
        "studies": [(name, f"studies/{name}/report.html") for name in results.studies],
    }
