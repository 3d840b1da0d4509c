"""The loop: steps, log lines, checkpoints, verdicts. What is measured on the way moves no number."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import torch
from accelerate import Accelerator
from torch import Tensor

from mococxr import console
from mococxr.errors import RunError
from mococxr.files import atomic_write, write_json
from mococxr.pretraining import diagnostics
from mococxr.pretraining.hardware import broadcast_decision, generators_of, seed_generators
from mococxr.pretraining.loader import BatchLoader
from mococxr.pretraining.method import Method, StepResult, learning_rate
from mococxr.pretraining.phases import Phases
from mococxr.pretraining.run_folder import checkpoints, latest_checkpoint, save_checkpoint, world_sizes
from mococxr.pretraining.selection import NOT_EVALUATED, Selection
from mococxr.settings import PretrainSettings
from mococxr.trackers import Tracker


class Monitor:
    """Measures of a run between two log lines: nothing waits for the device but at a line.

    Every process calls it at the same step, since the answers are those of all. Made before a checkpoint is restored:
    the weights that it starts from are those of the start.
    """

    COLUMNS = ("view_difference", "gradient_norm", "weight_norm_ratio")
    """What it measures of every method, beside the method's own columns."""

    def __init__(self, method: Method) -> None:
        self.method, self.device = method, method.device
        self.start = diagnostics.weight_sample(method.network)
        self.sums = torch.zeros(len(method.RUNNING) + 1, device=self.device)  # the last place counts steps
        self.bad = torch.zeros((), dtype=torch.long, device=self.device)  # 0: none; steps count from 1 here

    def add(self, step: int, result: StepResult) -> None:
        """Record a step, numbered from 0."""
        self.sums[:-1] += self.method.running(result)
        self.sums[-1] += 1
        first = (self.bad == 0) & ~torch.isfinite(result.loss)  # kept on the device: asking would wait for it
        self.bad = torch.where(first, torch.full_like(self.bad, step + 1), self.bad)

    def bad_step(self) -> int | None:
        """The first step, from 1, whose loss was not finite on any process."""
        steps = [step for step in self.method.gather(self.bad[None]).tolist() if step]
        return min(steps) if steps else None

    def shared(self) -> Tensor:
        """The sums of all processes together, as each process's equal share."""
        # In equal shares the means stay right when a checkpoint is resumed by another number of processes.
        return self.method.gather(self.sums[None]).sum(dim=0) / self.method.world

    def collect(self, views: Tensor, result: StepResult) -> dict[str, Any]:
        """The means since the last line and, of the step just done and of the weights, the measures of now.

        The gradients of that step must still be there.
        """
        *sums, count = self.shared().tolist()
        self.sums.zero_()
        method = self.method
        return {
            **{name: value / count for name, value in zip(method.RUNNING, sums, strict=True)},
            **method.measures(result),
            **({"auxiliary_loss": method.shared_mean(float(result.auxiliary))} if method.auxiliary else {}),
            "view_difference": method.shared_mean(diagnostics.view_difference(views)),
            "gradient_norm": _finite(float(diagnostics.gradient_norm(method.network))),
            "weight_norm_ratio": float(diagnostics.weight_sample(method.network).norm() / self.start.norm()),
        }


Judge: TypeAlias = Callable[[diagnostics.Log], diagnostics.Verdict]
LOG, HEALTH = "log.jsonl", "health.json"
ASK_EVERY = 8
"""Steps between two questions whether to stop, where several processes must agree: the answer waits for the device."""
ALWAYS = 100
"""Lines each of which is judged; a longer log is judged at every hundredth of the run."""


def train(
    settings: PretrainSettings,
    method: Method,
    loader: BatchLoader,
    accelerator: Accelerator,
    selection: Selection,
    tracker: Tracker,
) -> RunLog | None:
    """Go from the last checkpoint, or the start, to the last step.

    Args:
        selection: evaluates the encoder on the way and keeps the best.
        tracker: gets the numbers of every line of the log.

    Returns:
        The log, all of it, on the process that keeps it.

    Raises:
        RunError: the loss is not finite, or a signal asked to stop; the last good checkpoint is named.
    """
    s, device = settings, accelerator.device
    phases = Phases(s.phases, loader.steps_per_epoch, s.lr)
    steps = phases.steps
    run = TrainingRun(settings, method, loader, accelerator, selection, tracker, steps)
    start = run.restore() if s.resume else 0
    main = accelerator.is_main_process
    with (
        torch.random.fork_rng(generators_of(device)),
        stop_signals() as asked,
        console.progress("pretrain", steps * s.batch, "images", start * s.batch, shown=main) as bar,
    ):
        for step, batch in loader.run(start, steps):
            if step == start or phases.begins(step):
                bar.change_pace(phases.surplus(step) * s.batch)
            # Dropout and the like inside a network: a function of the step, so a resumed run draws the same.
            # no two alike, for up to 4,096 processes and a million steps
            seed_generators(device, (s.seed * 1_000_003 + step) * 4096 + method.rank)
            views = batch.to(device, non_blocking=True)
            lr = learning_rate(*phases.schedule(step), s.schedule, s.milestones, s.warmup)
            # after the batch was drawn: only then are its groups and metadata known
            result = method.step(views, lr, loader.groups(step), loader.metadata(step))
            run.monitor.add(step, result)
            done, last = step + 1, step + 1 == steps
            if done % s.log_every == 0 or last or selection.due(done, steps):
                bar.fields.update(run.log_line(done, views, result, lr))
            bar.advance(s.batch)
            stop = stop_asked(asked, accelerator, done)
            if done % s.save_every == 0 or last or stop:
                run.save(done)
            if stop and not last:  # after the last step the run is finished like any other
                raise RunError(f"Stopped after step {done:,} of {steps:,}, saved.\n  --resume continues from there.")
    return run.log


@dataclass
class TrainingRun:
    """What the loop of `steps` steps writes: log lines, checkpoints, verdicts; and what it goes on from."""

    settings: PretrainSettings
    method: Method
    loader: BatchLoader
    accelerator: Accelerator
    selection: Selection
    tracker: Tracker
    steps: int
    log: RunLog | None = None

    def __post_init__(self) -> None:
        self.folder = self.settings.out / "checkpoints"
        self.monitor = Monitor(self.method)
        self.begun = time.perf_counter()
        if not self.settings.resume:  # else in `restore`, when the step to cut back to is known
            self._open_log(0, None)

    def _open_log(self, step: int, state: dict[str, Any] | None) -> None:
        if self.accelerator.is_main_process:
            sizes = world_sizes(state, step, self.method.world)
            path = self.settings.out / LOG
            self.log = RunLog(path, step, sizes, self.steps, lambda log: self.method.judge(log, self.steps))

    def restore(self) -> int:
        """Restore the last checkpoint, if there is one: steps done."""
        state = broadcast_decision(self.accelerator, lambda: latest_checkpoint(self.folder))
        start = 0
        if state:
            self.method.load_state_dict(state["method"])
            self.monitor.sums = state["sums"].to(self.method.device)
            self.selection.best = state["best"]
            # Seconds count from the first launch, without the time in between.
            start, self.begun = int(state["step"]), self.begun - float(state["seconds"])
        if self.accelerator.is_main_process:
            console.say(f"resuming at step {start:,} of {self.steps:,}" if start else "no checkpoint yet")
        self._open_log(start, state)
        return start

    def log_line(self, done: int, views: torch.Tensor, result: Any, lr: float) -> dict[str, str]:
        """Measure, judge and write a line of the log: what stands on the progress line."""
        self._check_loss()
        measured = self.monitor.collect(views, result)  # by all processes: they share their sums
        if not self.log:
            return {}
        evaluated = NOT_EVALUATED
        if self.selection.due(done, self.steps):
            evaluated = self.selection.evaluate(done, self.method.kept, self.method.device)
        seconds = time.perf_counter() - self.begun
        epoch = round(done / self.loader.steps_per_epoch, 4)
        entry = {"step": done, "epoch": epoch, "size": views.shape[-1], **measured, **evaluated, "lr": lr}
        speed = round(done * self.settings.batch / max(seconds, 1e-9), 2)
        entry |= {"images_per_s": speed, "seconds": round(seconds, 3)}
        word = self.log.add(entry)
        # trackers take numbers
        self.tracker.scalars({k: v for k, v in entry.items() if isinstance(v, int | float)}, done)
        return _shown(entry, word)

    def save(self, done: int) -> None:
        """Write a checkpoint, unless loss or weights are not finite: it must not become the last good one."""
        self._check_loss()
        if not all(bool(torch.isfinite(weight).all()) for weight in self.method.network.parameters()):
            raise self._not_finite("The weights are", done)
        sums = self.monitor.shared()  # by all processes
        if self.log:
            state = {
                "step": done,
                "seconds": time.perf_counter() - self.begun,
                "method": self.method.state_dict(),
                "sums": sums,
                "best": self.selection.best,
                "worlds": self.log.worlds,
            }
            save_checkpoint(self.folder, done, state)
        self.accelerator.wait_for_everyone()

    def _check_loss(self) -> None:
        if step := self.monitor.bad_step():
            raise self._not_finite("The loss is", step)

    def _not_finite(self, what: str, step: int) -> RunError:
        reason, remedy = f"{what} not finite at step {step:,}", "Start a new run with a smaller --lr."
        if self.log:
            self.log.died(diagnostics.Verdict("diverging", f"{reason}.", remedy), step)
        good = checkpoints(self.folder)
        where = f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"
        return RunError(f"diverging: {reason}; {where}.\n  {remedy}")


class RunLog:
    """`log.jsonl`: one object a logged step, appended with its verdict; on resume cut back to the checkpoint.

    `health.json` beside it holds the latest word with reason and remedy, from the first word on.

    Args:
        path: the file.
        step: of the checkpoint that is resumed from, or 0.
        worlds: [first step, processes] for each number of processes that the run has had.
        steps: of the whole run.
        judge: the method's verdict on a log.
    """

    def __init__(self, path: Path, step: int, worlds: list[list[int]], steps: int, judge: Judge) -> None:
        self.path, self.worlds, self.steps, self.judge = path, worlds, steps, judge
        # Lines after the checkpoint are of steps that are made again.
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.entries = [entry for line in lines if (entry := _whole(line)) and entry["step"] <= step]
        atomic_write(path, "".join(json.dumps(entry) + "\n" for entry in self.entries))
        self.verdict = judge(self.entries)
        self.warned = {str(entry["verdict"]) for entry in self.entries}  # a resumed run repeats no warning

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
        # Judging reads the whole log: at every line of a long run it would cost more than the steps.
        if len(self.entries) <= ALWAYS or self.entries[-1]["step"] == self.steps:
            return True
        before, now = (entry["step"] * 100 // self.steps for entry in self.entries[-2:])
        return before != now

    def _judge(self, step: int) -> None:
        before, self.verdict = self.verdict, self.judge(self.entries)
        if self.verdict.word != before.word or step == self.steps:
            self._keep(step)
        if self.verdict.bad and self.verdict.word not in self.warned:
            self.warned.add(self.verdict.word)
            console.warn(f"after step {step:,} of {self.steps:,} this run looks bad: {self.verdict}")

    def _keep(self, step: int) -> None:
        write_json(self.path.with_name(HEALTH), {"step": step, **self.verdict.facts()})


def _finite(value: float) -> float | None:
    """A number as JSON has it: none where a step of fp16 overflowed, which the scaler skips."""
    return value if math.isfinite(value) else None


def _whole(line: str) -> dict[str, Any] | None:
    """A logged object; None for the torn last line of a killed run."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _shown(entry: dict[str, Any], word: str) -> dict[str, str]:
    """What stands on the progress line; a number that is not there is left out."""
    shown = {
        "loss": ("loss", ".3f"),
        "accuracy": ("contrast_accuracy", ".2f"),
        "std": ("feature_std", ".2f"),
        "rank": ("effective_rank", ".0f"),
        "kNN": ("knn_auroc", ".3f"),
    }
    known = {name: (entry.get(key), form) for name, (key, form) in shown.items()}
    return {name: f"{value:{form}}" for name, (value, form) in known.items() if value is not None} | {"is": word}


@contextmanager
def stop_signals() -> Iterator[dict[str, str]]:
    """Ctrl-C and SIGTERM are noted in the yielded dict, to be obeyed between two steps."""
    asked: dict[str, str] = {}

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        if asked:
            raise KeyboardInterrupt  # a second time: at once
        asked["signal"] = signal.Signals(number).name

    # Python gives signals to the main thread alone: in any other the caller's handlers stay
    in_main = threading.current_thread() is threading.main_thread()
    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM) if in_main}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_asked(asked: dict[str, str], accelerator: Accelerator, step: int) -> bool:
    """Whether any process was asked to stop: all then stop at the same step."""
    if accelerator.num_processes == 1:
        return bool(asked)
    if step % ASK_EVERY:
        return False
    flag = torch.tensor([float(bool(asked))], device=accelerator.device)
    return bool(accelerator.gather(flag).sum() > 0)
