"""Linear probe: logistic regression, solved, on frozen features that are standardised.

N  rows    D  length of a feature    K  rows of the head: 1, or 3 with a class of its own for uncertain labels
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mococxr.errors import UndefinedError
from mococxr.heads.classifier import EnsembleMember, FitResult, LinearHead, TrainConfig, TrainData
from mococxr.heads.finetune import train_by_gradient
from mococxr.heads.scaling import Scaling, scaling_of
from mococxr.metrics import auroc

DEFAULT_C = 0.01
"""Inverse regularisation C where nothing else is known."""
GRID = tuple(10.0**power for power in range(-4, 2))
"""Values of C that cross-validation tries."""
FOLDS = 5
MAX_ITERATIONS = 2000


def train_linear(data: TrainData, config: TrainConfig) -> FitResult:
    """A solved head on frozen features; with `--linear-solver gradient`, the paper's recipe by gradient.

    Raises:
        UndefinedError: one class only among the rows.
    """
    if config.linear_solver == "gradient":
        return train_by_gradient(data, config, frozen=True)
    head = solve_probe(data, config)
    return FitResult([EnsembleMember(None, (head,))], 0, 0, head.notes)


def solve_probe(data: TrainData, config: TrainConfig) -> LinearHead:
    """The head on the features of the frozen encoder, standardised as `config.standardize` says.

    Raises:
        UndefinedError: one class only among the rows.
    """
    scaling = data.scaling() if config.standardize == "unlabelled" else None
    features = data.features_of(data.rows)
    return solve_linear(features, data.labels, scaling, C=config.C, patients=data.patients, seed=config.seed)


def solve_linear(
    features: ArrayLike,
    labels: ArrayLike,
    scaling: Scaling | None = None,
    *,
    C: float | str = DEFAULT_C,
    patients: Sequence[str] | NDArray,
    seed: int = 0,
) -> LinearHead:
    """Solve the head on the rows given: training rows only, nothing else enters.

    Args:
        features: (N, D).
        labels: 1, 0, or 2 for uncertain as a class, (N,).
        scaling: of training images, with or without labels; None standardises by these rows.
        C: inverse regularisation C, or `cv`: the one of `GRID` with the best mean AUROC over
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
        if isinstance(C, str):
            C = _cross_validated(x, y, np.asarray(patients), scaling, seed, notes)
        scaling = scaling or scaling_of(x)
        model = _solve((x - scaling.mean) / scaling.scale, y, C)
    if int(model.n_iter_.max()) >= MAX_ITERATIONS:
        notes.append(f"the solver stopped after {MAX_ITERATIONS} iterations at C {C:g} before it converged")
    return LinearHead(scaling.mean, scaling.scale, model.coef_, model.intercept_, float(C), tuple(notes))


def _solve(x: NDArray[np.float64], y: NDArray, C: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the head's notes say it
        return LogisticRegression(C=C, solver="lbfgs", max_iter=MAX_ITERATIONS).fit(x, y)


def _cross_validated(
    x: NDArray[np.float64], y: NDArray, patients: NDArray, scaling: Scaling | None, seed: int, notes: list[str]
) -> float:
    """The C with the best mean AUROC; the smaller of two that tie."""
    folds = _folds(y, patients, seed)
    if not folds:
        notes.append(f"too few patients of one class to cross-validate: C {DEFAULT_C:g} was taken")
        return DEFAULT_C
    total = np.zeros(len(GRID))
    for train, held in folds:
        # Of held patients no label may enter: a scaling of all training images has none, and is one in all folds.
        fold = scaling or scaling_of(x[train])
        inside = (x[train] - fold.mean) / fold.scale
        known = y[held] != 2  # uncertain images train a class of their own, and are judged nowhere
        for i, C in enumerate(GRID):
            model = _solve(inside, y[train], C)
            head = LinearHead(fold.mean, fold.scale, model.coef_, model.intercept_, C)
            total[i] += auroc(y[held][known], head.logits(x[held])[known])
    return GRID[int(np.argmax(total))]


def _folds(y: NDArray, patients: NDArray, seed: int) -> list[tuple[NDArray, NDArray]]:
    """Folds by patient that all hold both classes on both sides; none where that cannot be."""
    smallest = min(len(np.unique(patients[y == value])) for value in (0, 1))
    count = min(FOLDS, smallest)
    if count < 2 or (np.bincount(y.astype(np.int64))[:2] < count).any():
        return []
    strata = np.where(y == 1, 1, 0)
    splitter = StratifiedGroupKFold(
        n_splits=count, shuffle=True, random_state=seed % (1 << 32)
    )  # as large as scikit-learn takes
    folds = list(splitter.split(np.zeros(len(y)), strata, patients))
    whole = all({0, 1} <= set(y[part].tolist()) for fold in folds for part in fold)  # the splitter does not promise it
    return folds if whole else []
