"""`embed`: the features of every image of a store; and how `fit`, `forecast` and `next` read the features they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from mococxr import console
from mococxr.classifier.origin import origin_of
from mococxr.classifier.overlap import overlap
from mococxr.encoders import Encoder, EncoderSource, encoder_names, open_encoder, resolve_encoders
from mococxr.feature_cache import FeatureCache, counts_words, keys_of, read_features, rounded, trim
from mococxr.features import features, pick_device, seconds_per_image, set_threads, state_hash
from mococxr.files import check_place, write_parquet
from mococxr.heads.classifier import TrainConfig
from mococxr.settings import EmbedSettings, FitSettings, NextSettings, TrainingSettings
from mococxr.store import Store

Values = NDArray[np.float32]
Reader = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Rows of a store -> features (N, D)."""


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


def feature_reader(
    settings: TrainingSettings | NextSettings, sources: Sequence[EncoderSource], encoders: Sequence[Encoder], store: Store,
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


def encoder_facts(
    text: str, sources: Sequence[EncoderSource], encoders: Sequence[Encoder], store: Store
) -> list[dict[str, Any]]:
    """Of each encoder its name, the side of its frames, its spec, how it came to be and what it saw of the store."""
    return [
        {
            "name": str(name),
            "frame": source.spec.size,
            **dataclasses.asdict(encoder.spec),
            "origin": origin_of(source.path, str(name)),
            "seen": overlap(store, source),
        }
        for name, source, encoder in zip(encoder_names(text), sources, encoders, strict=True)
    ]


def _beside(readers: Sequence[Reader]) -> Reader:
    """The features of several encoders side by side."""
    return lambda rows: np.concatenate([read(rows) for read in readers], axis=1)


def in_one_pass(read: Reader, *parts: NDArray[np.int64]) -> Reader:
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
    sources = resolve_encoders(encoders, **settings.encoder_options)
    opened = [open_encoder(source, settings.seed) for source in sources]
    return in_one_pass(feature_reader(settings, sources, opened, store, config), *parts)
