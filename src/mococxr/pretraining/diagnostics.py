"""Is pretraining learning? Measures of a self-supervised run, and one verdict in plain words: `docs/health.md`.

Opens no file and prints nothing. Every threshold is stated with where it comes from: theory first, then runs with
planted faults (tests/planted_runs.py). What only one method can suffer from is judged in that method's file.

    N  images      C  length of an embedding      D  length of an encoder's feature      K  negatives of an image
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Log = Sequence[Mapping[str, Any]]
"""Logged steps in order, with the fields of `log.jsonl`."""

LEAST_STEPS = 10
"""Steps before anything is said: a mean over fewer is one batch's luck."""
LEAST_IMAGES = 512
"""Images, all of whose negatives were keys, before loss and pairs are judged: their AUROC is then known to 0.013."""
WARM_STEPS = 50
"""Steps before a run is said to be learning: what falls in fewer is the first shock of the head."""
GROWN = 10.0
"""Times their first length that weights may have. A sound run changes directions: 1.0 to 1.1 in runs of 1,400 steps."""
SAME_PICTURE = 0.02
"""Difference of an image's two views over that of two images: below, the views are one picture but for rounding."""
POINT = 0.02
"""Spread of a batch's keys: 0.02 is an angle of under two degrees between images; 0.4 to 1 in sound runs."""
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
DIVERGING = "Start a new run with a tenth of --lr, or a longer --warmup."


class Run(NamedTuple):
    """What of a run's settings its log is judged by.

    Args:
        steps: of the whole run.
        batch: images a step, over all processes.
        queue: K, the negatives that an image meets; 0 for a method without.
        dim: C.
        momentum: m of a key encoder; 0 for a method without.
        trained: the encoder that it starts from was pretrained by a run before: it tells images apart from the first step.
    """

    steps: int
    batch: int
    queue: int
    dim: int
    momentum: float = 0.0
    trained: bool = False

    @property
    def chance(self) -> float:
        """The loss of guessing."""
        return math.log(self.queue + 1)

    @property
    def memory(self) -> float:
        """Steps that the key encoder remembers, 1 / (1 - m)."""
        return 1 / (1 - self.momentum) if self.momentum < 1 else math.inf


WORDS = (
    "learning", "warming up", "collapsed", "dimensional collapse", "diverging", "self-negative",
    "stale keys", "stuck", "too easy",
)  # fmt: skip
"""All that a verdict can say; each method says those that apply to it."""


class Verdict(NamedTuple):
    """A word on a run, why, and what to do; the remedy is empty where nothing is to be done."""

    word: str
    reason: str
    remedy: str = ""

    @property
    def bad(self) -> bool:
        """Whether the run had better be stopped."""
        return self.word not in ("learning", "warming up")

    def facts(self) -> dict[str, str | None]:
        """For a JSON file."""
        return {"verdict": self.word, "reason": self.reason, "remedy": self.remedy or None}

    def __str__(self) -> str:
        return f"{self.word}: {self.reason} {self.remedy}".strip()


Check = Callable[[Log, Log, Run], Verdict | None]
"""A fault in words, from a log, its latest part and the run; None where the log does not show it."""


def judge(log: Log, run: Run, certain: Sequence[Check], late: Sequence[Check]) -> Verdict:
    """One word on a run, from its log so far.

    Args:
        log: of the run.
        run: its settings.
        certain: faults that are certain from weights or views; each sees the whole log, from the first steps on.
        late: faults judged on the log since then and its latest tenth, at least `LEAST_IMAGES` images that met all their
            negatives (a queue full of keys, where there is one).

    Returns:
        The first fault, else `warming up` or `learning`; with reason and remedy.
    """
    step = int(log[-1]["step"]) if log else 0
    if step < LEAST_STEPS:
        return Verdict("warming up", f"{step:,} steps are too few to judge.", "Run longer.")
    for check in certain:
        if fault := check(log, log, run):
            return fault
    # A line holds means since the line before, which must have met a full queue already.
    full = [now for before, now in pairwise(log) if before.get("queue_filled", 1) >= 1]
    steps_full = step - int(log[-len(full) - 1]["step"])
    if steps_full * run.batch < (LEAST_IMAGES if step < run.steps else LEAST_IMAGES / 2):
        what = "met a queue full of keys" if "queue_filled" in log[-1] else "been seen"
        return Verdict("warming up", f"After {step:,} steps too few images have {what}.", "Run longer.")
    length = max(steps_full / 10, LEAST_IMAGES / run.batch)
    window = [entry for entry in full if entry["step"] > step - length]
    for check in late:
        if fault := check(full, window, run):
            return fault
    return _learning(full, window, run, step)


def mean_of(log: Log, name: str) -> float:
    """Mean of a field over logged steps."""
    return sum(entry[name] for entry in log) / len(log)


def growing(log: Log, _: Log, __: Run) -> Verdict | None:
    """Weights that grow far beyond their first length."""
    grown = max(entry["weight_norm_ratio"] for entry in log)
    if grown <= GROWN:
        return None
    return Verdict("diverging", f"The weights have grown to {grown:.0f} times their length.", DIVERGING)


def same_picture(log: Log, _: Log, __: Run) -> Verdict | None:
    """Views that differ by next to nothing: there is nothing to learn from them."""
    seen = [entry["view_difference"] for entry in log if entry["view_difference"] is not None]
    if not seen or sum(seen) / len(seen) >= SAME_PICTURE:
        return None
    return Verdict(
        "too easy",
        f"The two views of an image are one picture: they differ by {sum(seen) / len(seen):.1%} of what two images do.",
        "Make the views differ: --crop 0.6 1, --rotation 10, --flip 0.5, --contrast 0.3.",
    )


def collapsed(_: Log, window: Log, run: Run) -> Verdict | None:
    """All images have one embedding."""
    # One feature for all: a spread that still rises, as after a start near one point, is no collapse.
    name = "key_std" if "key_std" in window[-1] else "feature_std"
    stds = [entry[name] for entry in window if entry[name] is not None]
    if not stds or sum(stds) / len(stds) >= POINT or stds[-1] > 1.5 * stds[0] > 0:
        return None
    return Verdict(
        "collapsed",
        f"All images of a batch have nearly one feature (spread {sum(stds) / len(stds):.3f}, where 1 is even).",
        f"Lower --lr or --weight-decay, {'raise --momentum, ' if run.momentum else ''}or start from --init imagenet.",
    )


def stuck(_: Log, window: Log, run: Run) -> Verdict | None:
    """Weights that do not move, or a loss of guessing that no pair contradicts."""
    step = window[-1]["step"]
    if window[-1].get("query_key_distance") == 0:  # exactly 0: the weights have never moved
        return Verdict("stuck", "The weights do not move.", "Raise --lr.")
    loss, pairs = mean_of(window, "loss"), mean_of(window, "positive_auroc")
    if step < min(run.steps / 10, UNTOLD) or loss < GUESSING * run.chance or pairs > STRANGERS:
        return None
    return Verdict(
        "stuck",
        f"The loss {loss:.2f} is that of guessing, ln(K+1) = {run.chance:.2f}, and an image's second view is told from "
        f"other images with an AUROC of {pairs:.2f}.",
        "Look at the pairs by `mococxr views`; if they show one image each, change --lr or weaken the views.",
    )


def flat(full: Log, window: Log, run: Run) -> Verdict | None:
    """Embeddings that fill few dimensions, and no more than at first (dimensional collapse)."""
    rank = mean_of(window, "effective_rank")
    limit = FLAT * min(run.dim, run.queue or run.batch)  # a rank is at most the number of embeddings
    if rank > limit or window[-1]["effective_rank"] > 1.2 * full[0]["effective_rank"]:
        return None
    return Verdict(
        "dimensional collapse",
        f"The features fill {rank:.1f} of {run.dim} dimensions.",
        "Make the views stronger (--crop, --contrast), or lower --lr.",
    )


def easy_at_once(full: Log, _: Log, run: Run) -> Verdict | None:
    """Pairs that are told apart before anything can be learned; an encoder that has learned before is no sign of that."""
    # the first tenth, or until enough images met all negatives
    end = max(run.steps / 10, (run.queue + LEAST_IMAGES) / run.batch)
    accuracy = mean_of([entry for entry in full if entry["step"] <= end] or full[:1], "contrast_accuracy")
    if run.trained or accuracy <= AT_ONCE:
        return None
    return Verdict(
        "too easy",
        f"{accuracy:.0%} of images found their own view among {run.queue + 1:,} in the first tenth of the run.",
        "Make the views stronger (--crop, --rotation, --contrast), or the queue longer; look for burned-in text by "
        "`mococxr inspect`.",
    )


def _learning(full: Log, window: Log, run: Run, step: int) -> Verdict:
    loss, rank = (mean_of(window, name) for name in ("loss", "effective_rank"))
    numbers = f"the loss is {loss:.2f}; "
    if run.queue:
        numbers = (
            f"the loss is {loss:.2f} (guessing: {run.chance:.2f}); {mean_of(window, 'contrast_accuracy'):.0%} of images "
            f"find their own view among {run.queue + 1:,}; "
        )
    numbers += f"the features fill {rank:.0f} of {run.dim} dimensions."
    half = len(full) // 2
    falls = half and mean_of(full[half:], "loss") < mean_of(full[:half], "loss")
    guesses = run.queue and loss > GUESSING * run.chance
    # what was learned before need not fall any more
    if step < WARM_STEPS or guesses or not (falls or run.trained or step > run.steps / 2):
        return Verdict("warming up", f"After {step:,} steps {numbers}", "Run longer.")
    return Verdict("learning", numbers[0].upper() + numbers[1:])


# --- measures


@torch.no_grad()
def contrast_accuracy(logits: Tensor) -> Tensor:
    """Share of images whose own key is nearer than all K others; `logits` has the positive in column 0.

    A tie is no success: where all features are one, nothing was told apart.
    """
    return (logits[:, 0] > logits[:, 1:].amax(dim=1)).float().mean()


@torch.no_grad()
def positive_auroc(logits: Tensor, newest: Tensor) -> Tensor:
    """AUROC of an image's own key against the keys of the step before, mean over images; 0.5 is guessing.

    It moves long before the contrast accuracy, which asks for the first of K + 1. Against the whole queue, pairs of
    strangers reach 0.65: keys of one moment are alike, and so an image's own key is told by its age.

    Args:
        logits: (N, 1 + K), the positive in column 0.
        newest: places in the queue of the keys that entered last.
    """
    positive, others = logits[:, :1], logits[:, 1:][:, newest]
    compared = others > -math.inf  # those left out are no strangers
    wins = ((positive > others).float() + (positive >= others).float()) / 2  # a tie counts half (Mann and Whitney)
    return (wins * compared).sum() / compared.sum().clamp_min(1)


@torch.no_grad()
def duplicate_negatives(logits: Tensor, within: float = 1e-6) -> float:
    """Share of images with a negative that is their own key to rounding, |difference| <= `within` x (1 + |logit|).

    About 0 in a sound run, whatever it has learned (a stranger's cosine falls there once in 10^5 keys or so); 1 where a
    key is enqueued before its loss, and where all is one point.
    """
    positive = logits[:, :1]
    nearest = (logits[:, 1:] - positive).abs().amin(dim=1)
    return float((nearest <= within * (1 + positive[:, 0].abs())).float().mean())


@torch.no_grad()
def view_difference(views: Tensor) -> float | None:
    """How much the two views of an image differ, over how much two images do: mean absolute differences of grey values.

    Args:
        views: (2, n, 1, S, S), the two sides.

    Returns:
        0 where the views are equal, about 1 where they have nothing in common; None where all images are equal.
    """
    first, other = (side.float() for side in views)
    strangers = float((first - first.roll(1, dims=0)).abs().mean())  # each image against the one before it in the batch
    return float((first - other).abs().mean()) / strangers if strangers else None


@torch.no_grad()
def alignment(logits: Tensor, temperature: float) -> Tensor:
    """Mean squared distance of the two views of an image, 0..4 (Wang and Isola 2020, arXiv 2005.10242, alpha = 2).

    Args:
        logits: (N, 1 + K), cosines over T, the positive in column 0.
    """
    return (2 - 2 * temperature * logits[:, 0].float()).mean()  # |a - b|^2 = 2 - 2 cos of unit vectors


def contrast_measures(loss: Tensor, logits: Tensor, newest: Tensor, temperature: float) -> Tensor:
    """Loss, contrast accuracy, AUROC of pairs and alignment of a step, (4,), without waiting for the device."""
    measures = (contrast_accuracy(logits), positive_auroc(logits, newest), alignment(logits, temperature))
    return torch.stack([loss.float(), *measures])


@torch.no_grad()
def uniformity(z_NC: Tensor) -> float:
    """Log of the mean over pairs of exp(-2 x squared distance) (Wang and Isola 2020, t = 2); N >= 2 unit features.

    0 at one point; the more even the spread over the sphere the lower, about -3.9 in 128 dimensions.
    """
    squared = torch.pdist(z_NC.float()).square()
    return float(torch.logsumexp(-2 * squared, dim=0) - math.log(len(squared)))


@torch.no_grad()
def feature_std(z_NC: Tensor) -> float:
    """Standard deviation over images, mean over dimensions, times sqrt(C); N >= 2.

    1 for features spread evenly over the sphere, 0 for a collapse to one point (SimSiam, Chen and He 2021, sec. 4.1).
    """
    return float(z_NC.float().std(dim=0).mean() * math.sqrt(z_NC.shape[1]))


@torch.no_grad()
def effective_rank(z_NC: Tensor, eps: float = 1e-7) -> float:
    """RankMe: exp of the entropy of the normalised singular values, 1..min(N, C) (Garrido et al. 2023, eq. 1)."""
    singular = torch.linalg.svdvals(z_NC.float())
    p = singular / singular.sum().clamp_min(eps) + eps  # eps after the division, as equation 1 has it
    return float(torch.exp(-(p * p.log()).sum()))


@torch.no_grad()
def gradient_norm(network: nn.Module) -> Tensor:
    """Length of the gradient over all parameters, on their device: reading it is what waits. 0 without gradients."""
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    if not gradients:
        return torch.zeros(())
    return torch.stack(torch._foreach_norm(gradients)).float().norm()


@torch.no_grad()
def relative_distance(first: nn.Module, other: nn.Module, each: int = 512) -> float:
    """Distance of two networks' parameters over the length of the first's.

    Of a parameter with more than `each` weights so many are looked at, evenly spaced, and stand for all.
    """
    apart = length = torch.zeros(())
    for a, b in zip(first.parameters(), other.parameters(), strict=True):
        seen = _spaced(a, each).float()
        stand_for = a.numel() / seen.numel()
        apart = apart.to(seen.device) + stand_for * (seen - _spaced(b, each).float()).square().sum()
        length = length.to(seen.device) + stand_for * seen.square().sum()
    return float((apart / length.clamp_min(1e-30)).sqrt())


@torch.no_grad()
def weight_sample(network: nn.Module, each: int = 256) -> Tensor:
    """Up to `each` weights of every parameter, evenly spaced: where a network stands, in a few thousand numbers."""
    return torch.cat([_spaced(weight, each).float() for weight in network.parameters()])


def _spaced(weight: Tensor, each: int) -> Tensor:
    """Up to `each` numbers, evenly spaced in the order of the indices; no copy is made of a channels-last weight."""
    step = -(-weight.numel() // each)
    while math.gcd(step, weight.numel()) > 1:
        step += 1  # else a few places of each kernel would stand for all
    if weight.is_contiguous():
        return weight.view(-1)[::step]
    places = torch.arange(0, weight.numel(), step, device=weight.device)
    return weight[torch.unravel_index(places, weight.shape)]


SPREAD_KEYS, PAIRED_KEYS = 4096, 512
"""Embeddings that spread and effective rank are measured on, and those whose pairs uniformity is, at most."""


def spread(z_NC: Tensor) -> dict[str, float | None]:
    """How far embeddings spread (`feature_std, effective_rank, uniformity`); null of a single one, which has no spread."""
    z_NC = z_NC[:SPREAD_KEYS]
    if z_NC.device.type == "mps":
        z_NC = z_NC.cpu()  # where torch has singular values and distances of pairs
    if len(z_NC) < 2:
        return {"feature_std": None, "effective_rank": None, "uniformity": None}
    return {
        "feature_std": feature_std(z_NC),
        "effective_rank": effective_rank(z_NC),
        "uniformity": uniformity(z_NC[:PAIRED_KEYS]),
    }
