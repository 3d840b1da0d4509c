"""Learning curves continued by power laws: against scipy's fit, a slow loop over pairs, and simulated curves."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.optimize import curve_fit

import mococxr
from fake_study import fake_study
from mococxr import metrics
from mococxr.errors import InputError, UndefinedError
from mococxr.heads.learning_curve import as_they_are, learning_curve, reduced
from mococxr.heads.linear import solve_linear
from small_store import HOW, make_store

SIZES = np.array([20.0, 40.0, 80.0, 120.0])


def law(n, a, b, c):
    return a - b * np.asarray(n, dtype=float) ** -c


@pytest.mark.parametrize(("a", "b", "c"), [(0.85, 0.05, 0.6), (0.8, 0.02, 1.0), (0.9, 0.125, 0.4)])
def test_without_noise_the_forecast_is_scipys_power_law(a, b, c):
    b *= 160**c
    values = law(SIZES, a, b, c)
    fitted, _ = curve_fit(law, SIZES, values, p0=(0.8, 1, 0.7), maxfev=20_000)
    curves = metrics.forecast(SIZES, values, 1e-8 * np.eye(4), 160)
    for n in (160, 320, 640):
        assert curves.at(n).value == pytest.approx(float(law(n, *fitted)), abs=0.006)
    wanted = float(law(320, a, b, c))
    assert curves.labels_for(wanted)[0].count == pytest.approx(320, rel=0.1)


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_intervals_cover_simulated_power_laws(noise):
    rng = np.random.default_rng(1)
    covariance = noise**2 * (0.7 + 0.3 * np.eye(4))
    hits, count = 0, 150
    for i in range(count):
        c, g, v = rng.uniform(0.3, 1.2), abs(rng.normal(0, 0.12)), rng.uniform(0.65, 0.8)
        wanted = v + g * (1 - np.array([320, 640]) ** -c / 160.0**-c)
        values = v + g * (1 - (SIZES / 160) ** -c)
        curves = metrics.forecast(
            SIZES, rng.multivariate_normal(values, covariance), covariance, 160, seed=i, draws=400
        )
        ends = [curves.at(n) for n in (320, 640)]
        hits += sum(end.low <= truth <= end.high for end, truth in zip(ends, wanted, strict=True))
    assert 0.85 <= hits / (2 * count) <= 0.97


def test_a_new_draw_of_twice_the_labels_spreads_by_the_root_of_a_half():
    flat = metrics.Forecast(100, np.full(2000, 0.7), np.zeros(2000), np.ones(2000), spread=0.03)
    number = flat.at(200)
    assert number.high - number.low == pytest.approx(2 * 1.6449 * 0.03 / np.sqrt(2), rel=0.01)


def test_a_plateau_below_what_is_wanted_is_said_and_a_curve_of_two_sizes_is_none():
    curves = metrics.forecast(SIZES, law(SIZES, 0.7, 2, 1.0), 1e-6 * np.eye(4), 160)
    assert str(curves.labels_for(0.9)[0]).startswith("more than")
    assert str(curves.labels_for(0.6)[2]) == "at most 160"
    with pytest.raises(UndefinedError, match="this has 2"):
        metrics.forecast(SIZES[:2], [0.6, 0.7], np.eye(2), 160)
    vague = metrics.forecast(SIZES, law(SIZES, 0.8, 1, 0.6), 0.01 * np.eye(4) + 0.01, 160)
    assert "wide" in vague.at(640).reason


def test_the_points_of_the_curve_are_those_of_a_slow_loop_and_the_spread_that_of_new_patients():
    rng = np.random.default_rng(2)
    y = rng.random(30) < 0.4
    scores = rng.normal(size=(5, 30)) + y
    scores[1:][rng.random((4, 30)) < 0.4] = np.nan
    values, covariance = metrics.curve_points([scores, scores], y, np.arange(30))
    pairs = []
    for i in np.flatnonzero(y):
        for j in np.flatnonzero(~y):
            both = [row[i] > row[j] for row in scores if not np.isnan(row[i] + row[j])]
            pairs += [np.mean(both)] if both else []
    assert values == pytest.approx([np.mean(pairs)] * 2)
    assert covariance[0, 0] == pytest.approx(covariance[0, 1] + 0.005**2)
    fixed = rng.normal(size=(1, 400)) + (np.arange(400) < 100)
    _, covariance = metrics.curve_points([fixed, fixed], np.arange(400) < 100, np.arange(400))
    delong = metrics.delong_interval(np.arange(400) < 100, fixed[0])
    assert covariance[0, 1] / 2 == pytest.approx(delong.variance, rel=0.03)
    starts = np.array([[0], [100]])  # each repeat trains on others
    few, many = (np.where((np.arange(400) - starts) % 200 < trained, np.nan, fixed) for trained in (2, 50))
    _, covariance = metrics.curve_points([few, many], np.arange(400) < 100, np.arange(400))
    floor = 0.2**2 / np.array([4, 100])
    assert covariance[0, 0] == pytest.approx(floor[0]), "of four labels no point is surer than that"
    assert covariance[1, 1] > floor[1]


@pytest.mark.parametrize(("auroc", "share"), [(0.8, 0.5), (0.7, 0.1)])
def test_so_many_images_have_an_interval_of_the_wanted_width(auroc, share):
    n = metrics.images_for_width(0.1, auroc, share)
    rng, apart = np.random.default_rng(3), np.sqrt(2) * {0.8: 0.8416, 0.7: 0.5244}[auroc]
    widths = []
    for _ in range(20):
        y = np.arange(n) < round(share * n)
        found = metrics.delong_interval(y, rng.normal(size=n) + apart * y)
        widths.append(found.high - found.low)
    assert np.mean(widths) == pytest.approx(0.1, rel=0.06)


# --- the curve inside the labels, and the command


def test_heads_in_the_space_of_their_images_score_as_heads_of_all_features():
    rng = np.random.default_rng(4)
    y, x = np.arange(40) % 3 // 2, rng.normal(size=(40, 200))
    x[:, 0] += 2 * y
    small = reduced(x, None)
    heads = [solve_linear(each, y, as_they_are(each.shape[1]), C=0.1, patients=np.arange(40)).logits(each)
             for each in ((x - x.mean(0)) / x.std(0), small)]  # fmt: skip
    assert small.shape == (40, 40)
    assert np.allclose(*heads, atol=2e-3)


def test_no_image_of_the_curve_is_judged_by_a_head_of_its_patient_and_all_are_held_out_alike():
    rng = np.random.default_rng(5)
    y, patients = np.repeat(np.arange(48) % 2, 2), np.repeat(np.arange(48), 2)
    sizes, scores = learning_curve(rng.normal(size=(96, 5)), y, patients)
    assert sizes == sorted(sizes)
    for share, rows in zip((0.125, 0.25, 0.5, 0.75), scores, strict=True):
        held = ~np.isnan(rows)
        assert (held[:, ::2] == held[:, 1::2]).all(), "patients are whole"
        assert held.mean() == pytest.approx(1 - share)
    assert np.ptp((~np.isnan(scores[-1])).sum(axis=0)) == 0
    assert learning_curve(rng.normal(size=(6, 5)), np.array([1, 0, 0, 0, 0, 0]), np.arange(6)) == ([], [])


def test_the_command_says_curve_labels_and_width_and_reads_no_test_label(tmp_path, capsys, monkeypatch):
    (tmp_path / "made").mkdir()
    store = make_store(tmp_path / "made", patients=90, split=(0.6, 0.2, 0.2))
    how = {"encoder": "random", "target": "Finding", **HOW}
    facts = mococxr.forecast(store.path, auroc=0.95, width=0.1, **how)
    told = capsys.readouterr().out
    assert f"Finding: {facts['labels']} labels, {facts['positives']} positive" in told
    assert [row["labels"] for row in facts["ahead"]] == [facts["labels"] * times for times in (1, 2, 4)]
    assert "AUROC 0.95: " in told
    assert "an interval 0.1 wide takes about" in told
    index = store.index.with_columns(
        Finding=pl.when(pl.col("row").is_in(store.rows_in("test"))).then(0).otherwise("Finding")
    )
    index.with_columns(pl.col("Finding").cast(pl.Int8)).write_parquet(store.path / "index.parquet")
    assert mococxr.forecast(store.path, auroc=0.95, width=0.1, **how) == facts
    for name in ("encoder", "target"):
        with pytest.raises(InputError, match=f"is a store, which needs --{name}"):
            mococxr.forecast(store.path, **how | {name: None})
    monkeypatch.setattr("mococxr.measure.forecasting.SPREAD", 0.0)
    undrawn = mococxr.forecast(store.path, **how)["ahead"]
    assert all(row["low"] < other["low"] for row, other in zip(facts["ahead"], undrawn, strict=True)), "of a new draw"
    monkeypatch.setattr("mococxr.heads.learning_curve.SHARES", (0.5, 0.75))
    assert "It cannot be said yet" in mococxr.forecast(store.path, **how)["reason"]
    assert "chosen at random" in capsys.readouterr().out


def test_a_study_is_forecast_from_its_own_cells_and_says_where_it_cannot(tmp_path, capsys):
    points = {"labels": [100.0, 400.0, 1600.0], "auroc": [0.7, 0.75, 0.78], "covariance": (2e-5 * np.eye(3)).tolist()}
    empty = {"labels": [], "auroc": [], "covariance": []}
    curves = [
        {"arm": "moco", "mode": "linear", "target": "Effusion", "reason": None, **points},
        {"arm": "random", "mode": "linear", "target": "Effusion", "reason": "Too few test patients.", **empty},
        {"arm": "moco", "mode": "linear", "target": "Pneumonia", "reason": None, **points},
    ]
    study = fake_study(tmp_path / "study", arms=("moco", "random"), recorded={"learning_curves": curves})
    facts = mococxr.forecast(study, target="Effusion", auroc=0.8, width=0.1)["curves"]
    assert [(each["arm"], each["target"]) for each in facts] == [("moco", "Effusion"), ("random", "Effusion")]
    ours = metrics.forecast(points["labels"], points["auroc"], points["covariance"], 1600, spread=0.5 / 40)
    assert [each["value"] for each in facts[0]["ahead"]] == [ours.at(n).value for n in (1600, 3200, 6400)]
    assert facts[0]["labels_for"]["value"]["count"] == ours.labels_for(0.8)[0].count
    assert facts[0]["test_images"]["images"] > 100
    out = capsys.readouterr().out
    assert "Effusion, moco, linear: 1,600 labels" in out
    assert "It cannot be said yet: Too few test patients." in out
    assert len(mococxr.forecast(study)["curves"]) == 3
    for changed, says in (({"target": "Nodule"}, "no such target"), ({"encoder": "imagenet"}, "a study has its arms")):
        with pytest.raises(InputError, match=says):
            mococxr.forecast(study, **changed)
