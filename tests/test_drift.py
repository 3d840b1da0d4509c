"""`drift`: weeks of a ledger beside the images that the model learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import ks_2samp

import mococxr
from mococxr.classifier.findings import Finding
from mococxr.classifier.reference import FEWEST, image_facts, score_facts
from mococxr.classifier.saved import load_model
from mococxr.gateway.findings import reference_of as reference_facts
from mococxr.gateway.ledger import DECLINED, REPORTED, Found, Ledger, Scored
from mococxr.monitoring.drift import Drifts
from mococxr.monitoring.weeks import compare, monday, shares_of, unknown_values
from mococxr.store import Store
from small_store import HOW
from small_world import status


def make_ledger(path: Path, weeks: dict[str, tuple[np.ndarray, str | None]], reference: dict[str, Any] | None) -> Path:
    """A ledger of one model: Monday -> its scores and the device."""
    ledger = Ledger(path, "1a2b3c4d5e6f")
    ledger.introduce("MoCo-CXR Effusion", reference)
    number = 0
    for monday_, (scores, device) in weeks.items():
        for score in scores:
            number += 1
            ledger.add([Found(f"1.2.{number}", "1.2", "1.2.1")])
            entry = ledger.entry_of(f"1.2.{number}")
            assert entry is not None
            finding = Finding("Effusion", float(score), None, int(score >= 0.5), 0.5, None)
            ledger.scored(entry, Scored(f"{monday_}T09:00:00+01:00", "PA", device, None, (finding,)))
            ledger.end(entry, REPORTED)
    ledger.add([Found("1.3.1", "1.3", "1.3.1")])
    declined = ledger.entry_of("1.3.1")
    assert declined is not None
    ledger.end(declined, DECLINED, "view: Lateral")
    ledger.close()
    return path


def reference_of(scores: np.ndarray) -> dict[str, Any]:
    facts = score_facts(scores)
    return {"scores": {"Effusion": facts}, "views": {"PA": 50, "AP": 30}, "devices": {"Maker One": 80}}


def test_the_distance_is_that_of_the_whole_sample_to_what_its_quantiles_leave_open() -> None:
    rng = np.random.default_rng(3)
    for n, shift in ((40, 0.0), (300, 0.1), (900, 0.25)):
        reference, scores = rng.beta(2, 5, 4000), np.clip(rng.beta(2, 5, n) + shift, 0, 1)
        facts = score_facts(reference)
        assert facts is not None
        distance, p = compare(scores, facts)
        whole = ks_2samp(scores, reference, method="asymp")
        assert distance == pytest.approx(whole.statistic, abs=0.011)  # one step of the quantiles
        assert abs(np.log10(max(p, 1e-30)) - np.log10(max(whole.pvalue, 1e-30))) < 1 + 0.25 * n / 40


def test_equal_scores_are_no_distance_and_a_reference_of_one_value_is_no_crash() -> None:
    same = score_facts(np.full(50, 0.3))
    assert same is not None
    assert compare(np.full(40, 0.3), same)[0] == 0
    assert compare(np.full(40, 0.4), same)[0] == pytest.approx(1)


def test_weeks_without_drift_are_marked_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(1)
    facts = score_facts(rng.beta(2, 5, 1000))
    assert facts is not None
    alarms = [compare(rng.beta(2, 5, 60), facts)[1] < 0.05 for _ in range(400)]
    assert np.mean(alarms) < 0.09


def test_a_week_begins_on_monday_where_the_clock_stands() -> None:
    dates = pl.Series(["2026-11-29T23:30:00+01:00", "2026-11-30T00:10:00+01:00"])
    assert [str(day) for day in monday(dates)] == ["2026-11-23", "2026-11-30"]


def test_a_shifted_week_and_a_new_device_are_flagged_and_the_others_are_not(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(2)
    weeks = {
        "2026-11-02": (rng.beta(2, 5, 120), "Maker One"),
        "2026-11-09": (rng.beta(2, 5, 90), "Maker One"),
        "2026-11-16": (rng.beta(5, 2, 60), "Maker Two"),
        "2026-11-23": (rng.beta(5, 2, 5), "Maker One"),
    }
    ledger = make_ledger(tmp_path / "ledger", weeks, reference_of(rng.beta(2, 5, 500)))
    found = mococxr.drift(ledger, out=tmp_path / "drift.html")
    assert isinstance(found, Drifts)
    (model,) = found.models
    assert [week.flagged for week in model.findings["Effusion"]] == [False, False, True, False]
    assert model.findings["Effusion"][3].p is None, "five images say nothing"
    assert model.unknown == ["device Maker Two"]
    assert found.exit_status == 3
    facts = json.loads((tmp_path / "drift.json").read_text())
    assert facts["models"][0]["states"] == {"declined": 1, "reported": 275}
    page = (tmp_path / "drift.html").read_text()
    for words in ("Scores differ from training", "Maker Two", "view: Lateral", "2026-11-16 *"):
        assert words in page
    assert "1.2.1" not in page, "a UID"
    out = capsys.readouterr().out
    assert "2026-11-16" in out
    assert out.count("*") == 1


def test_a_model_that_kept_nothing_is_shown_without_a_comparison(tmp_path: Path, capsys) -> None:
    ledger = make_ledger(tmp_path / "ledger", {"2026-11-02": (np.linspace(0, 1, 40), None)}, None)
    assert status("drift", ledger, "--out", tmp_path / "drift.html") == 0
    assert "Fit it again" in (tmp_path / "drift.html").read_text()
    assert "fit the model again" in capsys.readouterr().err


def test_what_is_no_ledger_or_has_no_score_is_refused_and_nothing_is_written(tmp_path: Path, capsys) -> None:
    (tmp_path / "text").write_text("no ledger " * 100)
    Ledger(tmp_path / "empty", "a").close()
    for name, says in (("text", "not a ledger"), ("empty", "no scored image"), ("none", "not a ledger")):
        assert status("drift", tmp_path / name, "--out", tmp_path / "page.html") == 2
        assert says in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "text"]


def test_shares_of_a_week_add_up_and_rare_or_unstated_values_alarm_nobody() -> None:
    days = [pl.Series(["2026-11-02"]).str.to_date()[0]] * 40
    images = pl.DataFrame({"week": days, "view": ["PA"] * 37 + [None] * 2 + ["Oblique"]})
    table = shares_of(images, "view", {"PA": 10, "AP": 10})
    assert table["2026-11-02"].sum() == pytest.approx(1)
    assert dict(table.select("value", "reference").iter_rows()) == {
        "PA": 0.5, "not stated": 0, "Oblique": 0, "AP": 0.5,
    }  # fmt: skip
    assert unknown_values(table) == []
    assert unknown_values(shares_of(images.tail(10), "view", {"PA": 10})) == ["Oblique"]


def test_a_model_keeps_how_its_training_images_were_spread_and_names_nobody(store: Store) -> None:
    rows = store.rows_in("train")
    facts = image_facts(store, rows)
    assert facts["images"] == len(rows)
    assert set(facts) <= {"images", "views", "devices"}
    index = store.index.with_columns(device=pl.Series(["Rare"] * (FEWEST - 1) + ["Common"] * (len(store) - FEWEST + 1)))
    other = type("Stub", (), {"index": index})()
    assert image_facts(other, np.arange(len(store)))["devices"] == {"Common": len(store) - FEWEST + 1}  # type: ignore[arg-type]
    assert score_facts(np.empty(0)) is None


def test_fit_keeps_the_scores_that_calibrated_it_and_drift_finds_them(store: Store, tmp_path: Path) -> None:
    mococxr.fit(store.path, target="Finding", encoder="random", out=tmp_path / "model", **HOW)
    model = load_model(tmp_path / "model")
    kept = reference_facts(model)
    assert kept is not None
    assert kept["images"] == len(store.rows_in("train"))
    quantiles = kept["scores"]["Finding"]["quantiles"]
    assert len(quantiles) == 101
    assert quantiles == sorted(quantiles)
    judged = model.record["targets"][0]["threshold"]
    assert kept["scores"]["Finding"]["images"] == judged["images"]
