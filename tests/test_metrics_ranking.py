from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from mococxr.errors import UndefinedError
from mococxr.measure.units import join_units
from mococxr.metrics import auroc, auroc_measure, average_precision, average_precision_measure
from mococxr.metrics.ranking import curve_of

MEASURES = [
    (auroc, auroc_measure, roc_auc_score),
    (average_precision, average_precision_measure, average_precision_score),
]


@st.composite
def scored(draw):
    """Labels of both classes, scores with many ties, small whole weights with weight in both classes."""
    n = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.permutation(np.arange(n) < draw(st.integers(1, n - 1))).astype(int)
    scores = np.round(rng.normal(size=n), draw(st.integers(0, 3)))
    weights = rng.integers(0, 4, n)
    weights[np.argmax(labels)] = weights[np.argmin(labels)] = 1
    return labels, scores, weights


@pytest.mark.parametrize(("ours", "measure", "oracle"), MEASURES)
@given(data=scored())
@settings(max_examples=150, deadline=None)
def test_a_measure_equals_scikit_learn_with_ties_and_weights(ours, measure, oracle, data):
    labels, scores, weights = data
    assert ours(labels, scores) == pytest.approx(oracle(labels, scores), abs=1e-12)
    curve = curve_of(labels == 1, scores, np.arange(labels.size))
    weighted = measure(curve(np.stack([weights, weights / 7], axis=1)))
    assert weighted == pytest.approx(oracle(labels, scores, sample_weight=weights), abs=1e-12)


@given(data=scored())
@settings(max_examples=50, deadline=None)
def test_turning_the_scores_round_turns_the_auroc_round(data):
    labels, scores, _ = data
    assert auroc(labels, -scores) == pytest.approx(1 - auroc(labels, scores), abs=1e-12)
    assert auroc(labels, np.exp(scores)) == auroc(labels, scores)


@pytest.mark.parametrize("measure", [auroc, average_precision])
def test_one_class_has_no_value_and_says_why(measure):
    with pytest.raises(UndefinedError, match="all 3 labels are 0"):
        measure([0, 0, 0], [1, 2, 3])
    with pytest.raises(UndefinedError, match="no rows"):
        measure([], [])


@pytest.mark.parametrize("measure", [auroc, average_precision])
def test_a_row_that_cannot_be_ranked_is_refused(measure):
    with pytest.raises(ValueError, match="not a finite number"):
        measure([0, 1], [np.nan, 1])
    with pytest.raises(ValueError, match="1 or 0"):
        measure([0, -1], [0.5, 1])
    with pytest.raises(ValueError, match="1 or 0"):
        measure([0, np.nan], [0.5, 1])
    with pytest.raises(ValueError, match="labels have the shape"):
        measure([0, 1, 1], [0.5, 1])


def test_the_vote_of_a_study_is_its_highest_score_and_any_finding():
    images = pl.DataFrame({"patient": ["p"] * 4, "study": ["b", "b", "a", "b"], "label": [0, 1, 0, 0]})
    labels, scores, _ = join_units(images, np.array([0.1, 0.2, 0.9, 0.3]), "study", "max")
    assert labels.tolist() == [0, 1]
    assert scores.tolist() == [0.9, 0.3]


def test_the_mean_vote_of_many_trials_equals_a_loop_over_groups():
    rng = np.random.default_rng(0)
    labels, scores, groups = rng.integers(0, 2, 60), rng.normal(size=(3, 60)), rng.integers(0, 17, 60)
    images = pl.DataFrame({"patient": groups, "study": groups, "label": labels})
    voted, joined, ids = join_units(images, scores, "patient", "mean")
    assert ids.tolist() == sorted(set(groups.tolist()))
    for g, group in enumerate(ids):
        np.testing.assert_allclose(joined[:, g], scores[:, groups == group].mean(axis=1), rtol=1e-13)
        assert voted[g] == labels[groups == group].max()
