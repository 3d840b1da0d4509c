"""What the encoders of a classifier saw, without labels, of the images that are to judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mococxr.encoders import SETS, EncoderSource, display_name, shared_sets
from mococxr.encoders.seen import files_seen, patients_seen, published_of
from mococxr.store import Store

Facts = dict[str, Any]
HELD = {"val": "validation", "test": "test"}


def overlap(store: Store, source: EncoderSource) -> Facts:
    """What an encoder saw of a store's validation and test images, for `model.json`.

    Returns:
        `store`, the source of the store; `sets`, `known`, `labels` of published weights (`known` null without any);
        `splits`: for val and test `of` patients, those it saw and the files it saw; null of an encoder that is no run, or of
        one that does not say.
    """
    published, counts = published_of(source), None
    patients = patients_seen(source.path, store.source) if source.kind == "run" and source.path else None
    if patients is not None and source.path:
        files = files_seen(source.path) or set()
        counts = {}
        for split in HELD:
            rows = store.index[store.rows_in(split)]
            held = rows["patient"].unique()
            counts[split] = {
                "of": len(held),
                "patients": len(patients & set(held.to_list())),
                "files": int(rows["sha256"].is_in(pl.Series(sorted(files), dtype=pl.String).implode()).sum()),
            }
    return {
        "store": store.source,
        "sets": list(published.sets) if published else [],
        "known": published.known if published else None,
        "labels": bool(published and published.labels),
        "splits": counts,
    }


def overlap_words(encoders: Sequence[Mapping[str, Any]], source: str, splits: Sequence[str]) -> list[str]:
    """Warnings of what encoders saw of a store's splits, or may have seen.

    Args:
        encoders: of `model.json`, each with `seen` as `overlap` gives it.
        source: of the store.
    """
    warnings = []
    for encoder in encoders:
        seen, name = encoder.get("seen") or {}, display_name(encoder["name"])
        counts = (seen.get("splits") or {}) if seen.get("store") == source else {}
        for split in splits:
            if (count := counts.get(split)) and (count["patients"] or count["files"]):
                warnings.append(
                    f"The encoder {name} was pretrained, without labels, on images of {count['patients']:,} of the "
                    f"{count['of']:,} {HELD[split]} patients ({count['files']:,} of the same files): scores on them may be "
                    "too high."
                )
        if both := shared_sets(source, tuple(seen.get("sets", ()))):
            how = "with" if seen["labels"] else "without"
            known = ", ".join(SETS[key] for key in both)
            warnings.append(
                f"The encoder {name} has weights that were trained, {how} labels, on {known}, where images of this "
                f"store ({source}) come from: scores on its test images may be too high."
            )
    return warnings
