"""`fit`: labels of a store -> MODEL."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mococxr import console
from mococxr.classifier.encoding import cost_words, encoder_facts, feature_reader, in_one_pass
from mococxr.classifier.guarding import examined_rows, guard_words, learn_guard
from mococxr.classifier.operating_point import NONE, Judged, choose_judged, describe, read_rule
from mococxr.classifier.overlap import HELD, overlap_words
from mococxr.classifier.reference import image_facts, score_facts
from mococxr.classifier.saved import FORMAT, save_model
from mococxr.encoders import (
    INSTALL,
    LITE0,
    Encoder,
    open_encoder,
    published_folder,
    resolve_encoders,
    shared_sets,
    trained_on,
)
from mococxr.errors import InputError, UndefinedError
from mococxr.feature_cache import check_folder
from mococxr.features import features, pick_device, set_threads
from mococxr.files import claim
from mococxr.heads import MODES, check_one, train_classifier
from mococxr.heads.classifier import (
    Ensemble,
    FitResult,
    TrainConfig,
    TrainData,
    load_member,
    member_scores,
    members_of,
    read_config,
)
from mococxr.heads.cross_fit import cross_fit
from mococxr.heads.scaling import scaling_facts, scaling_of, scaling_rows, scaling_words
from mococxr.heads.targets import Target, draw_labelled, read_target
from mococxr.measure.operating import ThresholdRule, fit_blocks
from mococxr.settings import FitSettings, to_mapping
from mococxr.store import Store
from mococxr.store.untested import untested
from mococxr.version import VERSION

FEW = 1000
"""Training images below which pretraining has little to learn from."""
Facts = dict[str, Any]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Plan:
    """Which labels of a target are used for what; an image without a label of it has no part.

    Args:
        target: labels of every row of the store.
        rows: the labelled training rows.
        judged: those that calibration and threshold are learned from.
    """

    target: Target
    rows: NDArray[np.int64]
    judged: Judged


def run_fit(settings: FitSettings) -> Path:
    """The command `fit`: train on the store's training patients, never its test patients; write MODEL.

    Features are read once for all targets. Validation images calibrate each target and choose its threshold, and
    cross-fitted training images where those are too few.

    Raises:
        InputError: bad settings, or labels of one class only; nothing was written.
    """
    set_threads(settings.jobs)
    claim(settings.out, "model.safetensors", "a model")  # an earlier model is replaced
    check_folder(settings.feature_cache)
    store = Store.open(settings.store, settings.labels_as_of)
    config = read_config(settings, pick_device(settings.device).type)
    rule = read_rule(settings.threshold_by, settings.sensitivity)
    targets = _targets(store, settings, by_gradient := MODES[settings.mode].by_gradient(config))
    sources = resolve_encoders(settings.encoder, **settings.encoder_options)
    check_one(sources, [settings.mode] if by_gradient else [], f"--encoder {settings.encoder}")
    encoders = tuple(open_encoder(source, settings.seed) for source in sources)

    plans = [_plan(store, target, settings, rule, by_gradient) for target in targets]
    solved = MODES[settings.mode].reads_features(config) and settings.standardize == "unlabelled"
    scaling = scaling_rows(store) if solved else NONE
    held = [] if by_gradient else [examined_rows(store), *(plan.judged.held for plan in plans)]
    frozen = in_one_pass(
        feature_reader(settings, sources, encoders, store, config), scaling, *(plan.rows for plan in plans), *held
    )
    shared = cache(lambda: scaling_of(frozen(scaling)))

    def trained(rows: NDArray[np.int64], encoder: Encoder = encoders[0]) -> NDArray[np.float32]:
        size = sources[0].spec.size
        return features(encoder, store, rows, size=size, crop_mode=config.crop_mode, device=config.device)

    def of_held(plan: Plan, result: FitResult) -> NDArray[np.float64]:
        rows = plan.judged.held
        return member_scores(
            encoders[0], result.members, partial(trained, rows) if by_gradient else lambda _: frozen(rows)
        )

    results: list[FitResult] = []
    blocks: list[Facts] = []
    for plan in plans:
        data = TrainData(store, plan.target, plan.rows, sources[0].spec.size, lambda: encoders[0], frozen, shared)
        results.append(result := _stated(plan.target, partial(train_classifier, data, config)))
        scores = _scores(plan.judged, data, config, partial(of_held, plan, result))
        judged = fit_blocks(plan.judged.scored(store, plan.target, scores), settings.calibrate, rule)
        blocks.append(_of_target(settings, store, plan, len(scaling), result, judged) | {"scores": score_facts(scores)})
    record = {
        **_shared(settings, store), "encoders": encoder_facts(settings.encoder, sources, encoders, store), "targets": blocks,
    }  # fmt: skip
    load_member(encoders, (members := members_of(results))[0])
    guard, facts = learn_guard(store, trained if by_gradient else frozen, max(source.spec.size for source in sources))
    save_model(Path(settings.out), Ensemble(encoders, members), record, guard, facts)
    console.say(cost_words(sources, encoders, config.device))
    _tell(record, Path(settings.out), [guard_words(facts), *better_start(record, store), *_judging(settings, targets)])
    for target in targets:
        if blind := untested(store, target.name, len(target.test), " that --where keeps" if settings.where else ""):
            console.warn(blind)
    return Path(settings.out)


def _targets(store: Store, settings: FitSettings, by_gradient: bool) -> list[Target]:
    """The labels of each target.

    Raises:
        InputError: a target that the store does not have, one that is named twice, or several in a mode that trains the
            encoder for one.
    """
    names = settings.target
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"--target {twice[0]} is named twice.", "Name it once.")
    if len(names) > 1 and by_gradient:
        mode = settings.mode if settings.mode != "linear" else "linear with --linear-solver gradient"
        raise InputError(
            f"--mode {mode} trains the encoder for one target; {len(names)} were named.",
            "Take --mode linear with --linear-solver lbfgs, whose targets share the encoder, or fit a model for each.",
        )
    how = {"where": settings.where, "uncertain": settings.uncertain, "blank": settings.blank}
    return [read_target(store, name, **how) for name in names]  # type: ignore[arg-type] # each is what it is called


def _plan(store: Store, target: Target, settings: FitSettings, rule: ThresholdRule | None, by_gradient: bool) -> Plan:
    """The labels drawn, and those that calibrate and choose the threshold."""
    draw = partial(draw_labelled, store, target, settings.fraction, settings.draw, settings.seed)
    rows = _stated(target, draw)
    if settings.calibrate == "none" and rule is None:  # who asks for neither reads no label
        return Plan(target, rows, Judged(NONE, NONE))
    pool = (NONE, "validation") if by_gradient else (rows,)
    return Plan(target, rows, choose_judged(store, target, target.val, *pool))


def _stated(target: Target, made: Callable[[], Made]) -> Made:
    """What `made` gives.

    Raises:
        InputError: it is undefined, with the target and the way out.
    """
    try:
        return made()
    except UndefinedError as error:
        raise InputError(
            f"--target {target.name}: {error}.", "Take a larger --fraction, or label more images."
        ) from error


def _scores(
    judged: Judged, data: TrainData, config: TrainConfig, of_held: Callable[[], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Scores of the rows that calibration and threshold are learned from; without such rows nothing is computed."""
    held = of_held() if len(judged.held) else np.empty(0)
    crossed = cross_fit(data, config)[np.isin(data.rows, judged.crossed)] if len(judged.crossed) else np.empty(0)
    return np.concatenate([held, crossed])


def _tell(record: Facts, out: Path, hints: list[str]) -> None:
    several = len(record["targets"]) > 1
    starts = {block["target"]: f"{block['target']}: " if several else "" for block in record["targets"]}
    for block in record["targets"]:
        lines, warnings = describe(block)
        notes, uses = [*block["training"]["notes"]], block["validation_used_for"]
        if len(uses) > 1 and "checkpoints" in uses:
            what = " and ".join(uses[1:])
            notes.append(
                f"the validation images that chose the checkpoints gave the {what} too: judge them on other images"
            )
        for note in [*notes, *warnings]:
            console.warn(starts[block["target"]] + note)
        for line in lines:
            console.say(starts[block["target"]] + line)
    if on := record["targets"][0]["training"]["standardized_on"]:
        console.say(scaling_words(on))
    for block in record["targets"]:
        training = block["training"]
        counts = f"{training['images']:,} labelled images, {training['positives']:,} positive"
        console.say(f"{starts[block['target']]}{counts}: {out}")
    for warning in overlap_words(record["encoders"], record["store"]["source"], tuple(HELD)):
        console.warn(warning)
    for hint in hints:
        console.say(hint)


def _judging(settings: FitSettings, targets: Sequence[Target]) -> list[str]:
    """A line with the command that judges the model, where the test images have both classes of a target."""
    if all(np.unique(target.labels[target.test]).size < 2 for target in targets):
        return []
    line = shlex.join(["mococxr", "evaluate", str(settings.out), str(settings.store)])
    return [f"How good it is on the test images, and where it is wrong: {line}"]


def better_start(record: Mapping[str, Any], store: Store) -> list[str]:
    """A line for who fits on ImageNet weights and has few images, none of which the published weights may have seen."""
    names = {encoder["name"].partition("@")[0] for encoder in record["encoders"]}
    few = len(store.rows_in("train")) < FEW
    if names != {"imagenet"} or not few or shared_sets(store.source, trained_on(LITE0).sets):
        return []
    how = "" if published_folder() else f" ({INSTALL})"
    return [f"With so few images, compare weights that have seen chest X-rays: --encoder {LITE0}{how}."]


def _shared(settings: FitSettings, store: Store) -> Facts:
    """What `model.json` says of all targets alike."""
    how = store.manifest.get("settings") or {}
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "reference": image_facts(store, store.rows_in("train")),
        "mode": settings.mode,
        "preprocessing": {
            "store_size": int(store.manifest["size"]),
            "depth": how.get("depth", "full"),
            "voi": how.get("voi", "first"),
            "frames": how.get("frames", "first"),
            "any_body_part": bool(how.get("any_body_part", False)),
            "crop_mode": settings.crop_mode,
        },
        "store": {
            "sha256": store.sha256,
            "source": store.source,
            "synthetic": bool(store.manifest.get("synthetic")),
            "labels": store.label_state,
        },
        "settings": to_mapping(settings),
    }


def _of_target(
    settings: FitSettings, store: Store, plan: Plan, scaled: int, result: FitResult, judged: Mapping[str, Facts]
) -> Facts:
    """What `model.json` says of one target; `scaled` images standardise the features."""
    labels = plan.target.labels[plan.rows]
    learned = [name for name, block in judged.items() if block["reason"] is None and block["validation_images"]]
    return {
        "target": plan.target.name,
        "training": {
            "images": len(plan.rows),
            "patients": store.index["patient"][plan.rows].n_unique(),
            "positives": int((labels == 1).sum()),
            "negatives": int((labels == 0).sum()),
            "uncertain": int((labels == 2).sum()),
            "fraction": settings.fraction,
            "draw": settings.draw,
            "standardized_on": scaling_facts(store, scaled),
            "updates": result.updates,
            "validation_images": result.validation_images,
            "C": result.members[0].head.C or None,  # 0 of a head that was trained by gradient
            "notes": list(result.notes),
        },
        **judged,
        "validation_used_for": ["checkpoints"] * bool(result.validation_images) + learned,
    }
