"""Readers who saw the same images: kappa, where they disagree, and which label stands then."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

import mococxr
from mococxr.errors import InputError, UndefinedError
from mococxr.metrics import kappa, patient_resamples
from mococxr.store import Store
from small_images import image_path, small_prepared

IMAGES = 12
ANSWERS = {
    "A": [1, 1, 0, 0, -1, 1, 0, 1],
    "B": [1, 0, 0, 1, 0, 1, 0, 1],
    "C": [None, 0, None, None, 1, None, None, None],
}
"""Of the first images, by reader."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_prepared(tmp_path_factory.mktemp("agreement"), IMAGES)


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "store")
    for reader, values in ANSWERS.items():
        rows = [(image_path(i), str(value)) for i, value in enumerate(values) if value is not None]
        table = pl.DataFrame(rows, schema=["path", "Nodule"], orient="row").with_columns(probability=pl.lit("0.5"))
        mococxr.label(tmp_path / "store", table, label=["Nodule"], reader=reader, chosen_by="random")
    return tmp_path / "store"


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn_and_its_interval_that_of_a_slow_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(-1, 2, 60)
    second = np.where(rng.random(60) < 0.6, first, rng.integers(-1, 2, 60))
    patients = rng.integers(0, 25, 60)
    result = kappa(first, second, patients, replicates=200, seed=seed)
    assert result.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    drawn = patient_resamples(patients, 200, seed)
    rows = [np.repeat(np.arange(60), weights[drawn.unit_N]) for weights in drawn.weights_BU]
    values = [cohen_kappa_score(first[r], second[r]) for r in rows]
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)


def test_kappa_of_readers_who_always_say_one_thing_is_undefined() -> None:
    for answers in ([], [1, 1, 1]):
        with pytest.raises(UndefinedError):
            kappa(answers, answers)
    assert kappa([1, 0, 1], [1, 0, 1]).value == 1


RESOLVED = {
    "uncertain": [1, -1, 0, -1, -1], "majority": [1, 0, 0, -1, -1], "A": [1, 1, 0, 0, -1], "C": [1, 0, 0, -1, 1],
}  # fmt: skip


@pytest.mark.parametrize("rule", RESOLVED)
def test_what_stands_afterwards_is_what_the_rule_says_and_a_second_time_adds_nothing(store: Path, rule: str) -> None:
    before = Store.open(store).label_events
    after = mococxr.agreement(store, target="Nodule", resolve=rule)
    assert after.index["Nodule"].to_list()[:8] == [*RESOLVED[rule], 1, 0, 1]
    entered = after.history[before:]
    assert set(entered["reader"]) <= {"resolved"}
    assert set(entered.select("chosen_by", "probability").iter_rows()) <= {("random", 0.5)}
    assert mococxr.agreement(store, target="Nodule", resolve=rule).label_events == after.label_events
    for name, values in RESOLVED.items():  # another rule, later
        assert mococxr.agreement(store, target="Nodule", resolve=name).index["Nodule"].to_list()[:5] == values


def test_a_reader_who_thinks_again_counts_and_the_rule_is_applied_anew(store: Path) -> None:
    mococxr.agreement(store, target="Nodule")
    again = mococxr.label(store, pl.DataFrame({"path": [image_path(1)], "Nodule": ["0"]}), reader="A")
    assert again.index["Nodule"][1] == 0
    assert mococxr.agreement(store, target="Nodule").index["Nodule"][1] == 0, "all three say no now"


def test_disagreements_are_listed_and_nothing_is_written_without_a_rule(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Store.open(store).label_events
    mococxr.agreement(store, target="Nodule", resolve="none", out=tmp_path / "apart.csv")
    assert Store.open(store).label_events == before
    table = pl.read_csv(tmp_path / "apart.csv")
    assert table.columns == ["path", "target", "A", "B", "C"]
    assert table["path"].to_list() == [image_path(1), image_path(3), image_path(4)]
    shown = capsys.readouterr().out
    value = cohen_kappa_score(ANSWERS["A"], ANSWERS["B"])
    assert re.search(rf"A, B +8 +5 \(62 %\) +{value:.2f} \(", shown)
    assert "uncertain" in shown


def test_rules_and_findings_that_are_none_are_refused(store: Path) -> None:
    for given, said in (
        ({"target": "Nodule", "resolve": "D"}, "neither uncertain, majority, none nor a reader"),
        ({"target": "Nodul"}, "Did you mean Nodule"),
        ({"target": "Effusion"}, "No image has labels of two readers"),
    ):
        with pytest.raises(InputError) as error:
            mococxr.agreement(store, **given)
        assert said in f"{error.value.problem} {error.value.way_out}"
