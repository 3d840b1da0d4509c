"""Where the numbers of a study come from: pretraining runs and their health, arms, data, settings, versions."""

from __future__ import annotations

from typing import Any

from mococxr.pages import format as fmt
from mococxr.pages.render import Table, tabulate
from mococxr.reporting.headline import arm_label, judged, seen_splits, subtitle
from mococxr.results import Row, StudyResults

HEALTH = {
    "loss": ("Loss", 2),
    "contrast_accuracy": ("Contrastive accuracy", 2),
    "effective_rank": ("Effective rank", 1),
    "feature_std": ("Feature standard deviation", 2),
    "knn_auroc": ("kNN AUROC", 3),
}
"""Last value of a run -> its name on the page, and decimals."""
LEARNING = "learning"
"""The verdict of a run on which nothing is amiss."""


def runs_with_health(study: StudyResults) -> list[tuple[str, Row]]:
    """`MoCo, run 2` (the arm alone where it has one run) and the health of each run that recorded any."""
    found = []
    for arm in study.values("arm"):
        health = [run["health"] for run in study.facts["arms"][arm]["runs"] if run["health"] is not None]
        several = len(health) > 1
        label = arm_label(study, arm)
        found += [(f"{label}, run {i + 1}" if several else label, one) for i, one in enumerate(health)]
    return found


def chance_loss(health: Row) -> float | None:
    """The loss of guessing, ln(K+1) among K negatives, where the run's method has one."""
    return health.get("guessing")


def pretraining(study: StudyResults) -> dict[str, Any]:
    """The verdict on each pretraining run, with reason, remedy and last values."""
    runs = runs_with_health(study)
    lines = []
    for name, health in runs:
        texts = [str(health[part]).rstrip(".") for part in ("verdict", "reason", "remedy") if health[part]]
        lines.append(f"{name}: {'. '.join(texts)}.")
    verdicts = [health["verdict"] for _, health in runs]
    others = ", ".join(dict.fromkeys(word for word in verdicts if word != LEARNING))
    summary = f"{verdicts.count(LEARNING)} of {len(runs)} runs: learning"
    summary += f"; the others: {others}." if others else "."
    rows = [{"name": name, **health} for name, health in runs]
    columns = {"Run": lambda row: row["name"], "Verdict": lambda row: row["verdict"]} | {
        title: lambda row, name=name, digits=digits: _last(row, name, digits)
        for name, (title, digits) in HEALTH.items()
    }
    note = "–: not measured. kNN AUROC: labels of validation images from their nearest neighbours, where there are any."
    return {"summary": summary, "lines": lines, "table": tabulate(rows, columns, 2, note)}


def _last(health: Row, name: str, digits: int) -> str:
    """The last known value of a measure of a run."""
    logged = [entry[name] for entry in health["log"] if entry.get(name) is not None]
    value = health.get(name) if health.get(name) is not None else next(reversed(logged), None)
    text = fmt.DASH if value is None else f"{value:.{digits}f}"
    chance = chance_loss(health) if name == "loss" and value is not None else None
    return f"{text} (chance {chance:.2f})" if chance else text


def arms(study: StudyResults) -> Table:
    """What each encoder is, what it was trained on, what an image costs."""
    about = study.facts["arms"]
    columns = {
        "Arm": lambda arm: arm_label(study, arm) + (" (reference)" if arm == study.facts["reference"] else ""),
        "Encoder": lambda arm: _encoder(about[arm]),
        "Trained on": lambda arm: _trained_on(study, arm),
        "Inference time per image": lambda arm: _cost(about[arm]),
        "Pretraining": lambda arm: _runs(about[arm]),
    }
    devices = " and ".join(sorted({about[arm]["device"] for arm in study.values("arm")}))
    note = f"Inference time: one forward pass at the arm's own size, measured on {devices} when the study ended."
    return tabulate(study.values("arm"), columns, len(columns), note)


def _encoder(about: Row) -> str:
    """`runs/moco: resnet18 at 96 px, started from imagenet`."""
    if about["size"] is None:
        return f"{about['encoder']}: a table of features"
    started = about["kind"] in ("run", "imagenet", "random")
    start = f", started from {fmt.fact(about['init'])}" if started else ""
    return f"{about['encoder']}: {about['timm']} at {about['size']} px{start}"


def _trained_on(study: StudyResults, arm: str) -> str:
    """The images of a run, and before them those behind the weights that it started from."""
    about = study.facts["arms"][arm]
    published = about["trained_on"]
    if about["kind"] != "run":
        return published or "no chest images"
    before = f"; initialised from: {published}" if published and published != "no chest images" else ""
    images = about["pretrained_on"]
    if images is None:
        return fmt.NOT_RECORDED + before
    seen = " and ".join(seen_splits(study, arm))
    parts = [f"{fmt.fact(images['images'])} images", f"{fmt.fact(images['patients'])} patients"]
    parts.append(f"split: {fmt.fact(images['splits'])}" + (f" (saw {seen} patients)" if seen else ""))
    if about["seconds"] is not None:
        parts.append(f"{about['seconds'] / 60:,.0f} min")
    return f"{fmt.fact(images['source'])}: {', '.join(parts)}{before}"


def _cost(about: Row) -> str:
    seconds = about["seconds_per_image"]
    if seconds is None:
        return fmt.DASH
    time = f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.2g} ms"
    return f"{time}, {about['parameters'] / 1e6:,.1f} million parameters"


def _runs(about: Row) -> str:
    """`2 runs: learning`."""
    if about["kind"] != "run":
        return fmt.DASH
    number = len(about["runs"])
    verdicts = dict.fromkeys(run["health"]["verdict"] for run in about["runs"] if run["health"])
    words = "; ".join(verdicts) or fmt.fact(about["verdict"])
    method = f" of {about['method']}" if about.get("method") else ""
    return f"{'1 run' if number == 1 else f'{number} runs'}{method}: {words}"


def transfer(study: StudyResults) -> Table:
    """Source and target of each run, and the test images that are in both."""
    checked = study.facts["images_in_both"]
    rows = [
        {"arm": arm, "run": run["run"], "counts": checked[f"{arm}/{run['run']}"]}
        for arm in study.values("arm")
        for run in study.facts["arms"][arm]["runs"]
        if f"{arm}/{run['run']}" in checked
    ]
    columns: dict[str, Any] = {
        "Arm": lambda row: arm_label(study, row["arm"]),
        "Run": lambda row: row["run"],
        "Pretrained on": lambda row: fmt.fact((study.facts["arms"][row["arm"]]["pretrained_on"] or {}).get("source")),
        "Tested on": lambda _: fmt.fact(study.test_store["source"]),
    }
    counts = {
        "Test images": "test_images",
        "Exact duplicates in pretraining": "same",
        "Near-duplicates": "near_duplicates",
    }
    for title, name in counts.items():
        columns[title] = lambda row, name=name: fmt.fact(row["counts"][name]) if row["counts"] else "not checked"
    note = "By SHA-256 of the file, and by fingerprint; all are listed in copies.csv."
    return tabulate(rows, columns, 4, note)


def data(study: StudyResults) -> dict[str, Any]:
    """Where the images come from, how they were divided, and how many labels there are."""
    store, facts = study.facts["store"], study.facts
    pairs = [
        ("Source", fmt.fact(store["source"])),
        ("Store", store["path_name"]),
        *([("Test images", _test_store(study))] if study.external else []),
        ("Synthetic images", fmt.fact(store["synthetic"])),
        ("Patient identifiers", "known" if store["patients_known"] else "unknown"),
        ("Excluded files (unreadable)", fmt.fact(store["unreadable"])),
        ("Excluded files (reports, localizers, second copies)", fmt.fact(store["not_used"])),
        ("Split", fmt.fact(store["split_rule"])),
        ("Rows restricted to", fmt.fact(facts["settings"].get("where") or "no restriction")),
        ("Unit of analysis", facts["unit"]),
        ("Aggregation", facts["aggregate"]),
        ("Uncertain labels (-1)", facts["uncertain"]),
        ("Blank labels", facts["blank"]),
        ("Validation labels used", fmt.fact(facts["validation_labels"])),
    ]
    tables = [
        ("Splits", _splits(study)),
        ("Targets (images, unless patients are named)", _targets(study)),
        ("Labels at each fraction", _budgets(study)),
    ]
    return {"summary": f"{subtitle(study)} Test, with a label: {judged(study)}.", "facts": pairs, "tables": tables}


def _test_store(study: StudyResults) -> str:
    store = study.test_store
    split = fmt.fact(store["split_rule"])
    return f"those of another store: {fmt.fact(store['source'])} (store {store['path_name']}; split: {split})"


def _splits(study: StudyResults) -> Table:
    """Images and patients of the three splits."""
    store = study.facts["store"]
    other = ", not judged" if study.external else ""
    rows = [
        (word, store["splits"][name])
        for name, word in (("train", "Training"), ("val", "Validation"), ("test", f"Test{other}"))
    ]
    rows.append(("All", store))
    if study.external:
        rows.append(("Test, of the other store", study.test_store["splits"]["test"]))
    columns = {
        "Split": lambda row: row[0],
        "Images": lambda row: fmt.fact(row[1]["images"]),
        "Patients": lambda row: fmt.fact(row[1]["patients"]),
    }
    return tabulate(rows, columns)


def _targets(study: StudyResults) -> Table:
    """Positives and negatives of each target."""
    names = {
        "Training +": "train_positives",
        "Training −": "train_negatives",
        "Test +": "test_positives",
        "Test −": "test_negatives",
        "Test patients +": "test_positive_patients",
        "Test patients −": "test_negative_patients",
        "unknown": "unknown",
        "uncertain": "uncertain",
    }
    columns: dict[str, Any] = {"Target": str}
    for title, name in names.items():
        columns[title] = lambda target, name=name: fmt.fact(study.facts["targets"][target][name])
    return tabulate(study.targets, columns)


def _budgets(study: StudyResults) -> Table:
    """How many labels each fraction stands for, over the draws of `trials.csv`."""
    rows = [
        (target, fraction, study.rows("trials", target=target, fraction=fraction))
        for target in study.targets
        for fraction in study.fractions(target)
    ]
    columns: dict[str, Any] = {
        "Target": lambda row: row[0],
        "Labels": lambda row: fmt.percent(row[1]),
        "Subsets": lambda row: fmt.count(len({trial["draw"] for trial in row[2]})),
    }
    for name in ("images", "patients", "positives"):
        columns[name.capitalize()] = lambda row, name=name: fmt.span(trial[f"train_{name}"] for trial in row[2])
    return tabulate(rows, columns)


def warning_lines(study: StudyResults) -> list[str]:
    """What to be wary of."""
    lines = list(study.facts["warnings"])
    if count := study.facts["undefined_resamples"]:
        lines.append(f"Undefined resamples of the bootstrap, counted and left out: {count:,}.")
    return lines
