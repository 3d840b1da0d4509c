"""The page: what stands where. `lay_out` gathers texts and tables; `to_html` fills the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from mococxr.report.arms import arm_table, transfer_table
from mococxr.report.banners import Banner, banners
from mococxr.report.figures import Picture
from mococxr.report.study_folder import Study
from mococxr.report.tables import (
    DifferenceTable,
    Glyph,
    Table,
    budget_table,
    cell_table,
    comparison_table,
    difference_tables,
    glyph,
    split_table,
    target_table,
    undefined_table,
    widest,
)
from mococxr.report.words import (
    NOT_RECORDED,
    Verdict,
    display,
    films_and_patients,
    interval_name,
    moment,
    percent,
    plain,
    shown,
    subtitle,
    verdicts,
)


@dataclass(frozen=True)
class Section:
    """A heading with facts, points, tables (caption, table) and code. `folded` sections begin closed."""

    key: str
    title: str
    lines: list[str] = field(default_factory=list)
    tables: list[tuple[str, Table]] = field(default_factory=list)
    code: str = ""
    folded: bool = False
    facts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Everything that both forms of the report say, in order."""

    title: str
    subtitle: str
    facts: list[tuple[str, str]]
    banners: list[Banner]
    verdicts: list[Verdict]
    verdict_glyphs: list[Glyph | None]
    reach: str
    figures: list[Picture]
    curve_note: str
    differences: list[DifferenceTable]
    difference_note: str
    sections: list[Section]


def lay_out(study: Study, figures: list[Picture]) -> Page:
    """Gather the page from a study and its figures."""
    found, reach = verdicts(study), widest(study)
    return Page(
        title=f"Label-efficiency study: {_names(study.targets)}",
        subtitle=subtitle(study),
        facts=_headline_facts(study),
        banners=banners(study),
        verdicts=found,
        verdict_glyphs=[glyph(*verdict.interval, reach) if verdict.interval else None for verdict in found],
        reach=plain(reach, 2),
        figures=figures,
        curve_note=_curve_note(study),
        differences=difference_tables(study),
        difference_note=_difference_note(study),
        sections=[
            _all_numbers(study),
            _data(study),
            _arms(study),
            _settings(study),
            _warnings(study),
            _methods(study),
            _repeat(study),
        ],
    )


def to_html(page: Page) -> str:
    """The page as one HTML file: styles and figures inside, nothing loaded from anywhere."""
    pictures = {picture.name: picture.inline for picture in page.figures}
    return render("report/page.html.j2", ("report/page.css",), pictures, page=page)


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


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _cases(study: Study) -> str:
    """What the bootstrap draws."""
    return "patients" if study.patients_known else "films (patients are unknown)"


def _headline_facts(study: Study) -> list[tuple[str, str]]:
    facts = [
        ("Arms compared", ", ".join(display(study, arm) for arm in study.arms)),
        ("Label fractions", ", ".join(percent(f) for f in sorted({row["fraction"] for row in study.cells}))),
        ("Test set", films_and_patients(study, study.tested, "splits", "test") + _other_source(study)),
        ("Made", moment(study.fact("created"))),
    ]
    return facts


def _other_source(study: Study) -> str:
    return f", of {shown(study.fact('test_store', 'source'))}" if study.external else ""


def _curve_note(study: Study) -> str:
    return (
        f"Lines: mean over draws. Bands and bars: {interval_name(study)} over test {_cases(study)}. Rings: "
        "the single "
        "draws of labels, a spread that the bands do not hold. The axis of labels is logarithmic; "
        "the panels of "
        "one target share their scale."
    )


def _difference_note(study: Study) -> str:
    return (
        "Each cell: AUROC of the arm / of the arm it is compared with, then the paired difference and its "
        f"{interval_name(study)}."
    )


def _all_numbers(study: Study) -> Section:
    tables = [("Cells (cells.csv)", cell_table(study))]
    if study.differences:
        tables.append(("Comparisons (differences.csv)", comparison_table(study)))
    return Section("numbers", "All numbers", tables=tables, folded=True)


def _data(study: Study) -> Section:
    known = study.fact("store", "patients_known")
    facts = [
        ("Source", shown(study.fact("store", "source"))),
        ("Store", shown(study.fact("store", "path_name"))),
        *([("Test films", _test_store(study))] if study.external else []),
        ("Phantom films", shown(study.fact("store", "phantom"))),
        ("Patient identifiers", NOT_RECORDED if known is None else "known" if known else "unknown"),
        ("Films in quarantine (unreadable, not used)", shown(study.fact("store", "quarantined"))),
        ("Split", shown(study.fact("store", "split_rule"))),
        ("Rows restricted to", shown(study.fact("settings", "where") or "no restriction")),
        ("Unit of the test", shown(study.fact("unit"))),
        ("Vote over the films of a unit", shown(study.fact("vote"))),
        ("Uncertain labels (-1)", shown(study.fact("uncertain"))),
        ("Blank labels", shown(study.fact("blank"))),
        ("Validation labels used", shown(study.fact("validation_labels"))),
    ]
    tables = [
        ("Splits", split_table(study)),
        ("Targets (films, unless patients are named)", target_table(study)),
        ("Labels at each fraction", budget_table(study)),
    ]
    return Section("data", "Data and split", tables=tables, facts=facts)


def _test_store(study: Study) -> str:
    source, name, rule = (study.fact("test_store", word) for word in ("source", "path_name", "split_rule"))
    return f"those of another store: {shown(source)} (store {shown(name)}; split: {shown(rule)})"


def _arms(study: Study) -> Section:
    transfer = transfer_table(study)
    tables = [("", arm_table(study)), *([("Films of source and target", transfer)] if transfer.rows else [])]
    return Section("arms", "Arms", tables=tables)


def _settings(study: Study) -> Section:
    text = study.settings_text
    if not text.strip() and (recorded := study.fact("settings")):
        text = yaml.safe_dump(recorded, sort_keys=False, allow_unicode=True)
    lines = [] if text.strip() else [f"Settings: {NOT_RECORDED}"]
    return Section("settings", "Settings", lines, code=text, folded=True)


def _warnings(study: Study) -> Section:
    recorded = study.fact("warnings")
    lines = [shown(line) for line in recorded] if isinstance(recorded, list) else []
    resamples = study.fact("undefined_resamples")
    if resamples is None:
        lines.append(f"Undefined resamples of the bootstrap: {NOT_RECORDED}.")
    elif resamples:
        lines.append(f"Undefined resamples of the bootstrap, counted and left out: {shown(resamples)}.")
    undefined = undefined_table(study)
    if not lines and not undefined.rows:
        lines = ["None."]
    tables: list[tuple[str, Table]] = [("Undefined, and why", undefined)] if undefined.rows else []
    return Section("warnings", "Warnings", lines, tables)


def _methods(study: Study) -> Section:
    replicates = shown(study.fact("replicates"))
    count = sum(row["low"] is not None for row in study.differences)
    lines = [
        "AUROC is the chance that a random positive case scores higher than a random negative one: "
        "0.5 is guessing, "
        "1 is perfect order. It is measured on test patients only.",
        f"Intervals: {interval_name(study)} by bootstrap over test {_cases(study)}, {replicates} resamples. "
        "In each "
        "resample the AUROC of every draw is computed and averaged over the draws.",
        "Differences are paired: both arms are measured on the same resamples, with the same draws "
        "of labels. An "
        "interval that includes 0 means that no difference was shown, not that there is none.",
        "What the intervals do not contain: what another draw of labels would change (the draws' standard "
        "deviation is given apart), what another pretraining of the same arm would change, and any change of "
        "hospital, scanner or labeller.",
        "A number that the data do not define (one class only, no test film) is called undefined and "
        "left out; it "
        "is never replaced.",
    ]
    if count > 1:
        lines.append(
            f"{count} comparisons stand on this page, without correction for their number; some "
            "intervals can be "
            f"expected to miss 0 by chance. The primary comparison is {_primary(study)}."
        )
    return Section("methods", "How to read this page", lines)


def _primary(study: Study) -> str:
    primary = study.fact("primary")
    if not isinstance(primary, dict):
        return NOT_RECORDED
    fraction = primary.get("fraction")
    share = percent(fraction) if isinstance(fraction, int | float) else NOT_RECORDED
    arm = primary.get("arm")
    name = display(study, arm) if isinstance(arm, str) else NOT_RECORDED
    return f"{shown(primary.get('target'))}, {shown(primary.get('mode'))}, {name}, {share} of the labels"


def _repeat(study: Study) -> Section:
    version: Any = study.fact("version")
    versions = version if isinstance(version, dict) else {"mococxr": version}
    lines = [f"{name} {shown(value)}" for name, value in versions.items()]
    lines.append(f"Study made: {moment(study.fact('created'))}")
    lines.append("This command repeats the study in its folder; trials that are done are skipped:")
    return Section(
        "repeat", "Versions, and how to repeat it", lines, code="mococxr study --config settings.yaml"
    )
