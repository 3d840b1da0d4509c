from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from mococxr.errors import InputError, UndefinedError
from mococxr.heads.classifier import parse_C
from mococxr.heads.linear import DEFAULT_C, GRID, solve_linear


def blobs(n=120, d=6, seed=0, classes=2):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, d)) * np.arange(1, d + 1) + 5
    x[:, 0] += 1.5 * y
    return x.astype(np.float32), y, np.array([f"p{i // 2}" for i in range(n)])


def test_the_head_is_the_minimum_of_the_penalised_likelihood():
    x, y, patients = blobs()
    head = solve_linear(x, y, C=0.1, patients=patients)
    z = (x.astype(float) - x.mean(0, dtype=float)) / x.std(0, dtype=float)

    def loss(parameters):
        margin = z @ parameters[:-1] + parameters[-1]
        return 0.5 * parameters[:-1] @ parameters[:-1] + 0.1 * np.logaddexp(0, -margin * (2 * y - 1)).sum()

    best = minimize(loss, np.zeros(7), method="BFGS", tol=1e-9).x
    assert np.allclose(head.weight[0], best[:-1], atol=1e-3)
    assert np.allclose(head.bias, best[-1], atol=1e-3)
    expected = 1 / (1 + np.exp(-(z @ best[:-1] + best[-1])))
    assert np.allclose(head.scores(x), expected, atol=1e-3)


def test_scaling_or_shifting_the_features_changes_no_score():
    x, y, patients = blobs()
    plain = solve_linear(x, y, patients=patients).scores(x)
    moved = solve_linear(x * 3 + 100, y, patients=patients).scores(x * 3 + 100)
    assert np.allclose(plain, moved, atol=1e-4)


def test_features_that_never_vary_do_no_harm():
    x, y, patients = blobs()
    x[:, 3] = 7.0
    assert np.isfinite(solve_linear(x, y, patients=patients).scores(x)).all()


def test_three_classes_score_positive_against_negative_only():
    x, y, patients = blobs(150, classes=3)
    head = solve_linear(x, y, C=1.0, patients=patients)
    assert head.classes == 3
    known = y < 2
    logits = ((x - head.mean) / head.scale) @ head.weight.T + head.bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(head.scores(x), p[:, 1] / (p[:, 0] + p[:, 1]))
    assert roc_auc_score(y[known], head.scores(x)[known]) > 0.6


def test_cross_validation_picks_a_strength_from_its_grid_by_patient_and_by_seed():
    x, y, patients = blobs()
    heads = [solve_linear(x, y, C="cv", patients=patients, seed=s) for s in (0, 0)]
    assert heads[0].C in GRID
    assert np.array_equal(heads[0].weight, heads[1].weight)


def test_folds_never_part_the_images_of_a_patient():
    import mococxr.heads.linear as probe

    _, y, patients = blobs()
    folds = probe._folds(y, patients, 0)
    assert len(folds) == probe.FOLDS
    for train, held in folds:
        assert not set(patients[train]) & set(patients[held])


def test_cross_validation_without_enough_patients_falls_back_and_says_so():
    x, y, _ = blobs(12)
    patients = np.where(y == 1, "one", [f"p{i}" for i in range(12)])
    head = solve_linear(x, y, C="cv", patients=patients)
    assert head.C == DEFAULT_C
    assert "too few patients" in head.notes[0]


def test_a_solver_that_does_not_converge_says_so(monkeypatch):
    monkeypatch.setattr("mococxr.heads.linear.MAX_ITERATIONS", 2)
    x, y, patients = blobs()
    assert "before it converged" in solve_linear(x, y, C=100.0, patients=patients).notes[0]


def test_labels_of_one_class_have_no_head():
    x, _, patients = blobs()
    with pytest.raises(UndefinedError, match="one class"):
        solve_linear(x, np.ones(len(x), int), patients=patients)


def test_a_strength_is_a_number_above_zero_or_cv():
    assert parse_C("0.5") == 0.5
    assert parse_C("cv") == "cv"
    for bad in ("0", "-1", "inf", "nan", "strong"):
        with pytest.raises(InputError, match="--C"):
            parse_C(bad)
