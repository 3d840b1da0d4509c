from __future__ import annotations

import numpy as np
import pytest

import mococxr.metrics as metrics

LABELS, PATIENTS = np.repeat([1, 0], 30), np.arange(60)


@pytest.mark.parametrize(
    ("ends", "word"), [((0.01, 0.05), "higher"), ((-0.05, -0.01), "lower"), ((-0.01, 0.05), "not shown")]
)
def test_the_word_follows_the_interval_and_the_sentence_says_over_what(ends, word):
    found = metrics.verdict(sum(ends) / 2, *ends, 0.03, LABELS, PATIENTS)
    assert (found.word, found.p) == (word, 0.03)
    assert "over other test patients: " in found.sentence
    assert f"({ends[0]:+.3f} to {ends[1]:+.3f})" in found.sentence
    assert found.sentence.endswith("It says nothing about other label draws or pretraining runs.")


def test_an_interval_over_all_sources_leaves_nothing_unsaid():
    over = ("test patients", "label draws", "pretraining runs")
    found = metrics.verdict(0.03, 0.01, 0.05, 0.01, LABELS, PATIENTS, over)
    assert found.sentence == (
        "Higher, over other test patients, label draws and pretraining runs: +0.030 (+0.010 to +0.050)."
    )


def test_of_two_tables_of_scores_nothing_is_said_about_draws_or_runs():
    found = metrics.verdict(0.03, 0.01, 0.05, 0.01, LABELS, PATIENTS, sources=("test patients",))
    assert found.sentence == "Higher, over other test patients: +0.030 (+0.010 to +0.050)."


def test_three_positives_give_words_and_no_p():
    found = metrics.verdict(0.2, 0.1, 0.3, 0.001, LABELS[27:], PATIENTS[27:])
    assert (found.word, found.p) == ("too few", None)
    assert found.sentence == (
        "Too few to judge: 3 positive test patients, fewer than 10; no test is made of the difference."
    )


@pytest.mark.parametrize(
    ("ends", "wider", "said"),
    [((0.01, 0.05), (0.002, 0.06), "So it is over other test patients and label draws (+0.002 to +0.060)."),
     ((0.01, 0.05), (-0.02, 0.08),
      "No difference is shown over other test patients and label draws (-0.020 to +0.080)."),
     ((-0.01, 0.05), (-0.02, 0.06), "Nor over other test patients and label draws (-0.020 to +0.060)."),
     ((-0.01, 0.05), (0.001, 0.04), "Higher over other test patients and label draws (+0.001 to +0.040).")],
)  # fmt: skip
def test_a_second_interval_over_more_sources_is_said_and_changes_no_verdict(ends, wider, said):
    over = ("test patients", "label draws")
    found = metrics.verdict(0.03, *ends, 0.03, LABELS, PATIENTS, wider=wider, wider_over=over)
    plain = metrics.verdict(0.03, *ends, 0.03, LABELS, PATIENTS)
    assert found.word == plain.word
    assert f" {said} It says nothing about other pretraining runs." in found.sentence
