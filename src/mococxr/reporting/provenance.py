"""Where the numbers of a study come from: pretraining runs and their health, arms, data, settings, versions."""

from __future__ import annotations

from functools import partial
from typing import Any

from mococxr.pages import format as fmt
from mococxr.pages.render import Column, Table, tabulate
from mococxr.reporting.alerts import seen_splits
from mococxr.reporting.headline import arm_label, judged, subtitle
from mococxr.results import Row, StudyResults

HEALTH = {
    "loss": ("Loss", 2),
    "contrast_accuracy": ("Contrastive accuracy", 2),
    "effective_rank": ("Effective rank", 1),
    "feature_std": ("Feature standard deviation", 2),
    "knn_auroc": ("kNN AUROC", 3),
}
"""Last value of a run -> its name on the page, and decimals."""
COPIES = {"Test images": "test_images", "Exact duplicates in pretraining": "same", "Near-duplicates": "near_duplicates"}
"""Columns of the images that are in a run and in the test set."""
LEARNING = "learning"
"""The verdict of a run on which nothing is amiss."""


def runs_with_health(study: StudyResults) -> list[tuple[str, Row]]:
    """`MoCo, run 2` (the arm alone where it has one run) and the health of each run that recorded any."""
    pairs = []
    for arm in study.values("arm"):
        # A run without a log has none.
        records = [run["health"] for run in study.facts["arms"][arm]["runs"] if run["health"] is not None]
        label = arm_label(study, arm)
        pairs += [(f"{label}, run {i + 1}" if len(records) > 1 else label, health) for i, health in enumerate(records)]
    return pairs


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
    columns: dict[str, Column] = {"Run": "name", "Verdict": "verdict"}
    columns |= {title: partial(_last, measure=name, digits=digits) for name, (title, digits) in HEALTH.items()}
    note = "–: not measured. kNN AUROC: labels of validation images from their nearest neighbours, where there are any."
    table = tabulate([{"name": name, **health} for name, health in runs], columns, 2, note)
    return {"summary": summary, "lines": lines, "table": table}


def _last(health: Row, measure: str, digits: int) -> str:
    """The last known value of a measure of a run."""
    logged = [entry[measure] for entry in health["log"] if entry.get(measure) is not None]
    # Not every step measures everything.
    value = health.get(measure) if health.get(measure) is not None else next(reversed(logged), None)
    text = fmt.DASH if value is None else f"{value:.{digits}f}"
    # A loss alone tells nothing: ln(K + 1) depends on the queue.
    chance = chance_loss(health) if measure == "loss" and value is not None else None
    return f"{text} (chance {chance:.2f})" if chance else text


def arms(study: StudyResults) -> Table:
    """What each encoder is, what it was trained on, what an image costs."""
    facts = study.facts["arms"]
    marks = {"baseline": study.facts["baseline"]["arm"], "reference": study.facts["reference"]}

    def named(arm: str) -> str:
        words = [word for word, marked in marks.items() if arm == marked]
        return arm_label(study, arm) + (f" ({', '.join(words)})" if words else "")

    columns: dict[str, Column] = {
        "Arm": named,
        "Encoder": lambda arm: _encoder(facts[arm]),
        "Trained on": lambda arm: _trained_on(study, arm),
        "Inference time per image": lambda arm: _cost(facts[arm]),
        "Pretraining": lambda arm: _runs(facts[arm]),
    }
    devices = " and ".join(sorted({facts[arm]["device"] for arm in study.values("arm")}))
    note = (
        f"Inference time: one forward pass at the arm's own size, measured on {devices} when the study ended; of encoders "
        "side by side, all of them. Features of stages: the means over the maps of the last four stages, and the last layer."
    )
    return tabulate(study.values("arm"), columns, len(columns), note)


def frames_words(arm: Row, unit: str = "px") -> str:
    """`resnet18 at 96 px`, of encoders side by side each."""
    return " beside ".join(
        "a table of features" if part["size"] is None else f"{part['timm']} at {part['size']} {unit}"
        for part in arm["parts"]
    )


def _encoder(arm: Row) -> str:
    """`runs/moco: resnet18 at 96 px, started from imagenet`."""
    known = len(arm["parts"]) == 1 and arm["kind"] in ("run", "imagenet", "random")
    start = f", started from {fmt.fact(arm['init'])}" if known else ""
    return f"{arm['encoder']}: {frames_words(arm)}{start}"


def _trained_on(study: StudyResults, arm: str) -> str:
    """The images of a run, and before them those behind the weights that it started from."""
    facts = study.facts["arms"][arm]
    published, images = facts["trained_on"], facts["pretrained_on"]
    if facts["kind"] != "run":
        return published or "no chest images"
    before = f"; initialised from: {published}" if published and published != "no chest images" else ""
    if images is None:
        return fmt.NOT_RECORDED + before
    seen = " and ".join(seen_splits(study, arm))
    parts = [f"{fmt.fact(images['images'])} images", f"{fmt.fact(images['patients'])} patients"]
    parts.append(f"split: {fmt.fact(images['splits'])}" + (f" (saw {seen} patients)" if seen else ""))
    if facts["seconds"] is not None:
        parts.append(f"{facts['seconds'] / 60:,.0f} min")
    return f"{sources_of(images)}: {', '.join(parts)}{before}"


def sources_of(images: Row) -> str:
    """Where a run's images are from: `nih`, or of several stores `nih 3,700, pool 6,511`."""
    stores = images.get("stores", [])
    if len(stores) < 2:
        return fmt.fact(images["source"])
    return ", ".join(f"{fmt.fact(store['source'])} {store['images']:,}" for store in stores)


def _cost(arm: Row) -> str:
    seconds = arm["seconds_per_image"]
    if seconds is None:
        return fmt.DASH
    time = f"{fmt.plain(seconds, 2)} s" if seconds >= 1 else f"{fmt.plain(1000 * seconds, 2)} ms"
    return f"{time}, {arm['parameters'] / 1e6:,.1f} million parameters, {arm['dimensions']:,} features ({_layers(arm)})"


def _layers(arm: Row) -> str:
    """`stages`, `last layer`, or both of encoders side by side."""
    words = {"stages": "stages", "last": "last layer"}
    return ", ".join(dict.fromkeys(words[part["features"]] for part in arm["parts"]))


def _runs(arm: Row) -> str:
    """`2 runs: learning`."""
    if arm["kind"] != "run":
        return fmt.DASH
    number = len(arm["runs"])
    verdicts = dict.fromkeys(run["health"]["verdict"] for run in arm["runs"] if run["health"])
    words = "; ".join(verdicts) or fmt.fact(arm["verdict"])
    method = f" of {arm['method']}" if arm.get("method") else ""
    return f"{'1 run' if number == 1 else f'{number} runs'}{method}: {words}"


def transfer(study: StudyResults) -> Table:
    """Source and target of each run, and the test images that are in both."""
    checked = study.facts["images_in_both"]
    rows = [
        {
            "arm": arm_label(study, arm),
            "run": run["run"],
            "source": (study.facts["arms"][arm]["pretrained_on"] or {}).get("source"),
            "target": study.test_store["source"],
        }
        | (checked[f"{arm}/{run['run']}"] or dict.fromkeys(COPIES.values(), "not checked"))
        for arm in study.values("arm")
        for run in study.facts["arms"][arm]["runs"]
        if f"{arm}/{run['run']}" in checked  # encoders without a folder keep no list of images
    ]
    columns = {"Arm": "arm", "Run": "run", "Pretrained on": "source", "Tested on": "target"} | COPIES
    note = "By SHA-256 of the file, and by fingerprint; all are listed in copies.csv."
    return tabulate(rows, columns, 4, note)


def data(study: StudyResults) -> dict[str, Any]:
    """Where the images come from, how they were divided, and how many labels there are."""
    store, facts, test = study.facts["store"], study.facts, study.test_store
    other = f"{fmt.fact(test['source'])} (store {test['path_name']}; split: {fmt.fact(test['split_rule'])})"
    pairs = [
        ("Source", fmt.fact(store["source"])),
        ("Store", store["path_name"]),
        *([("Test images", f"those of another store: {other}")] if study.external else []),
        ("Synthetic images", fmt.fact(store["synthetic"])),
        ("Patient identifiers", "known" if store["patients_known"] else "unknown"),
        ("Excluded files (unreadable)", fmt.fact(store["unreadable"])),
        ("Excluded files (reports, localizers, second copies)", fmt.fact(store["not_used"])),
        ("Split", fmt.fact(store["split_rule"])),
        *_entered("Labels entered after prepare", store),
        *(_entered("Labels of the test images entered after prepare", test) if study.external else []),
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
    if study.rows("flow"):
        tables.append(("Flow of images, by target, split and label (flow.csv)", _flow(study)))
        tables.append(("Who is in them (flow.csv)", _demographics(study)))
    return {"summary": f"{subtitle(study)} Test, with a label: {judged(study)}.", "facts": pairs, "tables": tables}


def _entered(title: str, store: dict[str, Any]) -> list[tuple[str, str]]:
    """Which state of a store's labels a study saw (`--labels-as-of EVENTS` gives it again); nothing without events."""
    labels = store.get("labels", {})
    if not labels.get("events"):
        return []
    return [(title, f"{labels['events']:,} events, the last {labels['last']} (state {labels['sha256'][:12]})")]


_FLOW: dict[str, Column] = {name.capitalize(): name for name in ("target", "split", "label")}


def _flow(study: StudyResults) -> Table:
    """Images that count, by label, and those of the split that do not."""
    counts = ("images", "patients", "studies", "restricted", "uncertain", "unlabelled")
    columns = _FLOW | {name.capitalize(): (name, fmt.count) for name in counts}
    note = (
        "The last three columns are left out, of all images of the split: by --where, as uncertain, without a label. "
        "Files that could not be read are counted above, for the store."
    )
    return tabulate(study.rows("flow"), columns, 3, note)


def _demographics(study: StudyResults) -> Table:
    """Sex, view, device and age of the same images."""
    # A column that nobody knows is left out.
    texts = [name for name in ("sex", "view", "device") if study.frames["flow"][name].count()]
    columns = _FLOW | {name.capitalize(): name for name in texts}
    columns["Age (quartiles)"] = lambda row: (
        fmt.DASH
        if row["age_median"] is None
        else f"{row['age_median']:.0f} ({row['age_q1']:.0f} to {row['age_q3']:.0f})"
    )
    return tabulate(study.rows("flow"), columns, 3 + len(texts), "Of images, where known.")


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
    columns: dict[str, Column] = {
        "Split": lambda row: row[0],
        "Images": lambda row: fmt.fact(row[1]["images"]),
        "Patients": lambda row: fmt.fact(row[1]["patients"]),
    }
    return tabulate(rows, columns)


def _targets(study: StudyResults) -> Table:
    """Positives and negatives of each target."""
    columns: dict[str, Column] = {
        "Target": "target",
        "Training +": "train_positives",
        "Training −": "train_negatives",
        "Test +": "test_positives",
        "Test −": "test_negatives",
        "Test patients +": "test_positive_patients",
        "Test patients −": "test_negative_patients",
        "unknown": "unknown",
        "uncertain": "uncertain",
    }
    return tabulate([{"target": target} | study.facts["targets"][target] for target in study.targets], columns)


def _budgets(study: StudyResults) -> Table:
    """How many labels each fraction stands for, over the draws of `trials.csv`."""
    rows = [
        {"target": target, "fraction": fraction, "trials": study.rows("trials", target=target, fraction=fraction)}
        for target in study.targets
        for fraction in study.fractions(target)
    ]
    columns: dict[str, Column] = {
        "Target": "target",
        "Labels": ("fraction", fmt.percent),
        "Subsets": lambda row: fmt.count(len({trial["draw"] for trial in row["trials"]})),
        "Images": lambda row: fmt.span(trial["train_images"] for trial in row["trials"]),
        "Patients": lambda row: fmt.span(trial["train_patients"] for trial in row["trials"]),
        "Positives": lambda row: fmt.span(trial["train_positives"] for trial in row["trials"]),
    }
    return tabulate(rows, columns)


def warning_lines(study: StudyResults) -> list[str]:
    """What to be wary of."""
    lines = list(study.facts["warnings"])
    if count := study.facts["undefined_resamples"]:
        lines.append(f"Undefined resamples of the bootstrap, counted and left out: {count:,}.")
    return lines
