"""The command `report`: the tables of a study -> one self-contained HTML page, the same as Markdown, and figures.

`results` reads the folder, `headline` finds the sentence of each target, `rows` and `provenance` make the tables,
`manuscript` the paragraphs, `figures` draws, `body.j2` says what stands where. Nothing new is computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mococxr import console
from mococxr.files import atomic_write
from mococxr.pages import format as fmt
from mococxr.results import CELL_KEYS, StudyResults, read_results
from mococxr.trackers import open_tracker


def write_report(folder: Path) -> Path:
    """Write `report.html`, `report.md`, `figures/` and `tables/` (`pages.manuscript`) into the folder of a study.

    The same folder gives the same bytes: the page holds no clock time but those recorded by `study`.

    Returns:
        The path of `report.html`.

    Raises:
        InputError: a file is missing or damaged; nothing was written.
    """
    from mococxr.pages.manuscript import write_figures, write_tables
    from mococxr.pages.render import render
    from mococxr.reporting import figures as draw
    from mococxr.reporting.tables import manuscript_tables

    study = read_results(folder)  # all is read before anything is written
    curves, reliability, runs = draw.draw_curves(study), draw.draw_reliability(study), draw.draw_runs(study)
    calibrated, panels = [*reliability, *draw.draw_decisions(study)], draw.draw_panels(study)
    values = _values(study) | {"curves": curves, "calibrated": calibrated, "runs": runs, "panels": panels}
    tables = manuscript_tables(study, values["calibration"])
    # Before any file: an error leaves the old page.
    html, markdown = (render("reporting/body.j2", form, html=form == "html", **values) for form in ("html", "md"))
    drawn = [figure for by_target in curves.values() for part in by_target.values() for figure in part]
    write_figures(study.path, [*drawn, *calibrated, *runs, *panels])
    write_tables(study.path, tables)
    atomic_write(study.path / "report.md", markdown)
    atomic_write(study.path / "report.html", html)  # last: `folder.is_finished` takes it for the end of a study
    return study.path / "report.html"


def _values(study: StudyResults) -> dict[str, Any]:
    """What the template shows, but for figures; it asks `rows`, `provenance` and `manuscript` for the tables."""
    from mococxr.reporting import headline, manuscript, provenance, rows
    from mococxr.reporting.alerts import alerts
    from mococxr.reporting.calibration import calibration
    from mococxr.reporting.forecast import forecast

    verdicts = headline.verdicts(study)
    ends = [abs(end) for verdict in verdicts for over in verdict.over for end in over.interval]
    labels = [headline.arm_label(study, arm) for arm in study.values("arm")]
    heading = fmt.join_words(study.targets)
    source = f", of {fmt.fact(study.test_store['source'])}" if study.external else ""
    return {
        "study": study,
        "headline": headline,
        "rows": rows,
        "calibration": calibration(study),
        "forecast": forecast,
        "provenance": provenance,
        "manuscript": manuscript,
        "titles": manuscript.TITLES,
        "title": f"Label-efficiency study: {heading}",
        "heading": heading,
        "eyebrow": "MoCo-CXR · label-efficiency study",
        "lead": headline.subtitle(study),
        "alerts": alerts(study),
        "verdicts": verdicts,
        "reach": 1.05 * max([*ends, 0.01]),  # one scale for all verdicts; 0.01 where all ends are 0
        "arms": labels,
        "planned": [f"{target}: {plan['words']}" for target, plan in study.facts["planning"].items()],
        "facts": [
            ("Arms", ", ".join(labels)),
            ("Baseline", _baseline(study)),
            ("Share of the labels", ", ".join(map(fmt.percent, sorted(study.values("fraction"))))),
            ("Test set", headline.judged(study) + source),
            ("Made", fmt.time(study.facts["created"])),
        ],
        **_sentences(study),
    }


def _baseline(study: StudyResults) -> str:
    from mococxr.reporting.headline import arm_label, baseline_of

    arm = baseline_of(study)
    return f"none: {study.facts['baseline']['reason']}" if arm is None else arm_label(study, arm)


def _sentences(study: StudyResults) -> dict[str, str]:
    """What was done, for someone who meets such a page for the first time, and how figures and tables are read."""
    from mococxr.reporting.headline import MODES, arm_label, baseline_of, interval_name

    reference, baseline = study.facts["reference"], baseline_of(study)
    compared = f" The reference: {arm_label(study, reference)}." if reference else ""
    if baseline:
        compared = (
            f" Every arm is compared first with the baseline, fixed in advance: {arm_label(study, baseline)}, whose weights "
            "never saw an X-ray"
            + (f"; then with the reference, {arm_label(study, reference)}." if reference != baseline else ".")
        )
    how = "; ".join(MODES[mode].explained for mode in study.values("mode"))
    cases = "patients" if study.patients_known else "images (patients are unknown)"
    level = interval_name(study)
    return {
        "intro": (
            "Classifiers that start from different encoders (the arms) learn from the same labelled patients and are tested "
            f"on the same images; an encoder turns an image into numbers, its features.{compared} {fmt.first_upper(how)}. "
            "Which patients have labels is drawn at random, several times where they are few (label subsets). AUROC is the "
            "chance that an image with the finding scores higher than one without: 0.5 is chance level, 1 is perfect."
        ),
        "curve_note": (
            f"Lines: mean over label subsets. Bands and bars: {level} over test {cases}. Small rings: the single "
            "subsets. The axis of labels is logarithmic; the panels of one target share their scale."
        ),
        "difference_note": (
            f"Each cell: AUROC of the one arm / of the other, then the difference and its {level} over test "
            f"{cases}. Better and worse: the interval over all that was repeated (label subsets and pretraining runs too) "
            "leaves out 0."
        ),
    }


def run(settings: Any) -> None:
    """The command `report`: write the page of `settings.study` and say where it lies."""
    console.result(str(write_report(Path(settings.study))))


def report_study(study: Path) -> Path:
    """Write the page at the end of a study, and say where it is."""
    page = write_report(study)
    where = _track(study)
    console.say(f"report: {page}")
    if where:
        console.say(where)
    return page


def _track(study: Path) -> str:
    """Give tables and figures to the tracker of a study; returns where they are."""
    from mococxr.pages.manuscript import FIGURES

    results = read_results(study)
    settings = results.facts["settings"]
    tracker = open_tracker(settings.get("tracker", "none"), study, settings)
    for row in results.cells:
        names = (row["target"], row["mode"], row["arm"])
        if row["auroc"] is not None:  # a curve over the labelled images, in steps of one
            images = max(trial["train_images"] for trial in results.rows("trials", **{k: row[k] for k in CELL_KEYS}))
            tracker.scalars({f"auroc/{'/'.join(names)}": row["auroc"]}, images)
    for name, frame in results.frames.items():
        if len(frame) and name != "errors":  # it names images: it stays in the house
            tracker.table(name, frame)
    for png in sorted((study / FIGURES).glob("*.png")):
        tracker.image(png.stem, png)
    return tracker.close()
