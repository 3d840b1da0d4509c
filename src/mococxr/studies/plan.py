"""Arms as the user wrote them -> encoders; arms, modes, targets, fractions and draws -> trials with ids."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mococxr.encoders import BUILT_IN, EncoderSource, resolve_encoder, short_name
from mococxr.errors import InputError, UndefinedError
from mococxr.heads.targets import Target, draw_labelled
from mococxr.store import Store


@dataclass(frozen=True)
class Arm:
    """One arm of the comparison: a name, and an encoder for each of its pretraining runs.

    `runs[i]` names `sources[i]` in tables.
    """

    name: str
    sources: tuple[EncoderSource, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Draw:
    """The training rows of one draw of labels; `rows` is empty where `undefined` gives the reason."""

    target: str
    fraction: float
    draw: int
    rows: tuple[int, ...]
    undefined: str = ""


@dataclass(frozen=True)
class Trial:
    """One classifier to train and judge. `run_index` counts the runs of the arm from 0."""

    id: str
    arm: str
    run: str
    run_index: int
    mode: str
    target: str
    fraction: float
    draw: int


def slug(text: str) -> str:
    """Text as a part of a file name: plain letters, digits, `.`, `_` and `-`; two texts never share one."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", text)[:60]
    same = plain == text and not text.startswith(".")
    return plain if same else f"{plain.lstrip('.')}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def read_arms(texts: Sequence[str], backbone: str | None, size: int | None) -> list[Arm]:
    """Arms in the order given.

    Args:
        texts: `NAME`, `NAME=ENCODER` or `NAME=RUN1,RUN2`; a bare one is an encoder, named after
            the last part of its name.
        backbone, size: for `imagenet` and `random`; None takes those of the first run among the arms. A size given
            holds for every arm; otherwise each has its own.

    Raises:
        InputError: a name twice, an encoder that is not there, or one that nobody says how to build.
    """
    named = [_parts(text) for text in texts]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two arms are named {name!r}.", "Name each arm once: --arm NAME=ENCODER.")
    runs = [
        encoder for _, encoders in named for encoder in encoders if Path(encoder, "encoder.json").is_file()
    ]
    like = resolve_encoder(runs[0]).spec if runs else None
    return [_arm(name, encoders, backbone, size, like) for name, encoders in named]


def _arm(name: str, encoders: list[str], backbone: str | None, size: int | None, like: object) -> Arm:
    sources = tuple(
        resolve_encoder(encoder, backbone=backbone, size=size, like=like)  # type: ignore[arg-type]
        for encoder in encoders
    )
    last = [short_name(encoder) for encoder in encoders]
    return Arm(name, sources, tuple(last if len(set(last)) == len(last) else encoders))


def _parts(text: str) -> tuple[str, list[str]]:
    name, equals, rest = text.partition("=")
    encoders = [part for part in (rest if equals else text).split(",") if part]
    name = name.strip() if equals else short_name(text)
    if not name or not encoders:
        raise InputError(
            f"--arm {text!r} names no encoder.",
            "Write --arm NAME=RUN, --arm imagenet, --arm random or --arm NAME=hf:OWNER/NAME.",
        )
    if len(set(encoders)) < len(encoders) or (len(encoders) > 1 and set(encoders) & set(BUILT_IN)):
        raise InputError(
            f"--arm {text!r} mixes or repeats encoders.", "Several encoders of an arm are different runs."
        )
    return name, encoders


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse no fraction, or two that files and trials could not tell apart.

    Raises:
        InputError: none, or two that are one when written in 6 digits.
    """
    if not fractions or len({f"{fraction:g}" for fraction in fractions}) < len(fractions):
        raise InputError("--fraction is empty or has a value twice.", "Give each fraction once, in 6 digits.")


def make_draws(
    store: Store, targets: Sequence[Target], fractions: Sequence[float], draws: int, seed: int
) -> list[Draw]:
    """All draws of labels: the same for every arm and mode; at fraction 1 there is one."""
    made = []
    for target, fraction in itertools.product(targets, sorted(fractions)):
        for draw in range(1 if fraction == 1 else draws):
            try:
                rows = draw_labelled(store, target, fraction, draw, seed)
                made.append(Draw(target.name, fraction, draw, tuple(rows.tolist())))
            except UndefinedError as error:
                made.append(Draw(target.name, fraction, draw, (), str(error)))
    return made


def draw_table(store: Store, draw: Draw) -> pl.DataFrame:
    """`row, path, patient` of a draw."""
    rows = list(draw.rows)
    return store.index.select("path", "patient")[rows].select(
        pl.Series("row", rows, dtype=pl.Int64), "path", "patient"
    )


def plan_trials(arms: Sequence[Arm], modes: Sequence[str], draws: Sequence[Draw]) -> list[Trial]:
    """Every trial, in the order target, fraction, draw, mode, arm, run."""
    return [
        Trial(
            "-".join(map(slug, (draw.target, mode, arm.name))) + f"-{index}-{draw.fraction:g}-{draw.draw}",
            arm.name, run, index, mode, draw.target, draw.fraction, draw.draw,
        )
        for draw in draws
        for mode in modes
        for arm in arms
        for index, run in enumerate(arm.runs)
    ]  # fmt: skip
