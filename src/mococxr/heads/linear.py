"""Frozen features -> linear head: logistic regression, solved, on features standardised by the training rows.

N  rows    D  length of a feature    K  rows of the head: 1, or 3 with a class of its own for uncertain labels
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mococxr.errors import InputError, UndefinedError
from mococxr.metrics import auroc

DEFAULT_STRENGTH = 0.01
"""Inverse regularisation C where nothing else is known (golden row 14)."""
STRENGTHS = tuple(10.0**power for power in range(-4, 2))
"""Values of C that cross-validation tries."""
FOLDS = 5
MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class LinearHead:
    """score = sigmoid of (feature - mean) / scale . weight + bias.

    Args:
        mean, scale: of the training rows, (D,) float64.
        weight, bias: (K, D) and (K,) float64.
        strength: the C it was solved with.
        notes: what had to be decided on the way, in plain words.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float
    notes: tuple[str, ...] = field(default=())

    @property
    def classes(self) -> int:
        """2, or 3 where uncertain labels are a class of their own."""
        return 2 if len(self.bias) == 1 else 3

    def scores(self, features: ArrayLike) -> NDArray[np.float64]:
        """Probability of the finding, (N,) float64 in [0, 1], of features (N, D).

        With three classes: that of positive given positive or negative (U-MultiClass).
        """
        standard = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        logits = standard @ self.weight.T + self.bias
        return expit(logits[:, 0] if self.classes == 2 else logits[:, 1] - logits[:, 0])


def parse_strength(text: str) -> float | str:
    """`cv`, or a number above 0.

    Raises:
        InputError: neither.
    """
    if text == "cv":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise InputError(
            f"--strength cannot be {text!r}.", "It is a number above 0, for example 0.01, or cv."
        )
    return value


def solve_linear(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    strength: float | str = DEFAULT_STRENGTH,
    patients: Sequence[str] | NDArray,
    seed: int = 0,
) -> LinearHead:
    """Solve the head on the rows given: training rows only, nothing else enters.

    Args:
        features: (N, D).
        labels: 1, 0, or 2 for uncertain as a class, (N,).
        strength: inverse regularisation C, or `cv`: the one of `STRENGTHS` with the best mean AUROC over
            folds that keep a patient together.
        patients: patient of each row, (N,).
        seed: of the folds.

    Raises:
        UndefinedError: one class only.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if not {0, 1} <= set(np.unique(y).tolist()):
        raise UndefinedError(f"one class only among {len(y)} training images")
    notes: list[str] = []
    with threadpool_limits(limits=1):  # the sums then come out the same whatever --jobs says
        if isinstance(strength, str):
            strength = _cross_validated(x, y, np.asarray(patients), seed, notes)
        scaler = StandardScaler().fit(x)
        model = _solve(scaler.transform(x), y, strength)
    if int(model.n_iter_.max()) >= MAX_ITERATIONS:
        notes.append(
            f"the solver stopped after {MAX_ITERATIONS} iterations at C {strength:g} before it converged"
        )
    return LinearHead(
        scaler.mean_, scaler.scale_, model.coef_, model.intercept_, float(strength), tuple(notes)
    )


def _solve(x: NDArray[np.float64], y: NDArray, strength: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the head's notes say it
        return LogisticRegression(C=strength, solver="lbfgs", max_iter=MAX_ITERATIONS).fit(x, y)


def _cross_validated(
    x: NDArray[np.float64], y: NDArray, patients: NDArray, seed: int, notes: list[str]
) -> float:
    """The C with the best mean AUROC; the smaller of two that tie."""
    folds = _folds(y, patients, seed)
    if not folds:
        notes.append(f"too few patients of one class to cross-validate: C {DEFAULT_STRENGTH:g} was taken")
        return DEFAULT_STRENGTH
    total = np.zeros(len(STRENGTHS))
    for train, held in folds:
        scaler = StandardScaler().fit(x[train])
        inside, outside = scaler.transform(x[train]), scaler.transform(x[held])
        known = y[held] != 2
        for i, strength in enumerate(STRENGTHS):
            model = _solve(inside, y[train], strength)
            margin = outside @ model.coef_.T + model.intercept_
            score = margin[:, 0] if margin.shape[1] == 1 else margin[:, 1] - margin[:, 0]
            total[i] += auroc(y[held][known], score[known])
    return STRENGTHS[int(np.argmax(total))]


def _folds(y: NDArray, patients: NDArray, seed: int) -> list[tuple[NDArray, NDArray]]:
    """Folds by patient that all hold both classes on both sides; none where that cannot be."""
    smallest = min(len(np.unique(patients[y == value])) for value in (0, 1))
    count = min(FOLDS, smallest)
    if count < 2 or (np.bincount(y.astype(np.int64))[:2] < count).any():
        return []
    strata = np.where(y == 1, 1, 0)
    splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    folds = list(splitter.split(np.zeros(len(y)), strata, patients))
    whole = all({0, 1} <= set(y[part].tolist()) for fold in folds for part in fold)
    return folds if whole else []
