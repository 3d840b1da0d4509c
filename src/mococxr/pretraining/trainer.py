"""The loop that calls the step: log, checkpoints, health, and the ways a run can stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from accelerate import Accelerator

from mococxr import console
from mococxr.encoders import Encoder
from mococxr.errors import RunError
from mococxr.pretraining import checkpoint, diagnostics
from mococxr.pretraining.hardware import generators_of, seed_generators
from mococxr.pretraining.loader import Feed
from mococxr.pretraining.log import LOG, Log
from mococxr.pretraining.monitor import Watch
from mococxr.pretraining.run_folder import agreed, worlds
from mococxr.pretraining.selection import NOBODY_LOOKS, Choice
from mococxr.pretraining.step import Learner, learning_rate, moco_step
from mococxr.settings import PretrainSettings

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


def pretrain_loop(
    settings: PretrainSettings, learner: Learner, feed: Feed, accelerator: Accelerator, choice: Choice
) -> Log | None:
    """Go from the last checkpoint, or the start, to the last step.

    Args:
        choice: what is looked at on the way; it gets to know the best.

    Returns:
        The log, all of it, on the process that keeps it.

    Raises:
        RunError: the loss is not finite, or somebody asked to stop; the last good checkpoint is named.
    """
    s, out = settings, settings.out
    steps = feed.steps_per_epoch * s.epochs
    state = agreed(accelerator, lambda: checkpoint.latest(out / "checkpoints")) if s.resume else None
    watch = Watch(learner, feed, s.temperature)
    start, spent = restore(learner, watch, choice, state) if state else (0, 0.0)
    if s.resume and accelerator.is_main_process:
        console.say(f"resuming at step {start:,} of {steps:,}" if start else "no checkpoint yet")
    run = diagnostics.Run(steps, s.batch, len(learner.queue.keys_KC), s.dim, s.momentum)
    main = accelerator.is_main_process
    log = Log(out / LOG, start, worlds(state, start, learner.world), run) if main else None
    begun = time.perf_counter() - spent
    with (
        torch.random.fork_rng(generators_of(accelerator.device)),
        stop_signals() as asked,
        console.progress("pretrain", steps * s.batch, "images", start * s.batch, shown=main) as bar,
    ):
        for step, views in feed.run(start, steps):
            # Dropout and the like inside a network: a function of the step, so a resumed run draws the same.
            seed_generators(accelerator.device, (s.seed * 1_000_003 + step) * 4096 + learner.rank)
            views = views.to(accelerator.device, non_blocking=True)
            lr, loss, logits = _one_step(s, learner, views, step, steps)
            done, last = step + 1, step + 1 == steps
            watch.add(step, loss, logits)
            if done % s.log_every == 0 or last or choice.due(done, steps):
                _check_loss(watch, out, log)
                measured = watch.take(done, views, logits)
                if log:
                    measured |= _look(choice, done, steps, learner, accelerator.device)
                    entry = _entry(done, feed, measured, lr, time.perf_counter() - begun)
                    bar.fields.update(_shown(entry, log.add(entry)))
                    accelerator.log({k: v for k, v in entry.items() if isinstance(v, int | float)}, step=done)
            bar.advance(s.batch)
            stop = _anyone(asked, accelerator, done)
            if done % s.save_every == 0 or last or stop:
                _check_loss(watch, out, log)
                _check_weights(learner, done, out, log)
                kept: dict[str, Any] = {"seen": watch.shared(), "best": choice.best}
                if log:
                    kept["worlds"] = log.worlds
                    _save(out, learner, done, time.perf_counter() - begun, kept)
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


def _check_loss(watch: Watch, out: Path, log: Log | None) -> None:
    if step := watch.bad_step():
        raise _not_finite("The loss is", step, out, log)


def _check_weights(learner: Learner, step: int, out: Path, log: Log | None) -> None:
    """A finite loss can leave weights that are not: they must not become the last good checkpoint."""
    if not all(bool(torch.isfinite(weight).all()) for weight in learner.query.parameters()):
        raise _not_finite("The weights are", step, out, log)


def _not_finite(what: str, step: int, out: Path, log: Log | None) -> RunError:
    verdict = diagnostics.not_finite(what, step)
    if log:
        log.died(verdict, step)
    good = checkpoint.saved(out / "checkpoints")
    where = f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"
    return RunError(f"{verdict.word}: {verdict.reason[:-1]}; {where}.\n  {verdict.remedy}")


def _look(
    choice: Choice, done: int, steps: int, learner: Learner, device: torch.device
) -> dict[str, float | None]:
    if not choice.due(done, steps):
        return NOBODY_LOOKS
    return choice.look(done, cast("Encoder", learner.query.encoder), device)


def _entry(done: int, feed: Feed, measured: dict[str, Any], lr: float, seconds: float) -> dict[str, Any]:
    """One line of the log; the fields are those of the contract."""
    return {
        "step": done,
        "epoch": round(done / feed.steps_per_epoch, 4),
        **measured,
        "lr": lr,
        "images_per_s": round(done * feed.orders.used / feed.steps_per_epoch / max(seconds, 1e-9), 2),
        "seconds": round(seconds, 3),
    }


def _shown(entry: dict[str, Any], word: str) -> dict[str, str]:
    """What stands on the progress line; a number that is not there is left out."""
    shown = {
        "loss": ("loss", ".3f"),
        "accuracy": ("contrast_accuracy", ".2f"),
        "std": ("feature_std", ".2f"),
        "rank": ("effective_rank", ".0f"),
        "kNN": ("knn_auroc", ".3f"),
    }
    numbers = {name: f"{entry[key]:{form}}" for name, (key, form) in shown.items() if entry[key] is not None}
    return numbers | {"is": word}


def _anyone(asked: dict[str, str], accelerator: Accelerator, step: int) -> bool:
    """Whether any process was asked to stop: all then stop at the same step."""
    if accelerator.num_processes == 1:
        return bool(asked)
    if step % ASK_EVERY:
        return False
    mine = torch.tensor([float(bool(asked))], device=accelerator.device)
    return bool(accelerator.gather(mine).sum() > 0)


def _save(out: Path, learner: Learner, step: int, seconds: float, kept: dict[str, Any]) -> None:
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
            "scaler": learner.scaler.state_dict() if learner.scaler else None,
            **kept,
        },
    )


def restore(learner: Learner, watch: Watch, choice: Choice, state: dict[str, Any]) -> tuple[int, float]:
    """Put a checkpoint back: (steps done, seconds spent)."""
    learner.query.load_state_dict(state["query"])
    learner.key.load_state_dict(state["key"])
    learner.queue.load_state_dict(state["queue"])
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.shuffle.set_state(state["shuffle"])
    if learner.scaler:
        learner.scaler.load_state_dict(state["scaler"])
    watch.resume(state)
    choice.best = state["best"]
    return int(state["step"]), float(state["seconds"])
