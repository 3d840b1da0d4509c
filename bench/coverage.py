"""Do the intervals hold what they say? Simulated studies with a known answer: python bench/coverage.py [--seconds 600]

Scores are binormal with a random effect of the patient; the true AUROC is a closed form, because an image of a positive
and an image of a negative belong to different patients. The parts:

1. `interval`: 95 % intervals of one AUROC over patients, prevalence, images a patient and AUROC.
2. `draws`: intervals of the difference of two arms where draws of labels differ too.
3. `paired`: how often the paired test finds a difference, where there is none and where there is one.
4. `few`: intervals of a difference with few positives and AUROC near 1.
5. `margin`: how often a loss as large as the margin is called "not worse" (one-sided 2.5 %), in the same cells.
6. `gap`: how often the gap of a small group to a large one with the same AUROC is flagged.
7. `calibration`: intervals of Brier score, calibration error, slope, intercept, and of sensitivity and specificity at a
   threshold, for probabilities that are right (slope 1, shift 0), too extreme or too mild, and wrong by a shift.
8. `rates`: how often the gap of a small group in sensitivity, specificity or observed by expected is flagged, where there is
   none; probabilities are right, and patients may have several images.
9. `use`: intervals of likelihood ratios, observed by expected, net benefit and the smooth reliability curve, in the cells of
   `calibration` with 100 and 400 patients.
10. `reader`: intervals of the model's sensitivity at the reader's specificity and of that less the reader's; the two are
    taken in by the same images.

A cell that is done stands in OUT/cells.jsonl and is not done again. When all cells of a part are done, its table is
written into docs/statistics.md; until then it is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtr, ndtri

from mococxr import metrics
from mococxr.errors import UndefinedError

Cell = dict[str, Any]
Found = dict[str, tuple[float, float]]
PAGE = Path(__file__).resolve().parent.parent / "docs/statistics.md"
FEW = (
    (10, 90, 0.99, 0.99), (10, 90, 0.99, 0.92), (10, 190, 0.97, 0.99), (12, 60, 0.99, 0.92), (15, 185, 0.99, 0.92),
    (30, 300, 0.99, 0.92), (50, 450, 0.99, 0.92), (15, 185, 0.85, 0.75), (100, 300, 0.85, 0.80),
)  # fmt: skip
"""Positives, negatives, and the two AUROC; their scores have the correlation 0.8 inside a class."""
SHARED = 0.5
"""Share of a score's variance that belongs to the patient."""


def cells() -> list[Cell]:
    """All cells, cheap ones first."""
    alone = product((50, 200, 1000, 5000), (0.5, 0.25, 0.1, 0.05, 0.02), (1, 5), (0.75, 0.92))
    found: list[Cell] = [
        {"part": "interval", "patients": n, "prevalence": p, "images": f, "auroc": a} for n, p, f, a in alone
    ]
    found += [
        {"part": "draws", "patients": n, "draws": d, "spread": s}
        for n, d, s in product((200, 1000), (3, 5, 10), (0.0, 0.3))
    ]
    found += [
        {"part": "paired", "patients": n, "prevalence": p, "images": f, "difference": d}
        for n, p, f, d in product((100, 200, 1000), (0.5, 0.25), (1, 5), (0.0, 0.05))
        if round(n * p) >= 50
    ]
    names = ("positives", "negatives", "auroc", "against")
    found += [{"part": part} | dict(zip(names, cell, strict=True)) for part in ("few", "margin") for cell in FEW]
    found += [
        {"part": "reader", "patients": n, "prevalence": p, "images": f, "specificity": s}
        for (n, p), f, s in product(((100, 0.3), (400, 0.15)), (1, 5), (0.7, 0.9))
    ]
    found += [{"part": "rates", "patients": n, "images": f} for n, f in product((60, 150, 500), (1, 5))]
    groups = ((10, 40, 0.95), (15, 60, 0.95), (25, 100, 0.95), (10, 40, 0.85), (200, 800, 0.85))
    found += [{"part": "gap", "positives": p, "negatives": n, "auroc": a} for p, n, a in groups]
    sizes, lines = ((100, 0.2), (250, 0.1), (400, 0.3), (1000, 0.1)), ((1.0, 0.0), (0.6, 0.3), (1.6, -0.5))
    return found + [
        {"part": part, "patients": n, "prevalence": p, "images": f, "slope": b, "shift": a}
        for part, (n, p), f, (b, a) in product(("calibration", "use"), sizes, (1, 5), lines)
        if part == "calibration" or n in (100, 400)
    ]


def study(cell: Cell, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of the patients' images (N,), patients (N,), and their share of the scores (N,)."""
    count = cell["patients"]
    sick = np.zeros(count, dtype=int)
    sick[: round(count * cell.get("prevalence", 0.5))] = 1
    images = rng.integers(1, cell.get("images", 1) + 1, count)
    patients = np.repeat(np.arange(count), images)
    return sick[patients], patients, rng.normal(size=count)[patients]


def scored(labels: np.ndarray, own: np.ndarray, area: float, rng: np.random.Generator) -> np.ndarray:
    noise = np.sqrt(SHARED) * own + np.sqrt(1 - SHARED) * rng.normal(size=labels.size)
    return noise + np.sqrt(2) * ndtri(area) * labels


def one_interval(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:
    """Every interval of the AUROC of one simulated study, and the truth; without replicates those by formula."""
    labels, patients, own = study(cell, rng)
    scores = scored(labels, own, cell["auroc"], rng)
    seed = int(rng.integers(1 << 31))
    formulas: dict[str, Callable[[], Any]] = {
        "default": lambda: metrics.auroc_interval(labels, scores, patients),
        "DeLong, images": lambda: metrics.delong_interval(labels, scores),
    }
    if not replicates:
        return ends(formulas), cell["auroc"]
    by_patient = metrics.bootstrap(labels, scores[None], patients, replicates, seed)[0]
    by_image = metrics.bootstrap(labels, scores[None], np.arange(labels.size), replicates, seed)[0]
    point = metrics.auroc(labels, scores)

    def bca() -> metrics.Estimate:
        left_out = metrics.jackknife(labels, scores[None], patients)[0]
        return metrics.interval(by_patient, point, method="bca", left_out=left_out)

    ways = {
        **formulas,
        "percentile, images": lambda: metrics.interval(by_image, point),
        "percentile, patients": lambda: metrics.interval(by_patient, point),
        "BCa, patients": bca,
    }
    return ends(ways), cell["auroc"]


def one_of_draws(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:
    """Intervals of the mean difference of two arms over draws of labels; a draw moves both arms and each alone."""
    labels, patients, own = study(cell, rng)
    spread, count = cell["spread"], cell["draws"]
    common = rng.normal(size=count) * spread / np.sqrt(2)
    trials, truths = [], []
    seed = int(rng.integers(1 << 31))
    for distance in (1.2, 1.0):
        moved = distance + common + rng.normal(size=count) * spread / np.sqrt(2)
        noise = np.sqrt(SHARED) * own + np.sqrt(1 - SHARED) * rng.normal(size=(count, labels.size))
        scores = noise + moved[:, None] * labels
        found = metrics.bootstrap(labels, scores, patients, replicates, seed)
        trials.append(metrics.Trials(range(count), [metrics.auroc(labels, row) for row in scores], found))
        truths.append(float(ndtr(distance / np.sqrt(2 + spread**2))))
    arm, reference = trials
    gaps, moved_gaps = (np.subtract(arm.points, reference.points), np.subtract(arm.replicates, reference.replicates))
    ways: dict[str, Callable[[], Any]] = {
        "patients only (paper)": lambda: metrics.paired_differences(arm, reference),
        "patients and draws, bootstrap": lambda: draws_anew(gaps, moved_gaps, seed),
        "random effects, t": lambda: metrics.variance_split(range(count), [0] * count, gaps, moved_gaps),
    }
    return ends(ways), truths[0] - truths[1]


def draws_anew(gaps_D: Any, gaps_DB: Any, seed: int) -> metrics.Estimate:
    """The interval of a mean over draws in which the draws are resampled too, as many as there are.

    D draws show about (D - 1) / D of their variance only, so it is rather short where they are few.
    """
    count, replicates = gaps_DB.shape
    chosen_BD = np.random.default_rng(seed).integers(0, count, size=(replicates, count))
    drawn_BD = np.take_along_axis(gaps_DB.T, chosen_BD, axis=1)
    return metrics.interval(drawn_BD.mean(axis=1), float(np.mean(gaps_D)))


def one_paired(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:
    """Intervals of a paired difference, held against 0: what lies outside is a difference found."""
    labels, patients, own = study(cell, rng)
    # A patient is hard or easy for both classifiers, and for each alone.
    a, b = (
        scored(labels, np.sqrt(0.5) * (own + rng.normal(size=cell["patients"])[patients]), area, rng)
        for area in (0.8 + cell["difference"], 0.8)
    )
    seed = int(rng.integers(1 << 31))
    found = metrics.bootstrap(labels, [a, b], patients, replicates, seed)
    point = metrics.auroc(labels, a) - metrics.auroc(labels, b)
    ways: dict[str, Callable[[], Any]] = {
        "DeLong, images": lambda: metrics.clustered_paired(labels, a, b).delong,
        "DeLong, patients": lambda: metrics.clustered_paired(labels, a, b, patients).delong,
        "percentile, patients": lambda: metrics.interval(found[0] - found[1], point),
    }
    return ends(ways), 0.0


def pair_of(cell: Cell, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and the scores of two classifiers, an image a patient."""
    labels = np.repeat([1, 0], [cell["positives"], cell["negatives"]])
    shared, noise = rng.normal(size=labels.size), rng.normal(size=(2, labels.size))
    areas = np.array([[cell["auroc"]], [cell["against"]]])
    a, b = np.sqrt(0.8) * shared + np.sqrt(0.2) * noise + np.sqrt(2) * ndtri(areas) * labels
    return labels, a, b


def one_of_few(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:  # noqa: ARG001
    """Intervals of a difference of AUROC where a class is small."""
    found = metrics.clustered_paired(*pair_of(cell, rng))
    plain = found.delong or found
    return {"default": (found.low, found.high), "DeLong": (plain.low, plain.high)}, cell["auroc"] - cell["against"]


def one_margin(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:  # noqa: ARG001
    """One-sided intervals of worse less better, against a margin as large as the loss; without one, 0.02."""
    labels, a, b = pair_of(cell, rng)
    loss = cell["auroc"] - cell["against"]
    found = metrics.clustered_paired(labels, b, a) if loss > 0 else metrics.clustered_paired(labels, a, b)
    plain = found.delong or found
    return {"default": (found.low, np.inf), "DeLong": (plain.low, np.inf)}, -abs(loss)


def one_gap(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:
    """Intervals of the gap between a small group and one of 200 positives and 800 negatives."""
    labels = np.repeat([1, 0, 1, 0], [cell["positives"], cell["negatives"], 200, 800])
    small = np.arange(labels.size) < cell["positives"] + cell["negatives"]
    scores = rng.normal(size=labels.size) + np.sqrt(2) * ndtri(cell["auroc"]) * labels
    gap = metrics.subgroups(labels, scores, np.where(small, "small", "large")).gaps[0]
    drawn = metrics.patient_resamples(np.arange(labels.size), replicates, int(rng.integers(1 << 31)))
    large_B, small_B = (
        metrics.resampled(metrics.auroc_measure, labels, scores[None], drawn, rows)[0] for rows in (~small, small)
    )
    plain = metrics.interval(small_B - large_B, 0.0)
    return {"default": (gap.low, gap.high), "percentile": (plain.low, plain.high)}, 0.0


BENEFIT_AT = (0.1, 0.4)
SPREAD = 1.5
"""Standard deviation of the logits of the part `calibration`; half of their variance belongs to the patient."""


@cache
def calibrated_truth(prevalence: float, slope: float, shift: float) -> dict[str, float]:
    """What holds of all patients, by summing over the logits, and the mean of the logits that gives the prevalence."""
    z = np.linspace(-8, 8, 100_001)
    weights = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()

    def chance(mean: float) -> np.ndarray:
        return expit(shift + slope * (mean + SPREAD * z))

    mean = brentq(lambda mean: weights @ chance(mean) - prevalence, -20, 20)
    said, right = expit(mean + SPREAD * z), chance(mean)
    tenths = np.split(weights * (right - said), np.searchsorted(z, ndtri(np.arange(1, 10) / 10)))
    called = z >= 0.8
    return {
        "mean": mean,
        "Brier": float(weights @ (right * (1 - right) + (right - said) ** 2)),
        "ECE": float(sum(abs(part.sum()) for part in tenths)),
        "slope": slope,
        "intercept": brentq(lambda a: weights @ expit(a + mean + SPREAD * z) - prevalence, -20, 20),
        "sensitivity": float(weights[called] @ right[called] / prevalence),
        "specificity": float(weights[~called] @ (1 - right[~called]) / (1 - prevalence)),
        "O/E": prevalence / float(weights @ said),
        **{
            f"net benefit at {at:g}": float(weights @ ((said >= at) * (right - at / (1 - at) * (1 - right))))
            for at in BENEFIT_AT
        },
        "curve at 0.2": float(expit(shift + slope * logit(0.2))),
    }


def one_calibration(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:
    """Each interval less its own truth. The images of a patient are positive by one random number."""
    truth = calibrated_truth(cell["prevalence"], cell["slope"], cell["shift"])
    labels, logits, patients = drawn(cell, rng)
    seed = int(rng.integers(1 << 31))
    found = metrics.calibration(labels, expit(logits), patients, replicates=replicates, seed=seed)
    threshold = truth["mean"] + SPREAD * 0.8
    point = metrics.operating_point(labels, logits, threshold, patients)
    numbers = {"Brier": found.brier, "ECE": found.ece, "slope": found.slope, "intercept": found.intercept}
    numbers |= {"sensitivity": point.sensitivity, "specificity": point.specificity}
    return beside(numbers, truth), 0.0


def drawn(cell: Cell, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, logits of the probabilities and patients of one study of the parts that begin with `calibration`."""
    mean = calibrated_truth(cell["prevalence"], cell["slope"], cell["shift"])["mean"]
    patients = np.repeat(np.arange(cell["patients"]), rng.integers(1, cell["images"] + 1, cell["patients"]))
    own, luck = rng.normal(size=cell["patients"])[patients], rng.random(cell["patients"])[patients]
    z = np.sqrt(SHARED) * own + np.sqrt(1 - SHARED) * rng.normal(size=patients.size)
    logits = mean + SPREAD * z
    return (luck < expit(cell["shift"] + cell["slope"] * logits)).astype(int), logits, patients


def beside(numbers: dict[str, Any], truth: dict[str, float]) -> Found:
    """Each interval less its own truth."""
    return {
        name: (np.nan, np.nan)
        if made is None or made.low is None
        else (made.low - truth[name], made.high - truth[name])
        for name, made in numbers.items()
    }


def one_of_use(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:  # noqa: ARG001
    """Each interval less its own truth: likelihood ratios, O/E, net benefit, one point of the smooth curve."""
    truth = dict(calibrated_truth(cell["prevalence"], cell["slope"], cell["shift"]))
    labels, logits, patients = drawn(cell, rng)
    point = metrics.operating_point(labels, logits, truth["mean"] + SPREAD * 0.8, patients)
    p = expit(logits)
    numbers: dict[str, Any] = {"LR+": point.lr_positive, "LR-": point.lr_negative}
    numbers["O/E"] = metrics.observed_expected(labels, p, patients)
    for made in metrics.net_benefit(labels, p, BENEFIT_AT, patients):
        numbers[f"net benefit at {made.threshold:g}"] = made.model
    try:
        curve = metrics.smooth_calibration(labels, p, patients, points=1001)
        numbers["curve at 0.2"] = min(curve, key=lambda made: abs(made.probability - 0.2))
    except UndefinedError:
        numbers["curve at 0.2"] = None
    truth["LR+"] = truth["sensitivity"] / (1 - truth["specificity"])
    truth["LR-"] = (1 - truth["sensitivity"]) / truth["specificity"]
    return beside(numbers, truth), 0.0


def one_of_rates(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:  # noqa: ARG001
    """Intervals of the gaps of a small group to one of 1,000 patients, in what a threshold does and in O/E."""
    right = {
        "patients": cell["patients"] + 1000,
        "prevalence": 0.2,
        "images": cell["images"],
        "slope": 1.0,
        "shift": 0.0,
    }
    labels, logits, patients = drawn(right, rng)
    groups = np.where(patients < cell["patients"], "small", "large")
    gaps = metrics.subgroups(
        labels, logits, groups, patients, "large", 2, called=logits > -1, probabilities=expit(logits)
    ).rate_gaps
    return {rate: (np.nan, np.nan) if gap.low is None else (gap.low, gap.high) for rate, (gap,) in gaps.items()}, 0.0


def one_of_reader(cell: Cell, rng: np.random.Generator, replicates: int) -> tuple[Found, float]:
    """Each interval less its own truth: positives lie 1.8 above negatives for the model and 1.4 for the reader."""
    labels, patients, own = study(cell, rng)
    hard = np.sqrt(0.3) * own + np.sqrt(0.3) * rng.normal(size=labels.size)
    scores, seen = (hard + np.sqrt(0.4) * rng.normal(size=labels.size) + rise * labels for rise in (1.8, 1.4))
    cut = ndtri(cell["specificity"])
    model, reader = ndtr(1.8 - cut), ndtr(1.4 - cut)
    seed = int(rng.integers(1 << 31))
    at, less = metrics.at_reader_specificity(labels, scores, seen > cut, patients, replicates, seed)
    return beside({"model": at, "less reader": less}, {"model": model, "less reader": model - reader}), 0.0


def ends(ways: dict[str, Callable[[], Any]]) -> Found:
    """Both ends by each way; NaN where the data do not define them."""
    found: Found = {}
    for name, way in ways.items():
        try:
            made = way()
            found[name] = (made.low, made.high)
        except UndefinedError:
            found[name] = (float("nan"), float("nan"))
    return found


ONE = {
    "interval": one_interval, "draws": one_of_draws, "paired": one_paired, "few": one_of_few, "margin": one_margin,
    "gap": one_gap, "calibration": one_calibration, "rates": one_of_rates, "use": one_of_use, "reader": one_of_reader,
}  # fmt: skip


def measure(cell: Cell, rounds: int, replicates: int, every: int, seconds: float) -> Cell:
    """Coverage and width of each way over simulated studies; fewer than `rounds` where the time is up first.

    Args:
        every: of so many studies of the part `interval` one has the bootstraps too, which are slow on many images.
    """
    seed = np.random.SeedSequence([abs(int(1000 * v)) if not isinstance(v, str) else len(v) for v in cell.values()])
    rng = np.random.default_rng(seed)
    begun, held, widths, done = time.process_time(), {}, {}, 0
    while done < rounds and time.process_time() - begun < seconds:
        some = cell["part"] != "interval" or done % every == 0
        found, truth = ONE[cell["part"]](cell, rng, replicates if some else 0)
        done += 1
        for name, (low, high) in found.items():
            held.setdefault(name, []).append(np.nan if np.isnan(low) else float(low <= truth <= high))
            widths.setdefault(name, []).append(high - low)
    result = {}
    for name, hits in held.items():
        defined = np.array(hits)[~np.isnan(hits)]
        if defined.size:
            share = float(defined.mean())
            error = float(np.sqrt(max(share * (1 - share), 1 / done) / defined.size))
            result[name] = {"share": share, "error": error, "width": float(np.nanmean(widths[name]))}
        else:
            result[name] = None
    return {"cell": cell, "rounds": done, "replicates": replicates, "ways": result}


TITLES = {
    "interval": "Share of simulated studies whose 95 % interval holds the true AUROC",
    "draws": "Share whose 95 % interval holds the true difference of two arms, over new patients and new draws",
    "paired": "Share in which the paired test at 5 % finds a difference",
    "few": "Share whose 95 % interval holds the true difference of two arms, few positives",
    "margin": "Share in which a loss as large as the margin is called not worse (2.5 % wanted)",
    "calibration": "Share whose 95 % interval holds the truth: calibration, and a threshold",
    "reader": "Share whose 95 % interval holds the truth: the model's sensitivity at the reader's specificity",
    "use": "Share whose 95 % interval holds the truth: likelihood ratios, O/E, net benefit, smooth reliability curve",
    "rates": "Share in which the gap of a group in a rate to one of 1,000 patients is flagged (5 % wanted)",
    "gap": "Share in which the gap of a group to one of 200 positives and 800 negatives is flagged (5 % wanted)",
}


def table(part: str, results: list[Cell]) -> str:
    """Markdown of one part."""
    return "\n".join([f"### {TITLES[part]}", "", *rows(results, flipped=part in ("paired", "margin", "gap", "rates"))])


def rows(results: list[Cell], flipped: bool) -> Iterator[str]:
    keys = [key for key in results[0]["cell"] if key != "part"]
    ways = list(results[0]["ways"])
    yield "| " + " | ".join([*keys, "studies", *ways]) + " |"
    yield "|" + "---:|" * (len(keys) + 1 + len(ways))
    for result in results:
        shown = []
        for way in ways:
            got = result["ways"].get(way)
            share = None if got is None else 1 - got["share"] if flipped else got["share"]
            shown.append("undefined" if share is None else f"{100 * share:.1f} ± {100 * got['error']:.1f} %")
        values = [f"{100 * v:g} %" if k == "prevalence" else f"{v:g}" for k, v in result["cell"].items() if k != "part"]
        yield "| " + " | ".join([*values, str(result["rounds"]), *shown]) + " |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=Path("runs/coverage"))
    arguments.add_argument("--rounds", type=int, default=2000, help="simulated studies a cell")
    arguments.add_argument("--replicates", type=int, default=500, help="bootstrap replicates a study")
    arguments.add_argument("--every", type=int, default=1, help="one study in so many has the bootstraps too")
    arguments.add_argument("--cell-seconds", type=float, default=float("inf"), help="processor time a cell may take")
    arguments.add_argument("--seconds", type=float, default=float("inf"), help="no new cell after this time")
    arguments.add_argument("--only", default="{}", help="JSON: values that a cell must have, such as its part")
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "cells.jsonl"
    results = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = [result["cell"] for result in results]
    wanted = json.loads(given.only)
    begun = time.monotonic()
    for cell in cells():
        if cell in done or any(cell.get(key) != value for key, value in wanted.items()):
            continue
        if time.monotonic() - begun > given.seconds:
            break
        results.append(measure(cell, given.rounds, given.replicates, given.every, given.cell_seconds))
        with file.open("a") as stream:
            stream.write(json.dumps(results[-1]) + "\n")
        print(json.dumps(results[-1]), flush=True)
    for part in TITLES:
        cells_of = [cell for cell in cells() if cell["part"] == part]
        measured = {json.dumps(result["cell"]): result for result in results}
        made = [measured[name] for cell in cells_of if (name := json.dumps(cell)) in measured]
        if not made:
            continue
        text = table(part, made)
        print(text)
        if len(made) == len(cells_of):
            before, rest = PAGE.read_text().split(f"<!-- {part}: begin -->")
            after = rest.split(f"<!-- {part}: end -->")[1]
            PAGE.write_text(f"{before}<!-- {part}: begin -->\n\n{text}\n\n<!-- {part}: end -->{after}")


if __name__ == "__main__":
    main()
