"""The loop that calls the step: log, checkpoints, health, and the ways a run can stop."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

from mococxr import checkpoint, journal
from mococxr.config import PretrainSettings
from mococxr.errors import RunError
from mococxr.files import atomic_write
from mococxr.pretrain.feed import Feed
from mococxr.pretrain.folder import agreed, worlds
from mococxr.pretrain.step import Learner, learning_rate, moco_step
from mococxr.pretrain.watch import Watch

LOG = "log.jsonl"
ASK_EVERY = 8
"""Steps between two questions whether to stop, where several processes must agree: the answer waits for the device."""


@contextmanager
def stop_signals() -> Iterator[dict[str, str]]:
    """Ctrl-C and SIGTERM are noted in the yielded dict, to be obeyed between two steps."""
    asked: dict[str, str] = {}

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        if asked:
            raise KeyboardInterrupt  # a second time: at once
        asked["signal"] = signal.Signals(number).name

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Log:
    """`log.jsonl`: one object a logged step, appended; on resume cut back to the checkpoint.

    Args:
        worlds: [first step, processes] for each number of processes that the run has had.
    """

    def __init__(self, path: Path, step: int, worlds: list[list[int]]) -> None:
        self.path, self.worlds = path, worlds
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.entries = [entry for line in lines if (entry := _whole(line)) and entry["step"] <= step]
        atomic_write(path, "".join(json.dumps(entry) + "\n" for entry in self.entries))

    def add(self, entry: dict[str, Any]) -> None:
        """Append one step."""
        self.entries.append(entry)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _whole(line: str) -> dict[str, Any] | None:
    """A logged object; None for the torn last line of a killed run."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def pretrain_loop(
    settings: PretrainSettings, learner: Learner, feed: Feed, accelerator: Accelerator, out: Path, films: int
) -> Log | None:
    """Go from the last checkpoint, or the start, to the last step.

    Args:
        films: used in an epoch, over all processes.

    Returns:
        The log, all of it, on the process that keeps it.

    Raises:
        RunError: the loss is not finite, or somebody asked to stop; the last good checkpoint is named.
    """
    s = settings
    steps = feed.steps_per_epoch * s.epochs
    state = agreed(accelerator, lambda: checkpoint.latest(out / "checkpoints")) if s.resume else None
    watch = Watch(learner, feed, s.temperature)
    start, spent = restore(learner, watch, state) if state else (0, 0.0)
    main = accelerator.is_main_process
    if s.resume and main:
        journal.say(f"resuming at step {start:,} of {steps:,}" if start else "no checkpoint yet")
    log = Log(out / LOG, start, worlds(state, start, learner.world)) if main else None
    begun = time.perf_counter()
    with (
        torch.random.fork_rng(),
        stop_signals() as asked,
        _bar(steps * s.batch, start * s.batch, main) as bar,
    ):
        for step, views in feed.run(start, steps):
            # Dropout and the like inside a network: a function of the step, so a resumed run draws the same.
            torch.manual_seed((s.seed * 1_000_003 + step) * 4096 + learner.rank)
            lr, loss, logits = _one_step(
                s, learner, views.to(accelerator.device, non_blocking=True), step, steps
            )
            done = step + 1
            watch.add(step, loss, logits)
            last = done == steps
            if done % s.log_every == 0 or last:
                _check_loss(watch, out)
                entry = _entry(done, feed, watch, lr, spent + time.perf_counter() - begun, films)
                if log:
                    log.add(entry)
                    accelerator.log({k: v for k, v in entry.items() if k != "step"}, step=done)
                bar.fields.update(_shown(entry))
            bar.advance(s.batch)
            stop = _anyone(asked, accelerator, done)
            if done % s.save_every == 0 or last or stop:
                _check_loss(watch, out)
                _check_weights(learner, done, out)
                sums = watch.shared()
                if log:
                    _save(out, learner, done, spent + time.perf_counter() - begun, sums, log.worlds)
                accelerator.wait_for_everyone()
            if stop and not last:
                raise RunError(
                    f"Stopped after step {done:,} of {steps:,}, saved.\n  --resume goes on from there."
                )
    return log


def _one_step(
    s: PretrainSettings, learner: Learner, views: torch.Tensor, step: int, steps: int
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Set the learning rate of a step and make it: rate, loss, logits."""
    lr = learning_rate(step, steps, s.lr, s.schedule, s.milestones, s.warmup)
    for group in learner.optimizer.param_groups:
        group["lr"] = lr
    loss, logits = moco_step(
        learner, *views, m=s.momentum, temperature=s.temperature, groups=s.key_groups, parts=s.accumulate
    )
    return lr, loss, logits


def _bar(total: int, done: int, main: bool) -> Any:
    """The progress line; only the first process shows one."""
    silent = journal.Progress("pretrain", total, "films", done)
    return journal.progress("pretrain", total, "films", done) if main else nullcontext(silent)


def _check_loss(watch: Watch, out: Path) -> None:
    if step := watch.bad_step():
        raise _not_finite("The loss is", step, out)


def _check_weights(learner: Learner, step: int, out: Path) -> None:
    """A finite loss can leave weights that are not: they must not become the last good checkpoint."""
    if not all(bool(torch.isfinite(weight).all()) for weight in learner.query.parameters()):
        raise _not_finite("The weights are", step, out)


def _not_finite(what: str, step: int, out: Path) -> RunError:
    good = checkpoint.saved(out / "checkpoints")
    where = f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"
    return RunError(f"{what} not finite at step {step:,}; {where}.\n  Start a new run with a smaller --lr.")


def _entry(done: int, feed: Feed, watch: Watch, lr: float, seconds: float, films: int) -> dict[str, Any]:
    """One line of the log; the fields are those of the contract."""
    return {
        "step": done,
        "epoch": round(done / feed.steps_per_epoch, 4),
        **watch.take(done),
        "lr": lr,
        "films_per_s": round(done * films / feed.steps_per_epoch / max(seconds, 1e-9), 2),
        "seconds": round(seconds, 3),
    }


def _shown(entry: dict[str, Any]) -> dict[str, str]:
    return {
        "loss": f"{entry['loss']:.3f}",
        "accuracy": f"{entry['contrast_accuracy']:.2f}",
        "std": f"{entry['feature_std']:.2f}",
        "rank": f"{entry['effective_rank']:.0f}",
    }


def _anyone(asked: dict[str, str], accelerator: Accelerator, step: int) -> bool:
    """Whether any process was asked to stop: all then stop at the same step."""
    if accelerator.num_processes == 1:
        return bool(asked)
    if step % ASK_EVERY:
        return False
    mine = torch.tensor([float(bool(asked))], device=accelerator.device)
    return bool(accelerator.gather(mine).sum() > 0)


def _save(
    out: Path, learner: Learner, step: int, seconds: float, seen: torch.Tensor, worlds: list[list[int]]
) -> None:
    """Everything that the next step depends on and that is no function of seed and step."""
    checkpoint.save(
        out / "checkpoints",
        step,
        {
            "step": step,
            "seconds": seconds,
            "query": learner.query.state_dict(),
            "key": learner.key.state_dict(),
            "queue": learner.queue.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "shuffle": learner.shuffle.get_state(),
            "seen": seen,
            "worlds": worlds,
        },
    )


def restore(learner: Learner, watch: Watch, state: dict[str, Any]) -> tuple[int, float]:
    """Put a checkpoint back: (steps done, seconds spent)."""
    learner.query.load_state_dict(state["query"])
    learner.key.load_state_dict(state["key"])
    learner.queue.load_state_dict(state["queue"])
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.shuffle.set_state(state["shuffle"])
    watch.resume(state)
    return int(state["step"]), float(state["seconds"])
