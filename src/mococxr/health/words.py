"""Is pretraining learning? Measures of a contrastive run, and one verdict in plain words.

N  films      C  length of a projected feature      K  keys in the queue
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WARM_STEPS, WARM_FILLS = 50, 2
"""Steps, and fillings of the queue, before a run is judged: the first keys are random vectors, spread as if learned."""


def verdict(log: Sequence[Mapping[str, float]], queue: int, dim: int, batch: int) -> tuple[str, str]:
    """One word on a run and the sentence that gives reason and remedy.

    Args:
        log: logged steps with `step`, `loss`, `contrast_accuracy`, `feature_std`, `effective_rank`; the last
            tenth counts.
        queue: K.
        dim: C.
        batch: films a step, over all processes.

    Returns:
        word (collapsed, stuck, collapsing in dimension, too easy, learning, still warming), sentence.
    """
    steps = int(log[-1]["step"]) if log else 0
    if steps < WARM_STEPS or steps * batch < WARM_FILLS * queue:
        return (
            "still warming",
            f"{steps:,} steps of {batch} films are too few to judge: it takes {WARM_STEPS}, and {WARM_FILLS} fillings "
            f"of the queue of {queue:,}; run longer.",
        )
    last = log[-max(1, len(log) // 10) :]
    loss, accuracy, std, rank = (
        sum(entry[name] for entry in last) / len(last)
        for name in ("loss", "contrast_accuracy", "feature_std", "effective_rank")
    )
    chance = math.log(queue + 1)
    if std < 0.05:
        return (
            "collapsed",
            f"All films have nearly one feature (spread {std:.3f} of 1); lower --lr or raise --momentum.",
        )
    if loss > 0.97 * chance:
        return (
            "stuck",
            f"The loss {loss:.2f} is that of guessing, ln(K+1) = {chance:.2f}; check --lr and the views.",
        )
    if rank < 0.05 * min(dim, queue):
        return (
            "collapsing in dimension",
            f"The features fill {rank:.0f} of {dim} dimensions; make the views stronger (--crop, --contrast).",
        )
    early = log[: max(1, len(log) // 10)]
    at_once = sum(entry["contrast_accuracy"] for entry in early) / len(early)
    if at_once > 0.95:
        return (
            "too easy",
            f"Films were told apart at once ({at_once:.0%}); make the views stronger (--crop, --contrast).",
        )
    return (
        "learning",
        f"The loss fell to {loss:.2f} (guessing: {chance:.2f}); {accuracy:.0%} of films find their own view among "
        f"{queue + 1:,}; the features fill {rank:.0f} of {dim} dimensions.",
    )
