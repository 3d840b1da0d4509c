"""The page of a reproduction: `tables/*.csv`, `figures/` and `index.html`, from the files of its studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from mococxr.files import atomic_write, write_csv
from mococxr.pages import format as fmt
from mococxr.pages.manuscript import write_figures
from mococxr.pages.render import Alert, IntervalBar, Table, interval_bar, render, tabulate
from mococxr.reproduction.compare import (
    ACROSS,
    DIFFERENCE,
    DONE,
    TABLES,
    UNDEFINED,
    Comparison,
    Group,
    PaperTable,
    read_comparison,
)
from mococxr.reproduction.data import PAPERS, PAPERS_TEST
from mococxr.reproduction.figures import MODES, NETWORKS, draw_curves, group_name
from mococxr.reproduction.recipe import TASKS, VARIANTS, cell_id
from mococxr.results import Row

DATASETS = {"chexpert": "CheXpert", "shenzhen": "Shenzhen"}
ARMS = {"moco": "MoCo", "imagenet": "ImageNet", DIFFERENCE: "Difference", ACROSS: "Difference"}
PAPER_COUNTS: dict[str, dict[str, Any]] = {
    "chexpert": PAPERS | {"test": "official", "test studies": 500, "positives": PAPERS_TEST},
    "shenzhen": {"rows": "65 % of 662", "test": "20 %", "positives": {}},
}
"""Counts of the paper's data: rows of `train.csv` and the test set of CheXpert; the images of Shenzhen."""
VARIANT_WORDS = {
    "lbfgs": "Closed-form linear head on frozen features (batch norm in eval mode) instead of the paper's epochs",
    "std": "Images divided by their standard deviation 0.29255 instead of its square 0.085585",
}
METHODS = (
    "Here: the mean AUROC over the label subsets, with the 95 % interval of a bootstrap over test patients in which "
    "all subsets and both arms are judged on the same resamples. Paper: as printed.",
    "“No overlap”: the two intervals are disjoint. Overlap is weak agreement: two numbers can overlap and differ.",
    "The printed intervals include neither the spread of the label subsets nor that of another pretraining; ours are "
    "made the same way. The interval that includes the subsets is shown where there are several.",
    "Printed average precision was read off a figure and has no interval.",
    "Not run and undefined are no numbers: nothing was put in their place.",
)


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
    compared = read_comparison(Path(out))
    frames = {table.name: compared.frame(table) for table in TABLES}
    curves = draw_curves(compared)
    styles = "reproduction/page.css"
    html = render("reproduction/page.html.j2", styles=styles, curves=curves, **_values(compared))
    for name, frame in frames.items():
        write_csv(compared.out / "tables" / f"{name}.csv", frame)
    write_figures(compared.out, [curve.figure for curve in curves])
    atomic_write(compared.out / "index.html", html)
    return compared.out / "index.html"


def _values(compared: Comparison) -> dict[str, Any]:
    """What the template shows, in its order."""
    record, dataset = compared.record, DATASETS[compared.dataset]
    kind = "synthetic training images laid out as" if record["synthetic"] else "training images of"
    synthetic = Alert(
        "Synthetic images",
        "Every image here was drawn by a program. The page shows that the software works; its numbers are neither "
        "evidence for the paper nor against it.",
    )
    variants = compared.variants()
    start = _start(compared)
    renamed = f"The arm called ImageNet in the tables is {start} in this run."
    return {
        "title": f"The paper's experiments on {dataset}, beside its printed numbers",
        "eyebrow": "MoCo-CXR · reproduction",
        "lead": f"{fmt.fact(record['data']['rows'])} {kind} {dataset}, beside the numbers printed in arXiv 2010.05352.",
        "alerts": [synthetic] if record["synthetic"] else [],
        "claims": [verdict(compared), *claims(compared)],
        "departures": tabulate(
            record["departures"], {"Setting": "setting", "The paper": "paper", "Here": "here"}, text=3
        ),
        "data": data_table(compared),
        "notes": [*([] if start == "ImageNet" else [renamed]), *record["notes"]],
        "sheets": [sheet(compared, table) for table in TABLES],
        "variant_lines": [*(_variant_line(name, variants) for name in VARIANTS), _subset_line(compared)],
        "variant_table": _variant_table(variants),
        "missing": missing_cells(compared),
        "runs": tabulate(
            record["pretraining"],
            {"Pretraining": "run", "Status": "status", "Reason": lambda run: run["reason"]},
            text=3,
        ),
        "machine": machine_facts(compared),
        "methods": _methods(compared),
        "studies": [(name, f"studies/{name}/report.html") for name in compared.studies],
    }


def _methods(compared: Comparison) -> list[str]:
    split = "The authors' split of Shenzhen had no seed and cannot be repeated; another split has other test images."
    return [*METHODS, *([] if compared.dataset == "chexpert" else [split])]


def _cell_rows(compared: Comparison) -> list[Row]:
    """The AUROC of every cell."""
    return [compared.row((c.task, c.backbone, c.mode), c.fraction, c.arm) for c in compared.cells]


def verdict(compared: Comparison) -> Row:
    """How many cells were run and how many of their intervals meet the printed ones."""
    rows = _cell_rows(compared)
    done, undefined = (sum(row["status"] == status for row in rows) for status in (DONE, UNDEFINED))
    overlaps = [row["intervals_overlap"] for row in rows if row["intervals_overlap"] is not None]
    sentence = f"Of {len(rows)} cells {done} {_be(done, 'was', 'were')} run"
    sentence += f", {undefined} {_be(undefined, 'is', 'are')} undefined. " if undefined else ". "
    if not overlaps:
        sentence += "No measured interval has a printed one to be compared with."
        return _claim("Cells", "none", "nothing to compare", sentence)
    chip = f"{sum(overlaps)} of {len(overlaps)} overlap"
    sentence += f"{sum(overlaps)} of {len(overlaps)} measured intervals overlap the printed ones."
    return _claim("Cells", "none", chip, sentence + _caution(compared))


def _be(count: int, singular: str, plural: str) -> str:
    return singular if count == 1 else plural


def _caution(compared: Comparison) -> str:
    if compared.record["synthetic"]:
        return " The images are synthetic, so neither agreement nor disagreement says anything about the paper."
    count = len(compared.record["departures"])
    differ = _be(count, "setting differs", "settings differ")
    return f" {count} {differ} from the paper's (below): read agreement and disagreement with that." if count else ""


def _claim(label: str, state: str, chip: str, sentence: str) -> Row:
    """A finding; `state`: gain, loss, none, undefined."""
    return {"label": label, "state": state, "chip": chip, "sentence": sentence}


def claims(compared: Comparison) -> list[Row]:
    """Whether MoCo is above ImageNet at the smallest fraction that was run, in each setting of the main task."""
    main = TASKS[compared.dataset][0]
    groups = dict.fromkeys((c.task, c.backbone, c.mode) for c in compared.cells if c.task == main)
    differences = ([compared.row(group, f, DIFFERENCE) for f in compared.fractions(group)] for group in groups)
    smallest = {
        group: next((row for row in rows if row["status"] == DONE), None)
        for group, rows in zip(groups, differences, strict=True)
    }
    return [_difference_claim(group, row, _start(compared)) for group, row in smallest.items() if row is not None]


def _difference_claim(group: Group, row: Row, start: str) -> Row:
    label, labels = group_name(group), f"With {fmt.percent(row['fraction'])} of the labels"
    printed = "the paper prints nothing here"
    if row["published"] is not None:
        ends = ("published_low", "published_high")
        printed = f"the paper prints {fmt.interval(row, 'published', sign=True, ends=ends)}"
    if row["low"] is None or row["high"] is None:
        return _claim(label, "undefined", "no interval", f"{labels}, no interval is defined here; {printed}.")
    figures = f"{fmt.interval(row, 'measured', sign=True, ends=('low', 'high'))}; {printed}."
    side, paper = _side(row["low"], row["high"]), _side(row["published_low"], row["published_high"])
    state, words = {
        "above": ("gain", f"MoCo is above {start}"),
        "below": ("loss", f"MoCo is below {start}"),
        "no difference": ("none", f"no difference between MoCo and {start} was shown"),
    }[side]
    if not paper:
        chip = side
    elif side == paper:
        chip = "no difference, as printed" if side == "no difference" else "reproduced"
    elif "no difference" in (side, paper):
        chip = "not reproduced" if side == "no difference" else f"{side}, not so in the paper"
    else:
        chip = "reversed"
    return _claim(label, state, chip, f"{labels}, {words}: {figures}")


def _side(low: float | None, high: float | None) -> str:
    """On which side of 0 an interval lies; empty where there is none."""
    if low is None or high is None:
        return ""
    return "above" if low > 0 else "below" if high < 0 else "no difference"


def _start(compared: Comparison) -> str:
    """What the arm without MoCo starts from."""
    init = compared.record["settings"]["init"]
    return "ImageNet" if init == "imagenet" else f"the start without MoCo ({init})"


def data_table(compared: Comparison) -> Table:
    """Images, label table and test set beside the paper's."""
    paper, data = PAPER_COUNTS[compared.dataset], dict(compared.record["data"])
    test = data.pop("test")
    rows: list[tuple[str, Any, Any]] = []
    if "table_is_papers" in data:
        same = "the same" if data.pop("table_is_papers") else "another table"
        rows.append(("Label table", "train.csv as released", same))
    for name, value in data.items():
        heading = "Training images" if name == "rows" else fmt.first_upper(name.replace("_", " "))
        rows.append((heading, paper.get(name, fmt.DASH), value))
    rows.append(("Test set", paper["test"], test["kind"]))
    rows.append(("Test studies", paper.get("test studies", fmt.DASH), test["studies"]))
    for task, number in test["positives"].items():
        rows.append((f"Test positives, {task}", paper["positives"].get(task, fmt.DASH), number))
    return Table(["", "The paper", "Here"], [[name, fmt.fact(a), fmt.fact(b)] for name, a, b in rows], 1)


def sheet(compared: Comparison, table: PaperTable) -> dict[str, Any]:
    """A table of the page: its groups of this run's dataset, and the reasons that its marks refer to."""
    groups = [group for group in table.groups if group[0] in TASKS[compared.dataset]]
    rows = [row for row in compared.rows(table) if row["task"] in TASKS[compared.dataset]]
    reasons = dict.fromkeys(row["reason"] for row in rows if row["status"] != DONE)
    marks = {reason: _letter(number) for number, reason in enumerate(reasons)}
    return {
        "name": table.name,
        "title": table.title,
        "blocks": [_block(compared, table, group, rows, marks) for group in groups],
        "reasons": [(mark, reason) for reason, mark in marks.items()],
        "ran": any(row["status"] == DONE for row in rows),
        "of_this_dataset": bool(groups),
    }


def _letter(number: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    head, tail = divmod(number, 26)
    return (_letter(head - 1) if head else "") + chr(97 + tail)


def _block(
    compared: Comparison, table: PaperTable, group: Group, rows: list[Row], marks: dict[str, str]
) -> dict[str, Any]:
    """A group of a table: a heading, its columns, and a row for each arm."""
    fractions = table.fractions or compared.fractions(group)
    members = {(row["arm"], row["fraction"]): row for row in rows if _group_of(row) == group}
    # one scale for all arms but the differences
    levels = [end for (arm, _), row in members.items() if not _is_difference(arm) for end in _ends(row)]
    gaps = [abs(end) for (arm, _), row in members.items() if _is_difference(arm) for end in _ends(row)]
    scale = (max(0.0, min(levels) - 0.01), min(1.0, max(levels) + 0.01)) if levels else (0.0, 1.0)
    widest = 1.05 * max(gaps, default=0.1)  # 0 in the middle, so that sides can be compared by eye
    lines = []
    for arm in table.arms:
        ends = (-widest, widest) if _is_difference(arm) else scale
        name = ARMS.get(arm) or f"MoCo, learning rate {arm.removeprefix('moco-lr')}"
        lines.append((name, [_place(members[arm, fraction], ends, marks) for fraction in fractions]))
    heading = group_name((*group[:2], "") if ACROSS in table.arms else group)
    return {"title": heading, "columns": [fmt.percent(f) for f in fractions], "rows": lines}


def _group_of(row: Row) -> Group:
    return row["task"], row["backbone"], row["mode"]


def _is_difference(arm: str) -> bool:
    return arm in (DIFFERENCE, ACROSS)


def _ends(row: Row) -> list[float]:
    names = ("measured", "low", "high", "published", "published_low", "published_high")
    return [row[name] for name in names if row[name] is not None]


def _place(row: Row, scale: tuple[float, float], marks: dict[str, str]) -> dict[str, Any]:
    """One place as the page shows it; `mark` refers to a reason below the table."""
    sign = _is_difference(row["arm"])
    text: dict[str, Any] = dict.fromkeys(("measured", "printed", "gap", "state", "off", "mark", "subsets", "bars"), "")
    if row["published"] is not None:
        printed = fmt.interval(row, "published", sign=sign, ends=("published_low", "published_high"))
        text["printed"] = ("about " if row["published_note"] else "") + printed
    if row["measured"] is None:
        return text | {"off": row["status"], "mark": marks[row["reason"]]}
    text["measured"] = fmt.interval(row, "measured", sign=sign, ends=("low", "high"))
    text["gap"] = "" if row["difference"] is None else fmt.signed(row["difference"])
    if row["intervals_overlap"] is not None:
        text["state"] = "overlap" if row["intervals_overlap"] else "no overlap"
    text["subsets"] = fmt.between(row, "low_total", "high_total") if sign else ""
    text["bars"] = _bars(row, scale, sign)
    return text


def _bars(row: Row, scale: tuple[float, float], sign: bool) -> dict[str, Any] | None:
    """Two intervals on one scale, measured above, printed below, and where 0 is."""

    def bar(*names: str) -> IntervalBar | None:
        start, middle, end = (row[name] for name in names)
        return None if None in (start, middle, end) else interval_bar(start, middle, end, 0.0, scale)

    measured, printed = bar("low", "measured", "high"), bar("published_low", "published", "published_high")
    return {"measured": measured, "printed": printed, "zero": measured.zero if sign else None} if measured else None


def _variant_line(name: str, variants: list[tuple[str, Row, Row]]) -> str:
    """What a sounder way changes, in a sentence."""
    members = [(paper, sounder) for variant, paper, sounder in variants if variant == name]
    members = [(paper, sounder) for paper, sounder in members if paper["measured"] is not None]
    moves = [b["measured"] - a["measured"] for a, b in members if not _is_difference(a["arm"])]
    if not moves:
        return f"{VARIANT_WORDS[name]}: not run (--variant {name})."
    low, high = fmt.signed(min(moves)), fmt.signed(max(moves))
    line = f"{VARIANT_WORDS[name]}: over {len(moves)} cells AUROC moves by {low} to {high}"
    for paper, sounder in [pair for pair in members if _is_difference(pair[0]["arm"])][:1]:
        where = f"{paper['task']}, {NETWORKS[paper['backbone']]}, {fmt.percent(paper['fraction'])}"
        before, after = (fmt.interval(row, "measured", sign=True, ends=("low", "high")) for row in (paper, sounder))
        line += f"; MoCo less ImageNet ({where}) goes from {before} to {after}"
    return line + "."


def _subset_line(compared: Comparison) -> str:
    heading = "Intervals that include the label subsets"
    groups = dict.fromkeys((c.task, c.backbone, c.mode) for c in compared.cells)
    rows = [compared.row(group, f, DIFFERENCE) for group in groups for f in compared.fractions(group)]
    rows = [row for row in rows if row["low_total"] is not None]
    clear = [row for row in rows if row["low"] is not None and (row["low"] > 0 or row["high"] < 0)]
    if not rows:
        return f"{heading}: not defined for any difference here (two subsets are needed)."
    lost = sum(row["low_total"] <= 0 <= row["high_total"] for row in clear)
    return (
        f"{heading}: of {len(clear)} differences whose interval excludes 0, {lost} no longer do ({len(rows)} "
        "differences have several subsets)."
    )


def _variant_table(variants: list[tuple[str, Row, Row]]) -> Table:
    """Every place measured in two ways."""

    def value(row: Row) -> str:
        form = fmt.signed if _is_difference(row["arm"]) else fmt.number
        return row["status"] if row["measured"] is None else form(row["measured"])

    def change(paper: Row, sounder: Row) -> str:
        return fmt.DASH if paper["measured"] is None else fmt.signed(sounder["measured"] - paper["measured"])

    columns = {
        "Variant": lambda v: v[0], "Task": lambda v: v[1]["task"], "Network": lambda v: NETWORKS[v[1]["backbone"]],
        "Mode": lambda v: MODES[v[1]["mode"]], "Arm": lambda v: ARMS.get(v[1]["arm"], v[1]["arm"]),
        "Labels": lambda v: fmt.percent(v[1]["fraction"]), "As the paper": lambda v: value(v[1]),
        "This way": lambda v: value(v[2]), "Change": lambda v: change(v[1], v[2]),
    }  # fmt: skip
    return tabulate(variants, columns, text=6)


def missing_cells(compared: Comparison) -> Table:
    """Cells without a number, joined by reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in _cell_rows(compared):
        if row["status"] != DONE:
            name = cell_id(*_group_of(row), row["fraction"], row["arm"])
            reasons.setdefault((row["status"], row["reason"]), []).append(name)
    rows = [[status, reason, str(len(ids)), ", ".join(ids)] for (status, reason), ids in reasons.items()]
    return Table(["Status", "Reason", "Cells", "Which"], rows, 4)


def machine_facts(compared: Comparison) -> list[tuple[str, str]]:
    """The machine, the time and the version."""
    facts = [
        (fmt.first_upper(name.replace("_", " ")), fmt.fact(value)) for name, value in compared.record["machine"].items()
    ]
    trials = [study.frames["trials"]["seconds"].drop_nulls() for study in compared.studies.values()]
    if trials:
        seconds = pl.concat(trials)
        facts.append(("Training on labels", f"{seconds.sum() / 3600:.2f} hours over {len(seconds):,} trials"))
    plan = compared.out / "plan.csv"
    if plan.is_file():
        table = pl.read_csv(plan, columns=["hours", "evaluation_hours"])
        training, scoring = (f"{table[name].sum():,.2f}" for name in table.columns)
        facts.append(("Last plan", f"{training} hours of training, {scoring} of evaluation (plan.csv)"))
    return [*facts, ("mococxr", fmt.fact(compared.record["version"]))]
