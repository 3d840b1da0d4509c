"""What the page says in sentences: the verdict by rule, the data beside the paper's, the sounder ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from mococxr.reporting.banners import Banner
from mococxr.reporting.tables import Table
from mococxr.reporting.words import NOT_RECORDED, percent, plain, shown, signed
from mococxr.reproduction.cells import SHENZHEN_TASK
from mococxr.reproduction.data import PAPERS, PAPERS_TEST
from mococxr.reproduction.page_results import (
    DIFFERENCE,
    DONE,
    NOT_RUN,
    UNDEFINED,
    Entry,
    Place,
    Results,
    Variant,
)
from mococxr.reproduction.page_tables import ARMS, BACKBONES, WAYS, group_name

PAPER_COUNTS: dict[str, dict[str, Any]] = {
    "chexpert": PAPERS | {"test studies": 500, "positives": PAPERS_TEST},
    "shenzhen": {"rows": "65 % of 662", "positives": {}},
}
"""Counts of the paper's data: rows of `train.csv` and the test set of CheXpert; the images of Shenzhen."""
DATASETS = {"chexpert": "CheXpert", "shenzhen": "Shenzhen"}


@dataclass(frozen=True)
class Claim:
    """One finding. `state`: gain, loss, none, undefined."""

    label: str
    state: str
    chip: str
    sentence: str


def cell_entries(results: Results) -> list[Entry]:
    """The AUROC of every cell."""
    return [results.entry(Place(c.task, c.backbone, c.mode, c.fraction, c.arm)) for c in results.cells]


def verdict(results: Results) -> Claim:
    """How many cells were run and how many of their intervals meet the printed ones."""
    entries = cell_entries(results)
    count = {state: sum(entry.status == state for entry in entries) for state in (DONE, NOT_RUN, UNDEFINED)}
    both = [entry.overlap for entry in entries if entry.overlap is not None]
    lost = (
        f", {count[UNDEFINED]} {'is' if count[UNDEFINED] == 1 else 'are'} undefined"
        if count[UNDEFINED]
        else ""
    )
    sentence = f"Of {len(entries)} cells {count[DONE]} {_were(count[DONE])} run{lost}. "
    if not both:
        return Claim(
            "Cells", "none", "nothing to compare", sentence + "No interval stands beside a printed one."
        )
    sentence += f"{sum(both)} of {len(both)} measured intervals overlap the printed ones."
    return Claim("Cells", "none", f"{sum(both)} of {len(both)} overlap", sentence + _with_care(results))


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _with_care(results: Results) -> str:
    number = len(results.record.get("departures") or [])
    if results.phantom:
        return (
            " The images are phantoms, so neither agreement nor disagreement says anything about the paper."
        )
    if number:
        return (
            f" {number} {'setting differs' if number == 1 else 'settings differ'} from the paper's (below): "
            "agreement and disagreement are to be read with that."
        )
    return ""


def claims(results: Results) -> list[Claim]:
    """Whether MoCo is above ImageNet at the smallest share that was run, for the main task's four settings."""
    found = []
    groups = dict.fromkeys(
        (c.task, c.backbone, c.mode) for c in results.cells if c.task == results.cells[0].task
    )
    for group in groups:
        entries = [results.entry(Place(*group, f, DIFFERENCE)) for f in results.fractions(group)]
        done = next((entry for entry in entries if entry.status == DONE), None)
        if done is not None:
            found.append(_claim(done, _start(results)))
    return found


def _claim(entry: Entry, start: str) -> Claim:
    place, here, there = entry.place, entry.here, entry.there
    label = group_name(place.group)
    printed = "the paper prints nothing here" if there is None else f"the paper prints {_figures(there)}"
    share = f"With {percent(place.fraction)} of the labels"
    if here is None or here.low is None or here.high is None:
        return Claim(label, "undefined", "no interval", f"{share}, no interval is defined here; {printed}.")
    figures = f"{_figures(here)}; {printed}."
    if here.low > 0:
        return Claim(label, "gain", "the claim holds here", f"{share}, MoCo is above {start}: {figures}")
    if here.high < 0:
        return Claim(label, "loss", "the claim fails here", f"{share}, MoCo is below {start}: {figures}")
    text = f"{share}, no difference between MoCo and {start} was shown: {figures}"
    return Claim(label, "none", "not shown here", text)


def _figures(number: Any) -> str:
    within = "" if number.low is None else f" ({plain(number.low)}, {plain(number.high)})"
    return signed(number.value) + within


def banners(results: Results) -> list[Banner]:
    """What must be known before any number is read."""
    found = []
    if results.phantom:
        text = "Every image here was drawn by a program. The page shows that the machinery works; its numbers are "
        found.append(Banner("Phantom images", text + "neither evidence for the paper nor against it."))
    return found


def notes(results: Results) -> list[str]:
    """What stands under the data: the run's own notes, and what the arm called ImageNet is here."""
    start = _start(results)
    said = [] if start == "ImageNet" else [f"The arm called ImageNet in the tables is {start} in this run."]
    return [*said, *(shown(note) for note in results.record.get("notes") or [])]


def _start(results: Results) -> str:
    """What the arm without MoCo starts from."""
    init = (results.record.get("settings") or {}).get("init", "imagenet")
    return "ImageNet" if init == "imagenet" else f"the start without MoCo ({init})"


def departures(results: Results) -> Table:
    """The settings that differ from the paper's."""
    rows = [
        [shown(d.get("setting")), shown(d.get("paper")), shown(d.get("here"))]
        for d in results.record.get("departures") or []
    ]
    return Table(["Setting", "The paper", "Here"], rows, 3)


def data_table(results: Results) -> Table:
    """Images, label table and test set beside the paper's."""
    paper, data = PAPER_COUNTS[results.dataset], dict(results.record.get("data") or {})
    test = data.pop("test", None) or {}
    rows = []
    if "table_is_papers" in data:
        is_papers = data.pop("table_is_papers")
        rows.append(["Label table", "train.csv as released", "the same" if is_papers else "another table"])
    for name, value in data.items():
        words = "Training images" if name == "rows" else name.replace("_", " ").capitalize()
        rows.append([words, shown(paper.get(name, "–")), shown(value)])
    if isinstance(test, dict):
        rows.append(
            ["Test set", "official" if results.dataset == "chexpert" else "20 %", shown(test.get("kind"))]
        )
        if "studies" in test:
            rows.append(["Test studies", shown(paper.get("test studies", "–")), shown(test["studies"])])
        positives = test.get("positives") or {}
        known = paper["positives"]
        for task, number in positives.items() if isinstance(positives, dict) else ():
            printed = known.get(task) if isinstance(known, dict) else None
            rows.append(
                [f"Test positives, {task}", "–" if printed is None else shown(printed), shown(number)]
            )
    return Table(["", "The paper", "Here"], rows, 3)


VARIANT_WORDS = {
    "solved": "Solved linear head on frozen features (batch norm in eval mode) instead of the paper's epochs",
    "std": "Images divided by their standard deviation 0.29255 instead of its square 0.085585",
}


def variant_lines(results: Results, found: list[Variant]) -> list[str]:
    """What each sounder way changes, in a sentence each."""
    lines = []
    for name, words in VARIANT_WORDS.items():
        mine = [v for v in found if v.name == name and v.paper.here is not None]
        levels = [v for v in mine if v.paper.place.arm != DIFFERENCE]
        if not levels:
            lines.append(f"{words}: not run (--variant {name}).")
            continue
        moves = [v.here.value - v.paper.here.value for v in levels if v.paper.here is not None]
        line = f"{words}: over {len(moves)} cells AUROC moves by {signed(min(moves))} to {signed(max(moves))}"
        first = next((v for v in mine if v.paper.place.arm == DIFFERENCE), None)
        if first is not None and first.paper.here is not None:
            place = first.paper.place
            line += (
                f"; MoCo less ImageNet ({place.task}, {BACKBONES[place.backbone]}, {percent(place.fraction)}) "
                f"goes from {_figures(first.paper.here)} to {_figures(first.here)}"
            )
        lines.append(line + ".")
    return [*lines, _draw_line(results)]


def _draw_line(results: Results) -> str:
    words = "Intervals in which the draws of labels are resampled too"
    groups = dict.fromkeys((c.task, c.backbone, c.mode) for c in results.cells)
    entries = [results.entry(Place(*g, f, DIFFERENCE)) for g in groups for f in results.fractions(g)]
    numbers = [entry.here for entry in entries if entry.here is not None and entry.here.low_draws is not None]
    clear = [n for n in numbers if n.low is not None and n.high is not None and (n.low > 0 or n.high < 0)]
    if not numbers:
        return f"{words}: not defined for any difference here (it takes two draws)."
    lost = [n for n in clear if (n.low_draws or 0) <= 0 <= (n.high_draws or 0)]
    return (
        f"{words}: of {len(clear)} differences whose interval leaves out 0, {len(lost)} no longer do "
        f"({len(numbers)} differences have draws to resample)."
    )


def variant_table(found: list[Variant]) -> Table:
    """Every place measured in two ways."""
    rows = []
    for variant in found:
        place, here = variant.paper.place, variant.paper.here
        number = signed if place.arm == DIFFERENCE else plain
        rows.append([
            variant.name, place.task, BACKBONES.get(place.backbone, place.backbone), WAYS[place.mode],
            ARMS.get(place.arm, place.arm), percent(place.fraction),
            variant.paper.status if here is None else number(here.value), number(variant.here.value),
            "–" if here is None else signed(variant.here.value - here.value),
        ])  # fmt: skip
    head = ["Way", "Task", "Backbone", "Mode", "Arm", "Labels", "As the paper", "This way", "Change"]
    return Table(head, rows, 6)


def missing_cells(results: Results) -> Table:
    """Cells without a number, joined by reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell, entry in zip(results.cells, cell_entries(results), strict=True):
        if entry.status != DONE:
            reasons.setdefault((entry.status, entry.reason), []).append(cell.id)
    rows = [[status, reason, str(len(ids)), ", ".join(ids)] for (status, reason), ids in reasons.items()]
    return Table(["", "Reason", "Cells", "Which"], rows, 4)


def run_table(results: Results) -> Table:
    """The pretraining runs and how far they are."""
    runs = results.record.get("pretraining") or []
    rows = [[shown(run.get("run")), shown(run.get("status")), str(run.get("reason") or "")] for run in runs]
    return Table(["Pretraining", "", "Reason"], rows, 3)


def subtitle(results: Results) -> str:
    """What was repeated, on what."""
    kind = "phantom training images laid out as" if results.phantom else "training images of"
    rows = shown((results.record.get("data") or {}).get("rows"))
    rows = "An unrecorded number of" if rows == NOT_RECORDED else rows
    return f"{rows} {kind} {DATASETS[results.dataset]}, beside the numbers printed in arXiv 2010.05352."


def machine_facts(results: Results) -> list[tuple[str, str]]:
    """The machine, the time and the version."""
    machine = results.record.get("machine")
    facts = [(name.replace("_", " ").capitalize(), shown(value)) for name, value in (machine or {}).items()]
    seconds = [t.get("seconds") for study in results.studies.values() for t in study.trials]
    known = [float(value) for value in seconds if value not in (None, "")]
    if known:
        facts.append(("Training on labels", f"{sum(known) / 3600:.2f} hours over {len(known):,} trials"))
    if (plan := results.out / "plan.csv").is_file():
        table = pl.read_csv(plan, columns=["hours", "evaluation_hours"])
        training, scoring = (f"{table[name].sum():,.2f}" for name in table.columns)
        facts.append(
            ("Plan of the last call", f"{training} hours of training, {scoring} of scoring (plan.csv)")
        )
    return [*facts, ("mococxr", shown(results.record.get("version")))]


def methods(results: Results) -> list[str]:
    """How to read the page."""
    split = "" if results.dataset == "chexpert" else (
        f" The authors' split of {DATASETS['shenzhen']} ({SHENZHEN_TASK.lower()}) had no seed and cannot be repeated; "
        "another split has other test images."
    )  # fmt: skip
    return [
        "Here: the mean AUROC over the draws of labels, with the 95 % interval of a bootstrap over test patients "
        "in which all draws and both arms are judged on the same resamples. Paper: as printed.",
        "Apart says that the two intervals have no point in common. Overlap is a weak agreement: two numbers can "
        "overlap and differ.",
        "The printed intervals hold neither the spread of the draws nor that of another pretraining; ours are made "
        "the same way. The interval with the draws stands beside it where there are several." + split,
        "Printed average precision was read off a figure and has no interval.",
        "Not run and undefined are no numbers: nothing was put in their place.",
    ]
