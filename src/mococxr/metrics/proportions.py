"""Numbers that are ratios of counts or sums over rows, with intervals; and words where a number is not defined.

Letters: N rows, U patients, B replicates, C columns of sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from mococxr.errors import UndefinedError
from mococxr.metrics.bootstrap import DRAWN, Resamples, interval
from mococxr.metrics.checks import Floats


@dataclass(frozen=True)
class Number:
    """A number with its interval and how that was made; None and a `reason` where the data do not define one."""

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str | None = None
    reason: str | None = None

    def ends(self) -> tuple[float, float, float]:
        """Value, low and high.

        Raises:
            UndefinedError: one of them is not defined.
        """
        if self.value is None or self.low is None or self.high is None:
            raise UndefinedError(self.reason or "the number has no interval")
        return self.value, self.low, self.high

    def block(self) -> dict[str, Any]:
        """As JSON holds it; `reason` stands only where there is one."""
        names = ("value", "low", "high", "method", *(["reason"] if self.reason else []))
        return {name: getattr(self, name) for name in names}


def wilson(successes: float, total: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (JASA 22:209, 1927).

    Raises:
        UndefinedError: the total is 0.
        ValueError: successes outside 0 to total, or a level outside 0 to 1.
    """
    if not 0 <= successes <= total or not 0 < level < 1:
        raise ValueError(f"{successes} of {total} at level {level} is no proportion")
    if total == 0:
        raise UndefinedError("none of nothing: the proportion has no rows")
    z = float(ndtri(0.5 + level / 2))
    share, slack = successes / total, z * z / total
    middle = (share + slack / 2) / (1 + slack)
    half = z / (1 + slack) * np.sqrt(share * (1 - share) / total + slack / (4 * total))
    low = 0.0 if successes == 0 else float(middle - half)
    high = 1.0 if successes == total else float(middle + half)
    return low, high


def resampled_sums(columns_NC: ArrayLike, resamples: Resamples) -> Floats:
    """The sum of each column over the rows of every resample, shape (B, C)."""
    columns = np.asarray(columns_NC, dtype=np.float64)
    size = resamples.patients_U.size
    by_patient_UC = np.stack(
        [np.bincount(resamples.unit_N, weights=column, minlength=size) for column in columns.T], axis=1
    )
    step = max(1, DRAWN // size)
    blocks = [
        resamples.weights_BU[start : start + step].astype(np.float64) @ by_patient_UC
        for start in range(0, len(resamples.weights_BU), step)
    ]
    return np.concatenate(blocks)


def ratio(top: ArrayLike, bottom: ArrayLike) -> Floats:
    """`top / bottom`, NaN where `bottom` is 0 or less."""
    over, under = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    return np.divide(
        over, under, out=np.full(np.broadcast_shapes(over.shape, under.shape), np.nan), where=under > 0
    )


def bootstrapped(value: float, replicates_B: Floats, level: float) -> Number:
    """A number with the percentile interval of its replicates over patients."""
    try:
        ends = interval(replicates_B, value, level)
    except UndefinedError as error:
        return Number(value, reason=str(error))
    return Number(value, ends.low, ends.high, "bootstrap over patients")


def repeats(patients: ArrayLike | None, size: int) -> bool:
    """Whether a patient has several rows.

    Raises:
        ValueError: another shape than (size,).
    """
    if patients is None:
        return False
    ids = np.asarray(patients)
    if ids.shape != (size,):
        raise ValueError(f"{ids.shape} patients for {size} rows")
    return np.unique(ids).size < size
