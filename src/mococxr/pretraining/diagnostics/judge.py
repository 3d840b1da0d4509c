"""One verdict on a run from its log, live and at the end: a word, the reason in numbers, the remedy.

Every threshold is stated with where it comes from: theory first, then runs with planted faults (tests/planted_runs.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

Log = Sequence[Mapping[str, Any]]

LEAST_STEPS = 10
"""Steps before anything is said: a mean over fewer is one batch's luck."""
LEAST_IMAGES = 512
"""Images, all of whose negatives were keys, before loss and pairs are judged: their AUROC is then known to 0.013."""
WARM_STEPS = 50
"""Steps before a run is said to be learning: what falls in fewer is the first shock of the head."""
GROWN = 10.0
"""Times their first length that weights may have. A sound run changes directions: 1.0 to 1.1 in runs of 1,400 steps."""
RUNAWAY, RUNAWAY_A_STEP = 0.8, 0.008
"""Lag, and lag a step of the key encoder's memory: the query encoder has left its own average of the last steps behind.
With Adam a sound rate moves weights by 0.1 to 0.2 % a step, 0.1 as rate by 3 to 10 %."""
FOLLOWED = 0.05
"""Share of the query encoder's way that the key encoder is to go by the end of the run. In a straight line it goes
T (1 - m) / 2 of it, so that this is a memory 1 / (1 - m) of ten times the run."""
OLD = 25.0
"""Queue age in memories of the key encoder. MoCo v1, table in section 4.1: queue of 256 steps, accuracy 59.0 at 0.3
memories, 57.8 at 2.6, 55.2 at 26, no convergence at 256."""
SAME_PICTURE = 0.02
"""Difference of an image's two views over that of two images: below, the views are one picture but for rounding."""
POINT = 0.02
"""Spread of a batch's keys: 0.02 is an angle of under two degrees between images; 0.4 to 1 in sound runs."""
OWN = 0.01
"""Share of images that met their own key; none in a sound run."""
GUESSING = 0.95
"""Share of ln(K+1) above which a loss is that of guessing; with shuffled pairs it is 0.98 to 1.02."""
STRANGERS = 0.54
"""AUROC of own keys against the newest others, up to which pairs tell nothing: 0.50 to 0.53 with shuffled pairs (keys
of one step are alike), 0.55 and more in the slowest sound run."""
UNTOLD = 1000
"""Steps, or a tenth of the run where that is less, before a run is called stuck: from random weights a sound run of
2,000 steps on small images told no pairs apart in its first 80."""
FLAT = 0.05
"""Share of the dimensions that features fill, by effective rank, below which they are called collapsing."""
AT_ONCE = 0.95
"""Contrast accuracy in the first tenth of a run; a run of the preset `tuned` on real images has 0.2 to 0.5 there."""


class Run(NamedTuple):
    """What of a run's settings its log is judged by.

    Args:
        steps: of the whole run.
        batch: images a step, over all processes.
        queue: K.
        dim: C.
        momentum: m.
    """

    steps: int
    batch: int
    queue: int
    dim: int
    momentum: float

    @property
    def chance(self) -> float:
        """The loss of guessing."""
        return math.log(self.queue + 1)

    @property
    def memory(self) -> float:
        """Steps that the key encoder remembers, 1 / (1 - m)."""
        return 1 / (1 - self.momentum) if self.momentum < 1 else math.inf

    @property
    def early(self) -> float:
        """The last step of the first tenth, or the one by which enough images met a full queue."""
        return max(self.steps / 10, (self.queue + LEAST_IMAGES) / self.batch)


class Verdict(NamedTuple):
    """A word on a run, why, and what to do; the remedy is empty where nothing is to be done."""

    word: str
    reason: str
    remedy: str = ""

    @property
    def bad(self) -> bool:
        """Whether the run had better be stopped."""
        return self.word not in ("learning", "still warming")

    def facts(self) -> dict[str, str | None]:
        """For a JSON file."""
        return {"verdict": self.word, "reason": self.reason, "remedy": self.remedy or None}

    def __str__(self) -> str:
        return f"{self.word}: {self.reason} {self.remedy}".strip()


def not_finite(what: str, step: int) -> Verdict:
    """The verdict on a run that died of a number that is none."""
    return Verdict(
        "diverging", f"{what} not finite at step {step:,}.", "Start a new run with a smaller --lr."
    )


def judge(log: Log, run: Run) -> Verdict:
    """One word on a run, from its log so far.

    What is certain from the weights, the views or the order of the images is said first, the queue full or not:
    diverging, stale keys, too easy (views that are one picture), own key among the negatives. The rest is judged on the
    latest tenth of the log, at least `LEAST_IMAGES` images that met a queue full of keys: collapsed, own key (a negative
    that is the positive), collapsing in dimension, stuck, too easy (told apart at once), learning.

    Args:
        log: logged steps in order, with the fields of `log.jsonl`.
        run: its settings.

    Returns:
        One of collapsed, collapsing in dimension, diverging, learning, own key among the negatives, stale keys, still
        warming, stuck, too easy; reason and remedy.
    """
    step = int(log[-1]["step"]) if log else 0
    if step < LEAST_STEPS:
        return Verdict("still warming", f"{step:,} steps are too few to judge.", "Run longer.")
    certain = _diverging(log, run) or _stale(log, run) or _same_picture(log) or _own_place(log)
    if certain:
        return certain
    full = [now for before, now in pairwise(log) if before["queue_filled"] >= 1]
    steps_full = step - int(log[-len(full) - 1]["step"])
    if steps_full * run.batch < (LEAST_IMAGES if step < run.steps else LEAST_IMAGES / 2):
        return Verdict(
            "still warming",
            f"After {step:,} steps too few images have met a queue full of keys.",
            "Run longer.",
        )
    length = max(steps_full / 10, LEAST_IMAGES / run.batch)
    window = [entry for entry in full if entry["step"] > step - length]
    bad = _collapsed(window) or _tied(window) or _flat(full, window, run) or _stuck(window, run, step)
    return bad or _at_once(full, run) or _learning(full, window, run, step)


def _mean(log: Log, name: str) -> float:
    return sum(entry[name] for entry in log) / len(log)


def _diverging(log: Log, run: Run) -> Verdict | None:
    remedy = "Start a new run with a tenth of --lr, or a longer --warmup."
    if (grown := max(entry["weights_grown"] for entry in log)) > GROWN:
        return Verdict("diverging", f"The weights have grown to {grown:.0f} times their length.", remedy)
    for entry in log:
        lag = entry["lag"]
        if lag > RUNAWAY and lag / min(entry["step"], run.memory) > RUNAWAY_A_STEP:
            why = (
                f"In {entry['step']:,} steps the weights moved {lag:.0%} of their length from their average."
            )
            return Verdict("diverging", why, remedy)
    return None


def _stale(log: Log, run: Run) -> Verdict | None:
    last, age = log[-1], run.queue / run.batch
    if last["key_moved"] < FOLLOWED * last["step"] / run.steps:
        return Verdict(
            "stale keys",
            f"After {last['step']:,} steps the momentum encoder has gone {last['key_moved']:.1%} of the way that the "
            f"query encoder went (--momentum {run.momentum:g}).",
            f"Lower --momentum: for {run.steps:,} steps to {max(0.9, 1 - 10 / run.steps):.3g} or less.",
        )
    if age / run.memory > OLD:
        return Verdict(
            "stale keys",
            f"The oldest keys are {age:,.0f} steps old, and the momentum encoder forgets in {run.memory:,.0f}.",
            "Raise --momentum, or shorten --queue.",
        )
    return None


def _same_picture(log: Log) -> Verdict | None:
    seen = [entry["view_change"] for entry in log if entry["view_change"] is not None]
    if not seen or sum(seen) / len(seen) >= SAME_PICTURE:
        return None
    return Verdict(
        "too easy",
        f"The two views of an image are one picture: they differ by {sum(seen) / len(seen):.1%} of what two images do.",
        "Make the views differ: --crop 0.6 1, --rotation 10, --flip 0.5, --contrast 0.3.",
    )


def _own_place(log: Log) -> Verdict | None:
    share = max(entry["own_keys"] for entry in log)
    return (
        _own(f"Up to {share:.0%} of images met their own earlier key in the queue") if share > OWN else None
    )


def _tied(window: Log) -> Verdict | None:
    share = _mean(window, "tied")
    return _own(f"{share:.0%} of images have a negative equal to their own key") if share > 0.5 else None


def _own(why: str) -> Verdict:
    floor = f"so the loss cannot fall below log 2 = {math.log(2):.2f}"
    return Verdict(
        "own key among the negatives", f"{why}, {floor}.", "Shorten --queue, or mend the images' order."
    )


def _collapsed(window: Log) -> Verdict | None:
    spread = [entry["batch_std"] for entry in window if entry["batch_std"] is not None]
    if not spread or sum(spread) / len(spread) >= POINT or spread[-1] > 1.5 * spread[0] > 0:
        return None
    return Verdict(
        "collapsed",
        f"All images of a batch have nearly one feature (spread {sum(spread) / len(spread):.3f}, where 1 is even).",
        "Lower --lr or --weight-decay, raise --momentum, or start from --init imagenet.",
    )


def _stuck(window: Log, run: Run, step: int) -> Verdict | None:
    if window[-1]["lag"] == 0:
        return Verdict("stuck", "The weights do not move.", "Raise --lr.")
    loss, pairs = _mean(window, "loss"), _mean(window, "pair_auroc")
    if step < min(run.steps / 10, UNTOLD) or loss < GUESSING * run.chance or pairs > STRANGERS:
        return None
    return Verdict(
        "stuck",
        f"The loss {loss:.2f} is that of guessing, ln(K+1) = {run.chance:.2f}, and an image's second view is told from "
        f"other images with an AUROC of {pairs:.2f}.",
        "Look at the pairs by `mococxr views`; if they show one image each, change --lr or weaken the views.",
    )


def _flat(full: Log, window: Log, run: Run) -> Verdict | None:
    rank = _mean(window, "effective_rank")
    if (
        rank > FLAT * min(run.dim, run.queue)
        or window[-1]["effective_rank"] > 1.2 * full[0]["effective_rank"]
    ):
        return None
    return Verdict(
        "collapsing in dimension",
        f"The features fill {rank:.1f} of {run.dim} dimensions.",
        "Make the views stronger (--crop, --contrast), or lower --lr.",
    )


def _at_once(full: Log, run: Run) -> Verdict | None:
    early = [entry for entry in full if entry["step"] <= run.early] or full[:1]
    accuracy = _mean(early, "contrast_accuracy")
    if accuracy <= AT_ONCE:
        return None
    return Verdict(
        "too easy",
        f"{accuracy:.0%} of images found their own view among {run.queue + 1:,} in the first tenth of the run.",
        "Make the views stronger (--crop, --rotation, --contrast), or the queue longer; look for burned-in text by "
        "`mococxr inspect`.",
    )


def _learning(full: Log, window: Log, run: Run, step: int) -> Verdict:
    loss, accuracy, rank = (_mean(window, name) for name in ("loss", "contrast_accuracy", "effective_rank"))
    numbers = (
        f"the loss is {loss:.2f} (guessing: {run.chance:.2f}); {accuracy:.0%} of images find their own view among "
        f"{run.queue + 1:,}; the features fill {rank:.0f} of {run.dim} dimensions."
    )
    half = len(full) // 2
    falls = half and _mean(full[half:], "loss") < _mean(full[:half], "loss")
    if step < WARM_STEPS or loss > GUESSING * run.chance or not (falls or step > run.steps / 2):
        return Verdict("still warming", f"After {step:,} steps {numbers}", "Run longer.")
    return Verdict("learning", numbers[0].upper() + numbers[1:])
