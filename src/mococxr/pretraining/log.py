"""`log.jsonl`, and what it says of the run: judged line by line, a bad word warned of once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mococxr import console
from mococxr.files import atomic_write, write_json
from mococxr.pretraining import diagnostics

LOG, HEALTH = "log.jsonl", "health.json"
ALWAYS = 100
"""Lines each of which is judged; a longer log is judged at every hundredth of the run."""


class Log:
    """One object a logged step, appended with its verdict; on resume cut back to the checkpoint.

    `health.json` beside it holds the latest word with reason and remedy, from the first word on.

    Args:
        path: the file.
        step: of the checkpoint that is gone on from, or 0.
        worlds: [first step, processes] for each number of processes that the run has had.
        run: what the log is judged by.
    """

    def __init__(self, path: Path, step: int, worlds: list[list[int]], run: diagnostics.Run) -> None:
        self.path, self.worlds, self.run = path, worlds, run
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.entries = [entry for line in lines if (entry := _whole(line)) and entry["step"] <= step]
        atomic_write(path, "".join(json.dumps(entry) + "\n" for entry in self.entries))
        self.verdict = diagnostics.judge(self.entries, run)
        self.warned = {str(entry["verdict"]) for entry in self.entries}

    def add(self, entry: dict[str, Any]) -> str:
        """Append one step, judged; returns the word."""
        self.entries.append(entry)
        if self._due():
            self._judge(entry["step"])
        entry["verdict"] = self.verdict.word
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        return self.verdict.word

    def died(self, verdict: diagnostics.Verdict, step: int) -> None:
        """Keep the verdict on a run that cannot go on; whoever ends it says so."""
        self.verdict = verdict
        self._keep(step)

    def _due(self) -> bool:
        if len(self.entries) <= ALWAYS or self.entries[-1]["step"] == self.run.steps:
            return True
        before, now = (entry["step"] * 100 // self.run.steps for entry in self.entries[-2:])
        return before != now

    def _judge(self, step: int) -> None:
        before, self.verdict = self.verdict, diagnostics.judge(self.entries, self.run)
        if self.verdict.word != before.word or step == self.run.steps:
            self._keep(step)
        if self.verdict.bad and self.verdict.word not in self.warned:
            self.warned.add(self.verdict.word)
            console.warn(f"after step {step:,} of {self.run.steps:,} this run looks bad: {self.verdict}")

    def _keep(self, step: int) -> None:
        write_json(self.path.with_name(HEALTH), {"step": step, **self.verdict.facts()})


def _whole(line: str) -> dict[str, Any] | None:
    """A logged object; None for the torn last line of a killed run."""
    try:
        return json.loads(line)
    except ValueError:
        return None
