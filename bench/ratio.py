"""What every benchmark here shares: sides measured in turn, medians, one row a figure.

A row is `name | ours | beside | ratio | bar | met`. Each side gives one number a round; the sides of a round follow
each other, in the other order every second round, and the ratio is the median over the rounds of the ratio within a
round: what else the machine does then weighs on both. A row whose library is missing, or that fails, says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

HEAD = "| figure | ours | beside it | ratio | bar | met |\n|---|---|---|---|---|---|"
Found = Mapping[str, list[float]]


@dataclass(frozen=True)
class Row:
    """One figure of the table; `met` is `yes`, `no`, or why there is no answer."""

    name: str
    ours: str
    beside: str
    ratio: float | None
    bar: str
    met: str

    @classmethod
    def missing(cls, name: str, why: str) -> Row:
        return cls(name, "", "", None, "", why)

    def line(self) -> str:
        ratio = "" if self.ratio is None else f"{self.ratio:.3g}"
        return f"| {self.name} | {self.ours} | {self.beside} | {ratio} | {self.bar} | {self.met} |"


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The numbers of each side, one a round, in the order of the rounds."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        names = list(sides)
        for name in names if turn % 2 == 0 else reversed(names):
            found[name].append(sides[name]())
    return found


def median_ratio(top: Iterable[float], bottom: Iterable[float]) -> float:
    """The median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(top, bottom, strict=True))


def row(
    name: str, found: Found, ours: str, beside: str, bar: float, *, unit: str = "images/s", at_most: bool = False
) -> Row:
    """The row of two sides, more being better on both (or less: the unit `s`, where the ratio is turned round)."""
    a, b = found[ours], found[beside]
    ratio = median_ratio(b, a) if unit == "s" else median_ratio(a, b)
    good = ratio <= bar if at_most else ratio >= bar
    return Row(
        name,
        shown(statistics.median(a), unit),
        f"{beside}: {shown(statistics.median(b), unit)}",
        ratio,
        f"at {'most' if at_most else 'least'} {bar:g}",
        "yes" if good else "no",
    )


def shown(value: float, unit: str) -> str:
    """A number with its unit, three figures or whole."""
    if unit == "s" and value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def processor_rate(work: Callable[[int], object], each: int, seconds: float = 0.5) -> float:
    """Things done a second of processor time, where a call of `work` does `each` of them."""
    work(0)
    calls, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        calls += 1
        work(calls)
    return calls * each / spent


def main(
    description: str | None, subjects: Mapping[str, Callable[[int], Iterator[Row]]], argv: list[str] | None = None
) -> int:
    """Measure the subjects and print their rows as they come; 1 where one failed.

    Args:
        subjects: name -> rounds -> rows.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(subjects), default=None)
    parser.add_argument("--cores", type=int, default=None, help="use so many cores only; all by default")
    parser.add_argument("--json", type=Path, default=None, help="the rows, for bench/all.py")
    asked = parser.parse_args(argv)
    if asked.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.cores])
    print(HEAD)
    rows: list[Row] = []
    failed = False
    for name, measure in subjects.items():
        if asked.only not in (None, name):
            continue
        try:
            for one in measure(asked.rounds):
                rows.append(one)
                print(one.line(), flush=True)
        except ImportError as error:
            rows.append(Row.missing(name, f"skipped: {error}"))
            print(rows[-1].line(), flush=True)
        except Exception as error:  # one figure that fails does not take the others with it
            traceback.print_exc()
            failed = True
            rows.append(Row.missing(name, f"failed: {type(error).__name__}"))
            print(rows[-1].line(), flush=True)
        if asked.json:
            asked.json.write_text(json.dumps([asdict(one) for one in rows], indent=1))
    return int(failed)
