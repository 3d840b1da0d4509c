"""The only room that prints: messages, warnings, progress with rate and time left.

Everything goes to standard error, so that standard output stays free for results. On a terminal progress is a
live bar; elsewhere (a log file, CI) it is one line every `QUIET_SECONDS`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

QUIET_SECONDS = 20.0
"""Seconds between two progress lines where standard error is not a terminal."""


def say(text: str = "") -> None:
    """Print one message."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print one warning, marked as such."""
    say(f"warning: {text}")


def result(text: str) -> None:
    """Print a result to standard output (a table, a verdict, JSON)."""
    print(text, flush=True)


def duration(seconds: float) -> str:
    """`75` -> `1:15`, `3700` -> `1:01:40`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


class Progress:
    """One running job: `advance(n, **fields)` moves it; the fields (loss, ...) stand on the line.

    Args:
        label: what runs, e.g. `prepare`.
        total: how many units there are in all.
        unit: what is counted, in the plural, e.g. `films`.
        done: units done by an earlier run (they count for the bar, not for the rate).
    """

    def __init__(
        self, label: str, total: int, unit: str = "films", done: int = 0, stream: TextIO | None = None
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.skipped = done
        self.fields: dict[str, object] = {}
        self.started = time.perf_counter()
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._shown = self.started if not self._live else 0.0
        self._every = 0.2 if self._live else QUIET_SECONDS
        self._width = 0

    @property
    def rate(self) -> float:
        """Units a second since this run began."""
        return (self.done - self.skipped) / max(time.perf_counter() - self.started, 1e-9)

    def line(self) -> str:
        """The progress line as it would be printed now."""
        share = f"{100 * self.done / self.total:3.0f} %" if self.total else "100 %"
        left = (self.total - self.done) / self.rate if self.done > self.skipped else None
        parts = [f"{self.label} {share}  {self.done:,}/{self.total:,} {self.unit}"]
        if left is not None:
            rate = f"{self.rate:,.0f}" if self.rate >= 10 else f"{self.rate:.2f}"
            parts.append(f"{rate} {self.unit}/s  {duration(left)} left")
        parts += [f"{name} {value}" for name, value in self.fields.items()]
        return "  ".join(parts)

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count `n` more units and show the line when it is time."""
        self.done += n
        self.fields.update(fields)
        now = time.perf_counter()
        if now - self._shown >= self._every:
            self._shown = now
            self._write()

    def _write(self) -> None:
        text = self.line()
        if self._live:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def close(self, ok: bool = True) -> None:
        """End the bar; a finished job leaves one line that says how many and how long."""
        took = duration(time.perf_counter() - self.started)
        new = self.done - self.skipped
        text = f"{self.label}: {new:,} {self.unit} in {took}" + ("" if ok else " (stopped)")
        if self._live:
            self._stream.write("\r" + text.ljust(self._width) + "\n")
            self._stream.flush()
        else:
            self._stream.write(text + "\n")
            self._stream.flush()


@contextmanager
def progress(label: str, total: int, unit: str = "films", done: int = 0) -> Iterator[Progress]:
    """`with progress("prepare", n) as bar: bar.advance()`; closes the line whatever happens."""
    bar = Progress(label, total, unit, done)
    try:
        yield bar
    except BaseException:
        bar.close(ok=False)
        raise
    bar.close()
