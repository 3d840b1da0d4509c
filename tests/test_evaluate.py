from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mococxr import metrics
from mococxr.commands import run
from mococxr.errors import InputError


def predictions(n: int = 80, seed: int = 0, gain: float = 1.0, per_patient: int = 1) -> pl.DataFrame:
    """A table of predictions on the same images for every seed; the score column differs."""
    labels = np.random.default_rng(7).integers(0, 2, n)
    scores = np.random.default_rng(seed).normal(size=n) + gain * labels
    return pl.DataFrame(
        {
            "path": [f"image{i}.png" for i in range(n)],
            "patient": [f"{i // per_patient:04d}" for i in range(n)],
            "Effusion": labels,
            "score": scores,
        }
    )


def saved(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_csv(path)
    return path


def measured(path: Path, **more):
    return run("evaluate", {"predictions": path, "label": "Effusion", "score": "score", **more})


def test_the_numbers_of_one_image_a_patient_are_delongs_in_full_precision(tmp_path):
    frame = predictions()
    saved(frame, tmp_path / "p.csv")
    out = tmp_path / "out.json"
    measured(tmp_path / "p.csv", patient="patient", json=out)
    found = json.loads(out.read_text())
    labels, scores = frame["Effusion"].to_numpy(), frame["score"].to_numpy()
    delong = metrics.delong_interval(labels, scores)
    assert found["auroc"] == {
        "value": pytest.approx(roc_auc_score(labels, scores), abs=1e-12),
        "variance": delong.variance,
        "low": delong.low,
        "high": delong.high,
        "method": "delong",
    }
    assert found["average_precision"]["value"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert found["average_precision"]["low"] < found["average_precision"]["value"]
    assert (found["n"], found["patients"], found["positives"]) == (80, 80, labels.sum())
    assert found["bootstrap"]["replicates"] == 2000
    assert found["against"] is None
    assert found["patients_assumed"] is False


def test_the_difference_of_two_tables_is_delongs_paired_test(tmp_path):
    ours, other = predictions(), predictions(seed=1, gain=0.2)
    a, b = saved(ours, tmp_path / "a.csv"), saved(other, tmp_path / "b.csv")
    found = measured(a, against=b, patient="patient")
    oracle = metrics.clustered_paired(ours["Effusion"], ours["score"], other["score"])
    difference = found["difference"]
    assert difference["value"] == pytest.approx(oracle.difference, abs=1e-15)
    names = ("low", "high", "z", "p")
    assert [difference[name] for name in names] == [getattr(oracle.delong, name) for name in names]
    assert [found["comparison"][name] for name in ("low", "high", "p")] == [oracle.low, oracle.high, oracle.p]
    assert found["comparison"]["delong"]["z"] == oracle.delong.z
    assert difference["method"] == "delong"
    assert found["against"]["auroc"] == measured(b, patient="patient")["auroc"]


def test_patients_with_several_images_are_resampled_whole_with_delong_beside(tmp_path):
    ours, other = predictions(per_patient=4), predictions(seed=1, per_patient=4)
    a, b = saved(ours, tmp_path / "a.csv"), saved(other, tmp_path / "b.csv")
    found = measured(a, against=b, patient="patient", replicates=300, seed=3, level=0.9)
    replicates = metrics.bootstrap(
        ours["Effusion"], np.stack([ours["score"], other["score"]]), ours["patient"].to_numpy(), 300, 3
    )
    ends = metrics.interval(replicates[0], 0, 0.9)
    assert (found["auroc"]["low"], found["auroc"]["high"]) == (ends.low, ends.high)
    assert found["auroc"]["method"] == found["difference"]["method"] == "bootstrap"
    by_row = metrics.delong_interval(ours["Effusion"], ours["score"])
    assert found["auroc"]["delong"]["variance"] == by_row.variance
    assert found["difference"]["p"] == metrics.bootstrap_p(replicates[0] - replicates[1])
    assert found["difference"]["delong"]["z"] is not None
    assert (found["patients"], found["n"]) == (20, 80)


def test_without_patients_each_row_is_one_and_the_output_says_so(tmp_path, capsys):
    path = saved(predictions(per_patient=4), tmp_path / "p.csv")
    measured(path)
    told = capsys.readouterr()
    assert "each row was taken for a patient of its own" in told.err
    assert "AUROC" in told.out
    assert measured(path)["auroc"]["method"] == "delong"
    assert measured(path)["patients_assumed"] is True


def test_rows_pair_by_key_whatever_their_order_and_file_type(tmp_path):
    ours, other = predictions(), predictions(seed=1)
    a = saved(ours, tmp_path / "a.csv")
    other.sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "b[1].parquet")
    shuffled = measured(a, against=tmp_path / "b[1].parquet", key="path", replicates=200)
    straight = measured(a, against=saved(other, tmp_path / "b.csv"), replicates=200)
    assert shuffled["difference"] == straight["difference"]
    assert (shuffled["paired_by"], straight["paired_by"]) == ("path", "position")


def test_blank_and_uncertain_rows_are_left_out_and_counted(tmp_path):
    frame = predictions()
    labels = frame["Effusion"].cast(pl.String).to_list()
    labels[2], labels[5], labels[6] = None, "-1", "-1.0"
    scores = frame["score"].to_list()
    scores[2] = None
    holed = frame.with_columns(pl.Series("Effusion", labels), pl.Series("score", scores))
    found = measured(saved(holed, tmp_path / "p.csv"))
    rest = frame.filter(~pl.int_range(80).is_in([2, 5, 6]))
    assert found["left_out"] == {"blank": 1, "uncertain": 2}
    assert found["auroc"] == measured(saved(rest, tmp_path / "rest.csv"))["auroc"]


def test_one_positive_has_a_value_and_no_invented_variance(tmp_path):
    frame = predictions().with_columns(pl.Series("Effusion", [1] + [0] * 79))
    path = saved(frame, tmp_path / "p.csv")
    found = measured(path, replicates=200)
    assert found["auroc"]["variance"] is None
    assert "two patients of each class" in found["auroc"]["reason"]
    assert found["bootstrap"]["undefined"] > 0
    assert "1 positive test patient" in found["too_few"]
    assert any("one class only" in note for note in found["notes"])
    measured(path, json=tmp_path / "o.json")
    json.loads((tmp_path / "o.json").read_text())


def test_too_few_patients_get_a_sentence_and_no_p_on_the_console(tmp_path, capsys):
    a, b = saved(predictions(14), tmp_path / "a.csv"), saved(predictions(14, 1), tmp_path / "b.csv")
    found = measured(a, against=b)
    told = capsys.readouterr()
    assert "Too few to judge" in told.err
    assert ", p " not in told.out
    for block in (found["difference"], found["comparison"], found["bootstrap"]["difference"]):
        assert block["p"] is None
        assert "fewer than 10" in block["reason"]
    assert found["comparison"]["verdict"] == "too few"
    assert found["planning"]["patients"] is None


def cell(column: str, row: int, value: str):
    """A change of one cell."""
    return lambda frame: frame.with_columns(
        pl.Series(column, [value if i == row else str(v) for i, v in enumerate(frame[column])])
    )


BAD = {
    "a missing column": (lambda frame: frame.drop("score"), "no column 'score'", "path, patient, Effusion"),
    "a word as score": (cell("score", 4, "high"), "row 5, column 'score': 'high'", "numbers"),
    "a blank score": (cell("score", 4, ""), "row 5, column 'score'", "finite"),
    "a NaN score": (cell("score", 4, "nan"), "row 5, column 'score': unknown", "finite"),
    "an infinite score": (cell("score", 4, "inf"), "row 5, column 'score': 'inf'", "finite"),
    "another label": (cell("Effusion", 0, "2"), "row 1, column 'Effusion': '2'", "1, 0, -1 or blank"),
    "a word as label": (cell("Effusion", 0, "maybe"), "row 1, column 'Effusion': 'maybe'", "yes and no"),
    "a blank patient": (cell("patient", 9, " "), "row 10, column 'patient'", "blank"),
    "a repeated key": (cell("path", 9, "image3.png"), "row 10, column 'path': 'image3.png'", "one row only"),
    "one class": (lambda frame: frame.with_columns(Effusion=0), "all 80 known labels are 0", "each class"),
    "no known label": (lambda frame: frame.with_columns(Effusion=-1), "no label is 1 or 0", "each class"),
    "a header alone": (lambda frame: frame.head(0), "a header and no rows", "one row per image"),
    "a list as patient": (
        lambda frame: frame.with_columns(patient=pl.concat_list(pl.lit(1))),
        "column 'patient' holds List",
        "numbers or text",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_file_row_and_column_and_the_way_out(name, tmp_path):
    change, problem, way_out = BAD[name]
    path = tmp_path / "p.parquet"
    change(predictions()).write_parquet(path)
    with pytest.raises(InputError) as caught:
        measured(path, patient="patient", key="path")
    assert str(path) in caught.value.problem
    assert problem in caught.value.problem
    assert way_out in caught.value.way_out


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.csv", None, "No such file"),
        ("p.txt", b"a", "a header and no rows"),
        ("empty.csv", b"", "is empty"),
        ("ragged.csv", b"Effusion,score\n1,2\n1,2,3\n", "cannot be read as a table"),
        ("latin.csv", b"Effusion,score\n1,\xff\n", "line 2.*column 'score': 'ÿ'"),
        ("not.parquet", b"PAR1Effusion", "cannot be read as a table"),
        ("twice.csv", b"Effusion,Effusion,score\n1,0,1\n", "column 'Effusion' appears twice"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(name, content, problem, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        measured(tmp_path / name)
    assert name in caught.value.problem


def test_tables_that_do_not_pair_are_refused_with_the_row_or_key(tmp_path):
    frame = predictions()
    a = saved(frame, tmp_path / "a.csv")
    cases = [
        (frame.head(79), None, "has 80 rows, .* has 79"),
        (frame.head(79), "path", "1 rows without a partner .* path 'image79.png'"),
        (cell("Effusion", 6, "-1")(frame), None, "differ in 'Effusion' at row 7"),
        (cell("Effusion", 6, "")(frame).reverse(), "path", "differ in 'Effusion' at path 'image6.png'"),
        (cell("patient", 3, "x")(frame), None, "differ in 'patient' at row 4: 0003 and x"),
    ]
    for other, key, problem in cases:
        b = saved(other, tmp_path / "b.csv")
        with pytest.raises(InputError, match=problem) as caught:
            measured(a, against=b, patient="patient", key=key)
        assert "--key" in caught.value.way_out
