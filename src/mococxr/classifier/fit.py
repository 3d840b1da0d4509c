"""`fit`: labels of a store -> MODEL; `embed`: the features of every image of a store."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from mococxr import console
from mococxr.classifier.operating_point import NONE, Judged, choose_judged, describe, read_rule
from mococxr.classifier.saved import FORMAT, origin_of, save_model
from mococxr.encoders import (
    INSTALL,
    LITE0,
    Encoder,
    EncoderSource,
    encoder_names,
    open_encoder,
    published_folder,
    resolve_encoders,
    shared_sets,
    trained_on,
)
from mococxr.errors import InputError, UndefinedError
from mococxr.feature_cache import FeatureCache, check_folder, counts_words, keys_of, read_features, rounded, trim
from mococxr.features import features, pick_device, seconds_per_image, set_threads, state_hash
from mococxr.files import check_place, claim, write_parquet
from mococxr.heads import MODES, check_one, train_classifier
from mococxr.heads.classifier import Ensemble, FitResult, TrainConfig, TrainData, member_scores, read_config
from mococxr.heads.cross_fit import cross_fit
from mococxr.heads.scaling import scaling_facts, scaling_of, scaling_rows, scaling_words
from mococxr.heads.targets import Target, draw_labelled, read_target
from mococxr.measure.operating import fit_blocks
from mococxr.settings import EmbedSettings, FitSettings, NextSettings, TrainingSettings, to_mapping
from mococxr.store import Store
from mococxr.version import VERSION

Values = NDArray[np.float32]
Reader = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Rows of a store -> features (N, D)."""
FEW = 1000
"""Training images below which pretraining has little to learn from."""


def run_embed(settings: EmbedSettings) -> Path:
    """The command `embed`: `path, patient` and a list column `features` (float32), one row an image."""
    set_threads(settings.jobs)
    check_place(settings.out)
    store = Store.open(settings.store)
    sources = resolve_encoders(settings.encoder, **settings.encoder_options)
    encoders, device = [open_encoder(source) for source in sources], pick_device(settings.device)
    rows = np.arange(len(store))
    parts = [
        features(encoder, store, rows, size=source.spec.size, crop_mode=settings.crop_mode, device=device)
        for encoder, source in zip(encoders, sources, strict=True)
    ]
    values = np.concatenate(parts, axis=1)
    # Array takes the numbers as they lie; the contract promises a list
    column = pl.Series("features", values, dtype=pl.Array(pl.Float32, values.shape[1])).cast(pl.List(pl.Float32))
    write_parquet(settings.out, store.index.select("path", "patient").with_columns(column))
    console.say(cost_words(sources, encoders, device))
    console.say(f"{len(store):,} images, {values.shape[1]:,} numbers each: {settings.out}")
    return Path(settings.out)


def cost_words(sources: Sequence[EncoderSource], encoders: Sequence[Encoder], device: torch.device | str) -> str:
    """`encoder: 1,776 features, 34 ms an image on cpu`, measured now; of encoders side by side together."""
    pairs = zip(encoders, sources, strict=True)
    seconds = sum(seconds_per_image(encoder, source.spec.size, device) for encoder, source in pairs)
    length = sum(encoder.spec.feature_dim for encoder in encoders)
    return f"encoder: {length:,} features, {1000 * seconds:.2g} ms an image on {device}"


def run_fit(settings: FitSettings) -> Path:
    """The command `fit`: train on the store's training patients, never its test patients; write MODEL.

    Validation images calibrate it and choose its threshold, and cross-fitted training images where those are too few.

    Raises:
        InputError: bad settings, or labels of one class only; nothing was written.
    """
    set_threads(settings.jobs)
    claim(settings.out, "model.safetensors", "a model")  # an earlier model is replaced
    check_folder(settings.feature_cache)
    store = Store.open(settings.store, settings.labels_as_of)
    config = read_config(settings, pick_device(settings.device).type)
    rule = read_rule(settings.threshold_by, settings.sensitivity)
    target = read_target(
        store, settings.target, where=settings.where, uncertain=settings.uncertain, blank=settings.blank
    )
    mode = MODES[settings.mode]
    by_gradient = mode.by_gradient(config)
    sources = resolve_encoders(settings.encoder, **settings.encoder_options)
    check_one(sources, [settings.mode] if by_gradient else [], f"--encoder {settings.encoder}")
    encoders = tuple(open_encoder(source, settings.seed) for source in sources)

    solved = mode.reads_features(config) and settings.standardize == "unlabelled"
    scaling = scaling_rows(store) if solved else target.train[:0]
    try:
        rows = draw_labelled(store, target, settings.fraction, settings.draw, settings.seed)
        asked = settings.calibrate != "none" or rule is not None  # who asks for neither reads no label
        pool = (NONE, "validation") if by_gradient else (rows,)
        judged = choose_judged(store, target, target.val, *pool) if asked else Judged(NONE, NONE)
        read = feature_reader(settings, sources, encoders, store, config)
        frozen = _in_one_pass(read, rows, scaling, judged.held[:0] if by_gradient else judged.held)
        data = TrainData(
            store, target, rows, sources[0].spec.size, lambda: encoders[0], frozen, lambda: scaling_of(frozen(scaling))
        )
        result = train_classifier(data, config)
    except UndefinedError as error:
        raise InputError(
            f"--target {settings.target}: {error}.", "Take a larger --fraction, or label more images."
        ) from error

    def of_held(encoder: Encoder) -> Values:
        if not by_gradient:
            return frozen(judged.held)
        size = sources[0].spec.size
        return features(encoder, store, judged.held, size=size, crop_mode=config.crop_mode, device=config.device)

    scores = _scores(judged, data, config, lambda: member_scores(encoders[0], result.members, of_held))
    blocks = fit_blocks(judged.scored(store, target, scores), settings.calibrate, rule)
    record = {
        **_about(settings, store, target, rows, scaling, result),
        "encoders": _encoder_facts(settings.encoder, sources, encoders),
        **blocks,
        "validation_used_for": _validation_uses(result, blocks),
    }
    save_model(Path(settings.out), Ensemble(encoders, result.members), record)
    console.say(cost_words(sources, encoders, config.device))
    _tell(record, [*result.notes], Path(settings.out), [*better_start(record, store), *_judging(settings, target)])
    return Path(settings.out)


def _validation_uses(result: FitResult, blocks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    learned = [name for name, block in blocks.items() if block["reason"] is None and block["validation_images"]]
    return ["checkpoints"] * bool(result.validation_images) + learned


def _scores(
    judged: Judged, data: TrainData, config: TrainConfig, of_held: Callable[[], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Scores of the rows that calibration and threshold are learned from; without such rows nothing is computed."""
    held = of_held() if len(judged.held) else np.empty(0)
    crossed = cross_fit(data, config)[np.isin(data.rows, judged.crossed)] if len(judged.crossed) else np.empty(0)
    return np.concatenate([held, crossed])


def feature_reader(
    settings: TrainingSettings, sources: Sequence[EncoderSource], encoders: Sequence[Encoder], store: Store,
    config: TrainConfig,
) -> Reader:  # fmt: skip
    """Reads the features of rows, those of several encoders side by side, by way of `--feature-cache` where there is one."""
    used = set[str]()

    def read_by(encoder: Encoder, size: int, rows: NDArray[np.int64]) -> Values:
        return features(encoder, store, rows, size=size, crop_mode=config.crop_mode, device=config.device)

    return _beside([
        _frozen(settings, f"{state_hash(encoder)} {source.spec}", store, config,
                partial(read_by, encoder, source.spec.size), used)
        for encoder, source in zip(encoders, sources, strict=True)
    ])  # fmt: skip


def _frozen(
    settings: TrainingSettings | NextSettings,
    encoder: str,
    store: Store,
    config: TrainConfig,
    read: Reader,
    used: set[str],
) -> Reader:
    """`read`, rounded as features are kept, and by way of `--feature-cache` where there is one.

    Args:
        encoder: hash of the weights and of how images reach them, as a study has it.
        used: keys of the encoders side by side, whose files stay; this one's is added.
    """
    folder = settings.feature_cache
    if folder is None:
        return lambda rows: rounded(read(rows))
    cache = FeatureCache(folder, folder)
    key, before = keys_of(encoder, [store.images_sha256, *store.images_before], config.crop_mode, config.device)
    cache.inherit(key, before)
    used.add(key)

    def kept(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        anew = len(cache.missing(key, rows))
        console.say(counts_words(anew, len(rows) - anew))
        values = read_features(cache.add(key, rows, read), rows)
        trim(folder, settings.feature_cache_size, used)
        return values

    return kept


def _encoder_facts(text: str, sources: Sequence[EncoderSource], encoders: Sequence[Encoder]) -> list[dict[str, Any]]:
    """Of each encoder its name, the side of its frames, its spec and how it came to be."""
    return [
        {
            "name": str(name),
            "frame": source.spec.size,
            **dataclasses.asdict(encoder.spec),
            "origin": origin_of(source.path, str(name)),
        }
        for name, source, encoder in zip(encoder_names(text), sources, encoders, strict=True)
    ]


def _beside(readers: Sequence[Reader]) -> Reader:
    """The features of several encoders side by side."""
    return lambda rows: np.concatenate([read(rows) for read in readers], axis=1)


def _in_one_pass(read: Reader, *parts: NDArray[np.int64]) -> Reader:
    """`read` for rows of these parts: it is asked for all of them together, when the first are needed."""
    rows = np.unique(np.concatenate(parts))

    @cache
    def values() -> NDArray[np.float32]:
        return read(rows)

    return lambda chosen: values()[np.searchsorted(rows, chosen)]


def frozen_features(
    settings: FitSettings | NextSettings, encoders: str, store: Store, *parts: NDArray[np.int64]
) -> Reader:
    """The features of encoders side by side, as `fit` reads and keeps them: of all these rows, when the first are needed."""
    config = TrainConfig(crop_mode=settings.crop_mode, device=pick_device(settings.device).type)
    used: set[str] = set()

    def reader(source: EncoderSource) -> Reader:
        encoder = open_encoder(source, settings.seed)
        read = partial(
            features, encoder, store, size=source.spec.size, crop_mode=config.crop_mode, device=config.device
        )
        return _frozen(settings, f"{state_hash(encoder)} {source.spec}", store, config, read, used)

    sources = resolve_encoders(encoders, **settings.encoder_options)
    return _in_one_pass(_beside([reader(source) for source in sources]), *parts)


def _tell(record: dict[str, Any], notes: list[str], out: Path, hints: list[str]) -> None:
    lines, warnings = describe(record)
    if len(record["validation_used_for"]) > 1 and "checkpoints" in record["validation_used_for"]:
        what = " and ".join(record["validation_used_for"][1:])
        notes.append(
            f"the validation images that chose the checkpoints gave the {what} too: judge them on other images"
        )
    for note in [*notes, *warnings]:
        console.warn(note)
    for line in lines:
        console.say(line)
    training = record["training"]
    if training["standardized_on"]:
        console.say(scaling_words(training["standardized_on"]))
    console.say(f"{training['images']:,} labelled images, {training['positives']:,} positive: {out}")
    for hint in hints:
        console.say(hint)


def _judging(settings: FitSettings, target: Target) -> list[str]:
    """A line with the command that judges the model, where the test images have both classes."""
    if np.unique(target.labels[target.test]).size < 2:
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


def _about(
    settings: FitSettings,
    store: Store,
    target: Target,
    rows: NDArray[np.int64],
    scaling: NDArray[np.int64],
    result: FitResult,
) -> dict[str, Any]:
    """What `model.json` says."""
    labels = target.labels[rows]
    how = store.manifest.get("settings") or {}
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "target": target.name,
        "mode": settings.mode,
        "preprocessing": {
            "store_size": int(store.manifest["size"]),
            "depth": how.get("depth", "full"),
            "voi": how.get("voi", "first"),
            "frames": how.get("frames", "first"),
            "any_body_part": bool(how.get("any_body_part", False)),
            "crop_mode": settings.crop_mode,
        },
        "training": {
            "images": len(rows),
            "patients": store.index["patient"][rows].n_unique(),
            "positives": int((labels == 1).sum()),
            "negatives": int((labels == 0).sum()),
            "uncertain": int((labels == 2).sum()),
            "fraction": settings.fraction,
            "draw": settings.draw,
            "standardized_on": scaling_facts(store, len(scaling)),
            "updates": result.updates,
            "validation_images": result.validation_images,
            "C": result.members[0].head.C or None,  # 0 of a head that was trained by gradient
            "notes": list(result.notes),
        },
        "store": {
            "sha256": store.sha256,
            "source": store.source,
            "synthetic": bool(store.manifest.get("synthetic")),
            "labels": store.label_state,
        },
        "settings": to_mapping(settings),
    }
