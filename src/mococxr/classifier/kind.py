"""How a classifier, scores and features are recognised, and what is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from mococxr.kinds import About, Content, Kind, columns_of


def _model(_: Path, model: Content) -> About:
    targets = model["targets"]
    return About(
        numbers={
            "targets": [block["target"] for block in targets],
            "mode": model["mode"],
            "encoder": [encoder["name"] for encoder in model["encoders"]],
            **{name: value for block in targets for name, value in _of_target(block, len(targets) > 1).items()},
            "scores without PyTorch": bool((model.get("onnx") or {}).get("file")),
        },
        made_from={"source": model["store"]["source"], "store": model["store"]["sha256"]},
        settings=model["settings"],
        version=model["version"],
        created=model["created"],
        next="mococxr evaluate {path} STORE",
    )


def _of_target(block: Content, several: bool) -> dict[str, Any]:
    """Images, calibration and threshold of a target, named after it where there are several."""
    training, threshold = block["training"], block["threshold"]
    facts = {
        "training images": training["images"],
        "positive": training["positives"],
        "calibration": block["calibration"].get("method") or block["calibration"].get("reason"),
        "threshold": threshold.get("reason") if threshold.get("value") is None else threshold["value"],
    }
    return {f"{name}, {block['target']}" if several else name: value for name, value in facts.items()}


def _scores(path: Path, _: Content) -> About:
    table = pl.read_csv(path, infer_schema=False)
    calls = {name: int((table[name] == "1").sum()) for name in table.columns if name.startswith("decision")}
    return About(
        numbers={
            "images": len(table),
            **{
                name.replace("decision", "called positive").replace("_", ", ", 1): count
                for name, count in calls.items()
            },
            "labels": any(name.startswith("label") for name in table.columns),
        },
        next="mococxr evaluate {path} --label label --score score" if "label" in table.columns else "",
    )


def _are_scores(path: Path) -> bool:
    names = columns_of(path)
    return "path" in names and all(any(name.startswith(word) for name in names) for word in ("score", "decision"))


def _features(path: Path, _: Content) -> About:
    table = pl.read_parquet(path)
    return About(
        numbers={"images": len(table), "features": len(table["features"][0]) if len(table) else 0},
        next="mococxr study STORE --target TARGET --arm mine={path} --out study",
    )


def _are_features(path: Path) -> bool:
    return path.suffix == ".parquet" and {"path", "features"} <= set(pl.read_parquet_schema(path))


MODEL = Kind("model", "fit", "model.json", frozenset({"targets", "encoders", "weights_sha256"}), _model)
SCORES = Kind("scores", "predict", "", frozenset(), _scores, _are_scores)
FEATURES = Kind("features", "embed", "", frozenset(), _features, _are_features)
