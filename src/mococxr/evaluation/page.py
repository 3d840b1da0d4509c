"""The page of an evaluation: what was measured, as tables, sentences and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mococxr.evaluation.figures import draw_curves, draw_model, draw_panels, measure_curves
from mococxr.files import atomic_write
from mococxr.measure.measures import Block, Resampling
from mococxr.metrics.subgroups import RATES
from mococxr.pages import format as fmt
from mococxr.pages.figures import Figure
from mococxr.pages.manuscript import write_figures, write_tables
from mococxr.pages.render import Alert, Column, Table, render, tabulate
from mococxr.store import Store

if TYPE_CHECKING:
    from mococxr.evaluation.gallery import Gallery
    from mococxr.evaluation.models import Judged
    from mococxr.settings import EvaluateSettings

CELLS = ((("true", "positives"), ("false", "negatives")), (("false", "positives"), ("true", "negatives")))
"""The counts of the confusion matrix: images with the finding, and without, by what they are called."""
SHARES = {
    "sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV", "accuracy": "accuracy",
    "f1": "F1",
}  # fmt: skip
RATIOS = {"lr_positive": "LR+", "lr_negative": "LR−", "youden": "Youden's J"}
CALIBRATION = {
    "brier": "Brier score", "ece": "calibration error", "slope": "slope (1 is perfect)",
    "intercept": "intercept (0 is perfect)", "observed_expected": "observed / expected positives (1 is perfect)",
}  # fmt: skip
METHODS = [
    "Labels are those of the store, read as the model's target reads them; images without one are left out and counted. Threshold and calibration are the model's own.",  # noqa: E501
    "AUROC: DeLong joined with MOVER over patients. Bands of the curves: at each place, the percentiles over resampled patients (vertical; they hold pointwise).",  # noqa: E501
    "Shares: Wilson's interval, widened where patients have several images. Predictive values at other prevalences: from sensitivity, specificity and their intervals, by Bayes' rule (Zou and Donner 2008); they hold where images with the finding, and those without, look as here.",  # noqa: E501
    "Nearest images: Euclidean distance of the features that the head sees, standardised; training images of other patients, labelled as the target reads them.",  # noqa: E501
]


def write_page(
    path: Path,
    judged: Sequence[Judged],
    galleries: Sequence[Gallery],
    result: Block,
    store: Store,
    settings: EvaluateSettings,
) -> None:
    """Write the page as one HTML file, last, and beside it its figures and tables (`pages.manuscript`)."""
    how = Resampling(settings.replicates, settings.seed, settings.level)
    groups = [(same, measure_curves(same, how)) for same in _by_target(judged)]
    drawn = [figure for same, curves in groups for figure in draw_curves(same, curves)]
    models = [_model(number, entry, each) for number, (entry, each) in enumerate(zip(judged, galleries, strict=True))]
    html = _to_html(judged, any(galleries), result, store, drawn, models)
    of_models = [figure for model in models for figure in model["figures"]]
    write_figures(path.parent, [*drawn, *draw_panels(groups), *of_models])
    write_tables(path.parent, _tables(judged, models))
    atomic_write(path, html)


def _tables(judged: Sequence[Judged], models: Sequence[dict[str, Any]]) -> dict[str, tuple[str, Table]]:
    """The tables of the page by file name, with captions."""
    tables = {"models": ("Performance", _side(judged))}
    captions = {
        "confusion": "confusion at the threshold",
        "rates": "rates at the threshold",
        "prevalences": "predictive values at other prevalences",
        "calibration": "calibration",
    }
    for number, model in enumerate(models):
        for name, caption in captions.items():
            if model[name] is not None:
                tables[f"{name}-{number}"] = (f"{model['name']}: {caption}", model[name])
        for i, (column, table) in enumerate(model["groups"]):
            tables[f"subgroups-{number}-{i}"] = (f"{model['name']}: by {column}", table)
    return tables


def _to_html(
    judged: Sequence[Judged], images: bool, result: Block, store: Store, curves: list[Figure], entries: list[Block]
) -> str:
    targets = list(dict.fromkeys(entry.block["label"] for entry in judged))
    models = list(dict.fromkeys(entry.answers.model_name for entry in judged))
    return render(
        "evaluation/page.html.j2",
        styles="evaluation/page.css",
        title=f"Evaluation of {', '.join(models)}",
        heading=", ".join(targets),
        eyebrow="MoCo-CXR · evaluation of " + ("a model" if len(models) == 1 else f"{len(models)} models"),
        lead=f"{', '.join(models)} on the {result['split']} images of {result['store']}",
        alerts=_alerts(store, result, images),
        facts=_facts(judged),
        cards=[(entry.name, entry.block["label"], _sentence(entry.block)) for entry in judged],
        side=_side(judged) if len(judged) > 1 else None,
        side_title="Side by side" if len(models) > 1 else "All targets",
        curves=curves,
        models=entries,
        notes=result["notes"],
        methods=METHODS,
    )


def _facts(judged: Sequence[Judged]) -> list[tuple[str, str]]:
    """Of the images that are judged; those of several targets stand in the table of all."""
    entry = judged[0]
    if entry.answers.several:
        return [("Targets", str(len(_by_target(judged)))), ("Images scored", f"{len(entry.table.known):,}")]
    return [
        ("Images judged", f"{entry.block['n']:,}"),
        ("Patients", f"{entry.block['patients']:,}"),
        ("Positive images", f"{entry.block['positives']:,} ({fmt.share(float(entry.labels.mean()))})"),
        ("Left out", ", ".join(f"{n:,} {name}" for name, n in entry.block["left_out"].items())),
    ]


def _by_target(judged: Sequence[Judged]) -> list[list[Judged]]:
    """Those whose curves share axes: of one target, where models have several."""
    if not judged[0].answers.several:
        return [list(judged)]
    names = dict.fromkeys(entry.answers.target.name for entry in judged)
    return [[entry for entry in judged if entry.answers.target.name == name] for name in names]


def _alerts(store: Store, result: Block, images: bool) -> list[Alert]:
    alerts = []
    if images:
        text = "Below are chest images of patients. Keep this file in the house. --no-gallery leaves them out."
        alerts.append(Alert("This page holds images", text))
    if store.manifest.get("synthetic"):
        alerts.append(Alert("Synthetic images", "They were drawn by a program: the numbers are no evidence."))
    if result["split"] != "test":
        text = f"Images of the split {result['split']} may have trained, calibrated or chosen what is judged here."
        alerts.append(Alert("Not test images", text))
    return alerts


def _sentence(block: Block) -> str:
    text = f"AUROC {fmt.interval(block['interval'], 'value')}"
    if point := block["operating_point"]:
        rates = (f"{name} {fmt.share_interval(point[name], 'value')}" for name in ("sensitivity", "specificity"))
        text += f"; at its threshold {' and '.join(rates)}"
    return f"{text}."


def _side(judged: Sequence[Judged]) -> Table:
    """The models beside each other, and each less the first."""

    def rate(name: str) -> Column:
        return lambda block: (
            fmt.DASH if not block["operating_point"] else fmt.share_interval(block["operating_point"][name], "value")
        )

    def less(block: Block) -> str:
        return fmt.interval(block["comparison"], "value", sign=True) if block["comparison"] else fmt.DASH

    several = judged[0].answers.several
    counts: dict[str, Column] = {
        "Target": "label",
        "Images": ("n", fmt.count),
        "Positive": ("positives", fmt.count),
        "Left out": lambda block: fmt.count(sum(block["left_out"].values())),
    }
    columns: dict[str, Column] = {
        "Model": "model",
        **(counts if several else {}),
        "AUROC": lambda block: fmt.interval(block["interval"], "value"),
        "Average precision": lambda block: fmt.interval(block["average_precision"], "value"),
        "Sensitivity": rate("sensitivity"),
        "Specificity": rate("specificity"),
        f"AUROC less {judged[0].answers.model_name}": less,
    }  # fmt: skip
    if not any(entry.block["comparison"] for entry in judged):
        columns.popitem()  # one model, or models with nothing in common
    return tabulate([{"model": entry.answers.model_name, **entry.block} for entry in judged], columns)


def _model(number: int, entry: Judged, gallery: Gallery) -> dict[str, Any]:
    """The rows of one model's sections; None where it has no threshold, or no calibration."""
    block, record = entry.block, entry.answers.record
    point, calibration = block["operating_point"], block["calibration"]
    return {
        "key": f"model-{number}",
        "name": entry.name,
        "figures": draw_model(number, entry),
        "confusion": _confusion(point) if point else None,
        "rates": _rates(point) if point else None,
        "threshold": f"Threshold {fmt.threshold(entry.threshold)} of the score."
        if point
        else record["threshold"]["reason"],
        "prevalences": _prevalences(entry) if point else None,
        "calibration": _calibration(calibration) if calibration and "brier" in calibration else None,
        "uncalibrated": record["calibration"]["reason"] or (calibration or {}).get("reason"),
        "groups": [(each["column"], _groups(each)) for each in block["subgroups"] if each["groups"]],
        "flagged": [line for each in block["subgroups"] for line in _flagged(each)],
        "gallery": gallery.parts,
        "maps": gallery.words,
    }


def _confusion(point: Block) -> Table:
    counts = [[f"{point[f'{kind}_{sign}']:,}" for kind, sign in cells] for cells in CELLS]
    rows = [["with the finding", *counts[0]], ["without it", *counts[1]]]
    return Table(["Images", "Called positive", "Called negative"], rows)


def _rates(point: Block) -> Table:
    shares = [[words, fmt.share_interval(point[name], "value")] for name, words in SHARES.items()]
    ratios = [[words, fmt.interval(point[name], "value")] for name, words in RATIOS.items()]
    return Table(["At the threshold", "Value (interval)"], [*shares, *ratios], 1)


def _prevalences(entry: Judged) -> Table:
    point = entry.block["operating_point"]
    columns: dict[str, Column] = {
        "Prevalence": ("prevalence", fmt.percent),
        "PPV": lambda block: fmt.share_interval(block["ppv"], "value"),
        "NPV": lambda block: fmt.share_interval(block["npv"], "value"),
    }
    return tabulate(
        point["at_prevalences"], columns, note=f"Here {fmt.share(float(entry.labels.mean()))} are positive."
    )


def _calibration(block: Block) -> Table:
    rows = [[words, fmt.interval(block[name], "value")] for name, words in CALIBRATION.items()]
    note = f"On so many images a perfect calibration would show an error of {fmt.number(block['ece_if_perfect'])}."
    return Table(["Calibrated probabilities", "Value (interval)"], rows, 1, note)


def _groups(block: Block) -> Table:
    columns: dict[str, Column] = {
        "Group": "name",
        "Images": ("rows", fmt.count),
        "Patients": ("patients", fmt.count),
        "Positive patients": ("positives", fmt.count),
        "AUROC": lambda group: fmt.interval(group["auroc"], "value"),
    }
    shares = [rate for rate in ("sensitivity", "specificity") if rate in block["rate_gaps"]]
    columns |= {rate.capitalize(): _share_of(rate) for rate in shares}
    if "observed_expected" in block["rate_gaps"]:
        columns["Observed / expected"] = lambda group: fmt.interval(group["observed_expected"], "value")
    return tabulate(block["groups"], columns, note="A group with fewer than 10 patients of a class has no numbers.")


def _share_of(rate: str) -> Column:
    return lambda group: fmt.share_interval(group[rate], "value")


def _flagged(block: Block) -> list[str]:
    """Gaps whose interval leaves 0 out, a sentence each."""
    gaps = {"AUROC": block["gaps"]} | {RATES[rate]: gaps for rate, gaps in block["rate_gaps"].items()}
    return [
        f"{block['column']} {gap['group']}: {name} {fmt.signed(gap['difference'])} ({fmt.signed(gap['low'])} to "
        f"{fmt.signed(gap['high'])}) beside {gap['against']}, p by Holm {fmt.p_value(gap['p_holm'])}."
        for name, each in gaps.items()
        for gap in each
        if gap["flagged"]
    ]
