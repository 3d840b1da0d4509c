"""The page: what stands where. `lay_out` gathers texts and tables; `to_html` fills the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from mococxr.reporting.banners import Banner, banners
from mococxr.reporting.calibration import calibration_section
from mococxr.reporting.comparisons import comparisons_section, planning_section, saved_section
from mococxr.reporting.doubt import doubt_section
from mococxr.reporting.figures import Picture
from mococxr.reporting.findings import Verdict, verdicts
from mococxr.reporting.groups import groups_section
from mococxr.reporting.made import (
    arms_section,
    data_section,
    numbers_section,
    repeat_section,
    settings_section,
    warnings_section,
)
from mococxr.reporting.paper import paper_section
from mococxr.reporting.pretraining import pretraining_section
from mococxr.reporting.reading import glossary_section, methods_section
from mococxr.reporting.section import CLOSER, MADE, PAPER, Section
from mococxr.reporting.tables import DifferenceTable, Glyph, difference_tables, glyph, widest
from mococxr.reporting.words import (
    display,
    interval_name,
    judged,
    listed,
    moment,
    percent,
    plain,
    shown,
    subtitle,
)
from mococxr.results import StudyResults as Study


@dataclass(frozen=True)
class Block:
    """One target: its sentence with an interval drawn for each `over`, its curves, its table."""

    verdict: Verdict
    glyphs: list[Glyph | None]
    figures: list[Picture]
    table: DifferenceTable | None


@dataclass(frozen=True)
class Page:
    """Everything that both forms of the report say, in order."""

    title: str
    subtitle: str
    intro: str
    facts: list[tuple[str, str]]
    banners: list[Banner]
    blocks: list[Block]
    reach: str
    figures: list[Picture]
    curve_note: str
    difference_note: str
    groups: list[tuple[str, list[Section]]]


def lay_out(study: Study, figures: list[Picture]) -> Page:
    """Gather the page from a study and its figures."""
    return Page(
        title=f"Label-efficiency study: {listed(study.targets)}",
        subtitle=subtitle(study),
        intro=_intro(study),
        facts=_headline_facts(study),
        banners=banners(study),
        blocks=_blocks(study, figures),
        reach=plain(widest(study), 2),
        figures=figures,
        curve_note=_curve_note(study),
        difference_note=_difference_note(study) if study.differences else "",
        groups=_groups(study, figures),
    )


def _blocks(study: Study, figures: list[Picture]) -> list[Block]:
    tables = {table.target: table for table in difference_tables(study)}
    blocks, found = [], verdicts(study)
    ends = [abs(end) for verdict in found for over in verdict.over for end in over.interval]
    for verdict in found:
        drawn = [glyph(*over.interval, 1.05 * max([*ends, 0.01])) for over in verdict.over]
        mine = [
            picture for picture in figures if picture.metric == "auroc" and picture.target == verdict.target
        ]
        blocks.append(Block(verdict, drawn, mine, tables.get(verdict.target)))
    return blocks


def _groups(study: Study, figures: list[Picture]) -> list[tuple[str, list[Section]]]:
    """The sections below the first screen, by group; what the study does not hold is left out, and named."""
    cases = "patients" if study.patients_known else "images (patients are unknown)"
    sections = [
        doubt_section(study),
        saved_section(study),
        comparisons_section(study),
        calibration_section(study, figures),
        groups_section(study),
        pretraining_section(study, figures),
        planning_section(study),
        numbers_section(study, figures),
        methods_section(study, cases),
        glossary_section(),
        data_section(study),
        arms_section(study),
        settings_section(study),
        warnings_section(study),
        repeat_section(study),
        paper_section(study),
    ]
    here = [section for section in sections if section is not None]
    return [
        (group, [section for section in here if section.group == group]) for group in (CLOSER, PAPER, MADE)
    ]


def to_html(page: Page) -> str:
    """The page as one HTML file: styles and figures inside, nothing loaded from anywhere."""
    pictures = {picture.name: picture.inline for picture in page.figures}
    return render("reporting/page.html.j2", ("reporting/page.css",), pictures, page=page)


def render(template: str, styles: Sequence[str], pictures: Mapping[str, str], **values: Any) -> str:
    """A template of this package filled in, with its styles and pictures inside it.

    Args:
        template: a file in the package, e.g. `report/page.html.j2`; it may import `report/macros.html.j2`.
        styles: CSS files in the package, in order; in the template together `style`.
        pictures: name -> a bare `<svg>` element made by matplotlib, which escapes its texts.
        values: everything else; text in it is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_ours),
        autoescape=True,
        finalize=_unbroken,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup("".join(_ours(name) for name in styles))  # our own files
    safe = {name: Markup(svg) for name, svg in pictures.items()}
    return environment.get_template(template).render(style=style, pictures=safe, **values)


def _ours(name: str) -> str:
    return files("mococxr").joinpath(name).read_text(encoding="utf-8")


def _unbroken(value: Any) -> Any:
    """No line break between a number and its unit."""
    return value.replace(" %", "\u00a0%").replace(" px", "\u00a0px") if type(value) is str else value


def _intro(study: Study) -> str:
    """What was done, for someone who meets such a page for the first time."""
    reference = f" The reference: {display(study, study.reference)}." if study.reference else ""
    ways = {
        "linear": "a linear classifier learns on top of an encoder that stays as it is",
        "finetune": "fine-tuning changes the encoder too",
    }
    used = "; ".join(ways[mode] for mode in study.modes if mode in ways)
    how = f" {used[0].upper()}{used[1:]}." if used else ""
    return (
        "Classifiers that start from different encoders (the arms; an encoder turns an image into numbers, its features) "
        f"learn from the same few labels and are judged on the same test images.{reference}{how} Which images have "
        "labels is drawn by lot, several times where they are few (draws of labels). AUROC is the chance that an image "
        "with the finding scores higher than one without: 0.5 is guessing, 1 is perfect."
    )


def _headline_facts(study: Study) -> list[tuple[str, str]]:
    facts = [
        ("Arms", ", ".join(display(study, arm) for arm in study.arms)),
        (
            "Share of the labels",
            ", ".join(percent(f) for f in sorted({row["fraction"] for row in study.cells})),
        ),
        ("Test set", judged(study) + _other_source(study)),
        ("Made", moment(study.fact("created"))),
    ]
    return facts


def _other_source(study: Study) -> str:
    return f", of {shown(study.fact('test_store', 'source'))}" if study.external else ""


def _curve_note(study: Study) -> str:
    cases = "patients" if study.patients_known else "images (patients are unknown)"
    return (
        f"Lines: mean over draws of labels. Bands and bars: {interval_name(study)} over test {cases}. Small rings: the "
        "single draws. The axis of labels is logarithmic; the panels of one target share their scale."
    )


def _difference_note(study: Study) -> str:
    return (
        "Each cell: AUROC of the arm / of the reference, then the difference and its "
        f"{interval_name(study)}. Better and worse: over other test patients like these, the interval leaves out 0."
    )
