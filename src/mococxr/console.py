"""The only room that prints: messages, warnings, progress with rate and time left.

Everything goes to standard error, so that standard output stays free for results. On a terminal progress is a
live bar; elsewhere (a log file, CI) it is one line every `QUIET_SECONDS`.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import rich.progress

QUIET_SECONDS = 20.0
"""Seconds between two progress lines where standard error is not a terminal."""
LIVE_SECONDS = 0.25
"""Seconds between two states of the live bar on a terminal."""
NARROW, WIDE = 60, 100
"""Columns that sentences are wrapped to, at least and at most."""


@dataclass
class Manner:
    """How much is printed, for the whole process.

    Args:
        quiet: no messages and no progress: results, warnings and errors alone.
        verbose: details, too.
        json: standard output has one JSON document alone; results are messages then.
    """

    quiet: bool = False
    verbose: bool = False
    json: bool = False


manner = Manner()


def say(text: str = "") -> None:
    """Print one message."""
    if not manner.quiet:
        error(text)


def detail(text: str) -> None:
    """Print what only --verbose asks for."""
    if manner.verbose:
        error(text)


def warn(text: str) -> None:
    """Print one warning, marked as such."""
    error(f"warning: {text}")


def error(text: str) -> None:
    """Print what nobody may miss."""
    print(text, file=sys.stderr, flush=True)


def result(text: str) -> None:
    """Print a result to standard output (a table, a verdict)."""
    if manner.json:
        say(text)
    else:
        print(text, flush=True)  # in a pipe Python would keep it back until much later


def document(content: Mapping[str, Any]) -> None:
    """Print a result as JSON to standard output, for programs."""
    print(json.dumps(content, indent=2, ensure_ascii=False, default=str), flush=True)


def wrapped(text: str, first: str = "", indent: str | None = None) -> str:
    """A sentence on as many lines as the terminal needs; 100 columns where there is none.

    Args:
        first: before the first line.
        indent: before each other line; None for as many blanks as `first` has.
    """
    columns = shutil.get_terminal_size((WIDE, 24)).columns if sys.stderr.isatty() else WIDE
    return textwrap.fill(
        text, max(NARROW, min(WIDE, columns)) - 1, initial_indent=first,
        subsequent_indent=" " * len(first) if indent is None else indent, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def duration(seconds: float) -> str:
    """`75` -> `1:15`, `3700` -> `1:01:40`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


_live: list[Progress] = []  # a terminal has room for one bar: a job inside another is shown in lines


class Progress:
    """One running job: `advance(n, **fields)` moves it; the fields (loss, ...) stand on the line.

    Making one shows nothing: `progress` below puts it on the terminal and takes it off again, whatever happens.

    Args:
        label: what runs, e.g. `prepare`.
        total: how many units there are in all.
        unit: what is counted, in the plural, e.g. `images`.
        done: units done by an earlier run (they count for the bar, not for the rate).
        stream: where it is shown; standard error by default.
        shown: False where another process shows the same job.
    """

    def __init__(
        self,
        label: str,
        total: int,
        unit: str = "images",
        done: int = 0,
        stream: TextIO | None = None,
        shown: bool = True,
    ) -> None:
        self.label, self.total, self.unit, self.shown = label, total, unit, shown and not manner.quiet
        self.done = self.skipped = done
        self.surplus = 0.0
        self.fields: dict[str, object] = {}
        self.started = self._drawn = self._paced_at = time.perf_counter()
        self._paced_from = done
        self._stream = stream or sys.stderr
        self._bar: rich.progress.Progress | None = None

    def start(self) -> None:
        """Take the terminal, if there is one and no other job has it."""
        if self.shown and self._stream.isatty() and not _live:
            _live.append(self)  # first: a Ctrl-C while the bar is drawn must still find it
            self._bar = _live_bar(self)

    @property
    def rate(self) -> float:
        """Units a second since this run began, or since its last change of pace."""
        return (self.done - self._paced_from) / max(time.perf_counter() - self._paced_at, 1e-9)

    def change_pace(self, surplus: float) -> None:
        """Units take another time from now on: count rate and time left from here.

        Args:
            surplus: what units that take another time again, later, cost beyond as many of these, in units of these.
        """
        self.surplus, self._paced_from, self._paced_at = surplus, self.done, time.perf_counter()

    def numbers(self) -> str:
        """Count, rate, time left and fields, as they stand now."""
        parts = [f"{self.done:,}/{self.total:,} {self.unit}"]
        if self.done > self._paced_from:
            rate = f"{self.rate:,.0f}" if self.rate >= 10 else f"{self.rate:.2f}"
            parts.append(f"{rate} {self.unit}/s")
            parts.append(f"{duration((self.total - self.done + self.surplus) / self.rate)} left")
        parts += [f"{name} {value}" for name, value in self.fields.items()]
        return "  ".join(parts)

    def line(self) -> str:
        """The progress line as it would be printed now where there is no terminal."""
        share = f"{100 * self.done / self.total:3.0f} %" if self.total else "100 %"
        return f"{self.label} {share}  {self.numbers()}"

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count `n` more units and show them when it is time."""
        self.done += n
        self.fields.update(fields)
        now = time.perf_counter()
        if now - self._drawn < (LIVE_SECONDS if self._bar else QUIET_SECONDS):
            return
        self._drawn = now
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=self.done, numbers=self.numbers(), refresh=True)
        else:
            self._write(self.line())

    def close(self, ok: bool = True) -> None:
        """End the bar; one line stays that says how many and how long."""
        if self._bar:
            self._bar.stop()  # shows the cursor again
        if self in _live:
            _live.remove(self)
        took = duration(time.perf_counter() - self.started)
        new = self.done - self.skipped
        self._write(f"{self.label}: {new:,} {self.unit} in {took}" + ("" if ok else " (stopped)"))

    def _write(self, text: str) -> None:
        if self.shown:
            self._stream.write(text + "\n")
            self._stream.flush()


def _live_bar(job: Progress) -> rich.progress.Progress:
    """A bar of rich's, drawn when the job advances: it has no thread, so that forking is safe."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Column

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TaskProgressColumn(),
        # brackets in a name are no markup
        TextColumn("{task.fields[numbers]}", markup=False, table_column=Column(ratio=1)),
        console=Console(file=job._stream),
        auto_refresh=False,
        expand=True,
        transient=True,  # its last state gives way to the line of `close`
    )
    bar.add_task(job.label, total=job.total, completed=job.done, numbers=job.numbers())
    bar.start()
    return bar


@contextmanager
def progress(label: str, total: int, unit: str = "images", done: int = 0, shown: bool = True) -> Iterator[Progress]:
    """`with progress("prepare", n) as bar: bar.advance()`; closes the line whatever happens."""
    bar = Progress(label, total, unit, done, shown=shown)
    try:
        bar.start()
        yield bar
    except BaseException:  # Ctrl-C, too, must give the cursor back
        bar.close(ok=False)
        raise
    bar.close()
