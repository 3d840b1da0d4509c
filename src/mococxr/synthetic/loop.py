"""`demo --loop`: no label at first; rounds of `next`, `label`, `fit`, `forecast`, `predict` and `evaluate`.

The oracle is the table of the synthetic images: it fills in a list as a reader would, and the ordinary commands do the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from mococxr import commands, console
from mococxr.files import write_csv

SPLIT = (0.6, 0.1, 0.3)
TEST, FIRST, ROUNDS = 120, 40, 4
"""Test images that are labelled, labels after the first round, and rounds, each of which doubles the labels."""
READER = "oracle"
KNOWN = ("path", "patient", "study", "view", "sex", "age")
"""Columns of the table of images that a reader has not seen: no finding."""
HEADS = ("round", "labels", "positive", "AUROC on the test labels", "forecast for twice as many")


def run_loop(out: Path, images: Path, target: str, sizes: tuple[int, int], seed: int, **pretraining: Any) -> Path:
    """Prepare the images without labels, pretrain, label a test set, and learn from more labels round after round.

    A stopped demo goes on: lists that are there are labelled again, which changes nothing.

    Args:
        images: folder of synthetic images, with the table that the oracle reads from.
        sizes: shorter side of a stored image, and of a view, px.
        pretraining: settings of `pretrain`.

    Returns:
        The page of the last evaluation.
    """
    from mococxr.encoders import quoted  # with torch, which `--help` does without

    truth, store, encoder = pl.read_csv(images / "labels.csv"), out / "store", out / "run"
    write_csv(images / "unlabelled.csv", truth.select(name for name in KNOWN if name in truth.columns))
    commands.say_and_run(
        "prepare", source=images / "unlabelled.csv", out=store, size=sizes[0], split=SPLIT, split_seed=seed
    )
    commands.say_and_run(
        "pretrain", stores=[store], out=encoder, size=sizes[1], seed=seed,
        resume=(encoder / "settings.yaml").is_file() or None, **pretraining,
    )  # fmt: skip
    _read(store, out / "test.csv", truth, target, seed, count=TEST, split="test")
    how = {
        "store": store,
        "encoder": quoted(encoder),
        "target": target,
        "seed": seed,
        "feature_cache": out / "features",
    }
    rows, labels = [], 0
    for number in range(1, ROUNDS + 1):
        count = FIRST * 2 ** (number - 1)
        _read(store, out / f"round-{number}.csv", truth, target, seed, count=count - labels)
        labels = count
        rows.append((number, *_learn(out, number, how)))
    models = [out / f"model-{number}" for number in (1, ROUNDS)]
    commands.say_and_run("evaluate", predictions=[*models, store], out=out / "evaluation")
    table = pl.DataFrame([[str(cell) for cell in row] for row in rows], schema=HEADS, orient="row")
    write_csv(out / "rounds.csv", table)
    _close(table, out / "evaluation" / "evaluation.html")
    return out / "evaluation" / "evaluation.html"


def _read(store: Path, file: Path, truth: pl.DataFrame, target: str, seed: int, **chosen: Any) -> None:
    """Ask for images, have the oracle fill in the list, and enter its labels."""
    if not file.is_file():
        commands.say_and_run("next", store=store, target=[target], seed=seed, out=file, **chosen)
    asked = pl.read_csv(file).drop(target)
    write_csv(file, asked.join(truth.select("path", target), on="path", how="left", maintain_order="left"))
    console.say(f"\n({READER} reads {len(asked):,} images: the truth of the synthetic images fills in {file.name})")
    commands.say_and_run("label", store=store, table=file, label=[target], reader=READER)


def _learn(out: Path, number: int, how: dict[str, Any]) -> tuple[int, int, str, str]:
    """Fit, forecast and evaluate on the labels so far: how many, how many positive, the AUROC and the forecast."""
    model, scores = out / f"model-{number}", out / f"scores-{number}.csv"
    commands.say_and_run("fit", **how, onnx=False, out=model)
    forecast = commands.say_and_run("forecast", **how)
    commands.say_and_run("predict", model=model, images=[how["store"]], split="test", out=scores)
    judged = commands.say_and_run("evaluate", predictions=[scores], label=["label"], score=["score"], patient="patient")
    ahead = next((row for row in forecast["ahead"] if row["labels"] == 2 * forecast["labels"]), None)
    words = "cannot be said yet" if ahead is None or ahead.get("reason") else _number(ahead)
    return forecast["labels"], forecast["positives"], _number(judged["interval"]), words


def _number(block: dict[str, Any]) -> str:
    if block["low"] is None:
        return f"{block['value']:.3f}"
    return f"{block['value']:.3f} ({block['low']:.3f} to {block['high']:.3f})"


def _close(table: pl.DataFrame, page: Path) -> None:
    rows = [HEADS, *table.iter_rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    console.say()
    for row in rows:
        console.result("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    console.result("AUROC: 95 % interval over test patients. Forecast: 90 %; the row below is what came of it.")
    console.result(f"Open {page} in a browser: the first model beside the last, and where they are wrong.")
    console.result("This demonstrates the way and proves nothing: the images and their reader are synthetic.")
