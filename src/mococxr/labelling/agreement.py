"""The command `agreement`: where two readers saw the same images, how far they agree, and which label stands then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import polars as pl

from mococxr import console, files
from mococxr.errors import InputError, UndefinedError
from mococxr.labelling.label import enter
from mococxr.labelling.state import aligned
from mococxr.metrics import kappa
from mococxr.settings import AgreementSettings, nearest
from mococxr.store import Store
from mococxr.store.label_history import EVENTS, RESOLVED, standing

WORDS = {1: "yes", 0: "no", -1: "uncertain"}
RULES = ("uncertain", "majority", "none")
SHOWN = 20
"""Disagreements that are shown; `--out` has all."""


def run(settings: AgreementSettings) -> Store:
    """Say how far readers agree, list where they do not, and enter the label that the rule gives.

    Returns:
        The store with the labels that then stand.

    Raises:
        InputError: no image that two readers saw, or a rule that is none; nothing was written.
    """
    store = Store.open(settings.store)
    read_twice = _read_twice(store, settings.target)
    readers = sorted({name for row in read_twice.iter_rows(named=True) for name in row["answers"]})
    if settings.resolve not in (*RULES, *readers):
        raise InputError(
            f"--resolve {settings.resolve!r} is neither {', '.join(RULES)} nor a reader.",
            nearest(settings.resolve, readers),
        )
    console.result(
        aligned([["finding", "readers", "images", "agree", "kappa"], *_pairs(store, read_twice, settings.seed)])
    )
    apart = _apart(read_twice, readers, settings.resolve)
    _say(apart, settings)
    if settings.resolve != "none":
        _, new = enter(settings.store, _events(store, read_twice, settings.resolve))
        console.say(f"{len(new):,} labels entered by {RESOLVED!r}; `retract --reader {RESOLVED}` takes them back.")
    return Store.open(settings.store)


def _read_twice(store: Store, targets: Sequence[str]) -> pl.DataFrame:
    """`path, target, answers, chosen_by, probability` of what two readers or more have labelled."""
    for name in targets:
        if name not in store.labels:
            raise InputError(f"The store has no finding {name!r}.", nearest(name, store.labels))
    events = standing(store.history).filter(pl.col("target").is_in(targets), pl.col("reader") != RESOLVED)
    rows = []
    for (path, target), group in events.group_by("path", "target", maintain_order=True):
        if len(group) > 1:
            answers = dict(group.sort("reader").select("reader", "value").iter_rows())
            rows.append((path, target, answers, *group.select("chosen_by", "probability").row(-1)))
    if not rows:
        raise InputError(
            f"No image has labels of two readers for {', '.join(targets)}.",
            "Let two readers label some: `next --overlap 0.1` lists images for both.",
        )
    columns = {
        "path": pl.String,
        "target": pl.String,
        "answers": pl.Object,
        "chosen_by": pl.String,
        "probability": pl.Float64,
    }
    return pl.DataFrame(rows, schema=columns, orient="row")


def _pairs(store: Store, read_twice: pl.DataFrame, seed: int) -> list[list[str]]:
    """A row for each finding and pair of readers: images, the share on which they agree, kappa."""
    patients = dict(store.columns("path", "patient").iter_rows())
    pairs: dict[tuple[str, str, str], list[tuple[int, int, str]]] = {}
    for row in read_twice.iter_rows(named=True):
        for (a, first), (b, second) in combinations(row["answers"].items(), 2):
            pairs.setdefault((row["target"], a, b), []).append((first, second, patients[row["path"]]))
    rows = []
    for (target, a, b), read in sorted(pairs.items()):
        first, second, whose = zip(*read, strict=True)
        same = sum(x == y for x, y in zip(first, second, strict=True))
        shown = f"{same:,} ({100 * same / len(read):.0f} %)"
        words, reason = _kappa_words(first, second, whose, seed)
        rows.append([target, f"{a}, {b}", f"{len(read):,}", shown, words])
        if reason:
            console.say(f"{target}, {a} and {b}: {reason}.")
    return rows


def _kappa_words(
    first: Sequence[int], second: Sequence[int], patients: Sequence[str], seed: int
) -> tuple[str, str | None]:
    """Kappa with its interval, and why one of them is not there."""
    try:
        result = kappa(first, second, patients, seed=seed)
    except UndefinedError as error:
        return "undefined", str(error)
    interval = "no interval" if result.low is None else f"{result.low:.2f} to {result.high:.2f}"
    return f"{result.value:.2f} ({interval})", result.reason


def _rule(answers: Mapping[str, int], resolve: str) -> int:
    """The label of an image with these answers; where the rule says nothing, uncertain."""
    if len(set(answers.values())) == 1:
        return next(iter(answers.values()))
    if resolve == "majority":
        (first, most), (_, next_most) = Counter(answers.values()).most_common(2)
        return first if most > next_most else -1
    return answers.get(resolve, -1)


def _apart(read_twice: pl.DataFrame, readers: Sequence[str], resolve: str) -> pl.DataFrame:
    """`path, target`, a column a reader, `resolved`: where readers do not agree."""
    rows = [row for row in read_twice.iter_rows(named=True) if len(set(row["answers"].values())) > 1]
    columns = {name: [row["answers"].get(name) for row in rows] for name in readers}
    if resolve != "none":
        columns["resolved"] = [_rule(row["answers"], resolve) for row in rows]
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Int8))
    return pl.DataFrame({name: [row[name] for row in rows] for name in ("path", "target")}).hstack(frame.get_columns())


def _say(apart: pl.DataFrame, settings: AgreementSettings) -> None:
    console.say(
        f"Disagreements: {len(apart):,}" + (", resolved as " + settings.resolve if settings.resolve != "none" else "")
    )
    words = apart.head(SHOWN).with_columns(
        pl.exclude("path", "target").replace_strict(WORDS, default="", return_dtype=pl.String)
    )
    if len(apart):
        console.result(aligned([apart.columns, *([cell or "" for cell in row] for row in words.iter_rows())]))
    if settings.out is not None:
        files.write_csv(settings.out, apart)
        console.say(f"All of them: {settings.out}")
    elif len(apart) > SHOWN:
        console.say(f"and {len(apart) - SHOWN:,} more; --out FILE.csv has all.")


def _events(store: Store, read_twice: pl.DataFrame, resolve: str) -> pl.DataFrame:
    """A label by the rule for each image where another one stands now; how the image was chosen stays with it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    stands = {name: dict(store.index.select("path", name).iter_rows()) for name in set(read_twice["target"])}
    rows = []
    for row in read_twice.iter_rows(named=True):
        value = _rule(row["answers"], resolve)
        if stands[row["target"]][row["path"]] != value:
            answers = ", ".join(f"{name} {WORDS[answer]}" for name, answer in row["answers"].items())
            note = f"{resolve}: {answers}"
            how = (row["chosen_by"], row["probability"])
            rows.append((row["path"], row["target"], value, RESOLVED, now, *how, note))
    schema = {name: kind for name, kind in EVENTS.items() if name not in ("event", "entered")}
    return pl.DataFrame(rows, schema=schema, orient="row")
