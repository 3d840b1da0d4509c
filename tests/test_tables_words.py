"""Words in cells: what is unknown is unknown in every table, labels in words are read where the column is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mococxr import evaluate, tables
from mococxr.classifier.inputs import images_of
from mococxr.datasets import Dataset, read_dataset
from mococxr.errors import InputError
from mococxr.heads.targets import column_of, read_target
from mococxr.pretraining.dataset import read_patients
from mococxr.tables import findings, words
from small_store import make_store

UNKNOWN = ["NA", "n/a", "#N/A", "nan", "NaN", "None", "NULL", ".", "-", "unknown", "Unknown", "?", "<NA>", " NA "]


def own(folder: Path, text: str, **settings: Any) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text(text)
    return read_dataset(folder, **settings)


@pytest.mark.parametrize("word", UNKNOWN)
def test_a_word_for_unknown_is_unknown_in_every_column(tmp_path: Path, word: str) -> None:
    text = f"path,patient,sex,view,age,split,TB,site\na.png,p,M,PA,50,train,1,Ulm\nb.png,q,{','.join([word] * 6)}\n"
    rows = own(tmp_path, text).rows
    assert rows.row(1) == ("b.png", "q", None, None, None, None, None, None, None)
    assert own(tmp_path, text).labels == ("TB",)
    assert rows.row(0)[2:] == (None, "PA", "M", 50.0, "train", 1, "Ulm")


def test_an_unknown_patient_is_nobody(tmp_path: Path) -> None:
    text = "path,patient,TB\na.png,p,1\nb.png,NA,0\nc.png,N/A,0\n"
    with pytest.raises(InputError, match=r"row 2 \(line 3\): the patient is blank \(2 such rows\)"):
        own(tmp_path, text)
    rows = own(tmp_path, text, patients_unknown=True).rows
    assert rows["patient"].to_list() == ["p", "b.png", "c.png"]
    (tmp_path / "scores.csv").write_text("patient,TB,score\n" + "NA,1,.5\nq,0,.4\n" * 2)
    with pytest.raises(InputError, match=r"row 1 \(line 2\), column 'patient'"):
        evaluate(tmp_path / "scores.csv", label="TB", score="score", patient="patient")
    (tmp_path / "list.csv").write_text("path,patient\na.png,NA\nb.png,p \n")
    assert [image.patient for image in images_of(tmp_path / "list.csv", None)[0]] == [None, "p"]
    (tmp_path / "out.csv").write_text("patient_id;name\np1 ;x\nNA;y\n")
    assert read_patients(tmp_path / "out.csv") == {"p1"}
    (tmp_path / "out.txt").write_bytes("p1\r\nnull\r\n\r\nMu\u0308\r\n".encode("utf-16"))
    assert read_patients(tmp_path / "out.txt") == {"p1", "M\u00fc"}


def test_patients_are_the_same_whatever_blanks_and_accents(tmp_path: Path) -> None:
    text = "path,patient,TB\na.png,M\u00fc ,1\nb.png,Mu\u0308,0\nc.png,\u00a0M\u00fc\u200b,0\n"
    assert own(tmp_path, text).rows["patient"].unique().to_list() == ["M\u00fc"]
    both = "".join(f"{name},{label},{0.1 * label + 0.3}\n" for name in ("M\u00fc ", "Mu\u0308") for label in (0, 1))
    (tmp_path / "scores.csv").write_text("patient,TB,score\n" + both + "x,1,.4\ny,0,.2\n")
    assert evaluate(tmp_path / "scores.csv", label="TB", score="score", patient="patient")["patients"] == 3


WORDS = {
    "yes and no": (["yes", "No", "YES", None], [1, 0, 1, None]),
    "true and false": (["TRUE", "false", "T", "f"], [1, 0, 1, 0]),
    "positive": (["positive", "Neg", "uncertain", "NEGATIVE"], [1, 0, -1, 0]),
    "signs": (["+", "-", "+", "-"], [1, 0, 1, 0]),
    "numbers": (["1", "0.0", "-1", "\u22121"], [1, 0, -1, -1]),
    "German decimals": (["1,0", "0,0", None, "1,0"], [1, 0, None, 1]),
}


@pytest.mark.parametrize("name", WORDS)
def test_labels_in_words_are_read_where_the_column_is_named(tmp_path: Path, name: str) -> None:
    written, wanted = WORDS[name]
    text = "path;patient;TB\n" + "".join(f"{i}.png;p{i};{word or ''}\n" for i, word in enumerate(written))
    dataset = own(tmp_path, text, label=["TB"])
    assert dataset.rows["TB"].to_list() == wanted
    unasked = own(tmp_path, text)
    if words.is_spelled(pl.Series(written)):
        assert unasked.labels == ()
        assert any("--label TB reads it" in note for note in unasked.notes)
        assert any("is read by its words" in note for note in dataset.notes)


def test_evaluate_reads_labels_in_words_and_says_what_was_unknown(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("TB,score\nyes,.9\nno,.1\nNA,.5\nyes,.6\nno,.7\n")
    found = evaluate(tmp_path / "t.csv", label="TB", score="score")
    assert (found["n"], found["positives"], found["left_out"]) == (4, 2, {"blank": 1, "uncertain": 0})
    assert any("1 cells are read as unknown (NA)" in note for note in found["notes"])


def test_sex_and_view_have_one_meaning_in_all_tables() -> None:
    sexes = tables.sexes(pl.Series(["male", "F", "Woman", "U", "unknown", "X", " m ", None, "MÄNNLICH", "weiblich"]))
    assert sexes.to_list() == ["M", "F", "F", None, None, None, "M", None, "M", "F"]
    views = tables.views(pl.Series(["ap", "PA", "LL", "lat", "AP_HORIZONTAL", "UNK", "u", "frontal", "oblique"]))
    assert views.to_list() == ["AP", "PA", "Lateral", "Lateral", "AP", None, None, "Frontal", "oblique"]


def test_a_sex_that_is_not_understood_is_counted(tmp_path: Path) -> None:
    dataset = own(tmp_path, "path,patient,sex,TB\na.png,p,Male,1\nb.png,q,X,0\nc.png,r,U,0\n")
    assert dataset.rows["sex"].to_list() == ["M", None, None]
    assert any("1 values of sex are neither M nor F" in note and "'X'" in note for note in dataset.notes)


LISTS = {
    "bars": ("|", ["TB|Edema", "No Finding", "TB", "Edema", "tb | Mass"]),
    "commas": (",", ["TB, Edema", "No Finding", "TB", "Edema", "TB, Mass"]),
    "semicolons": (";", ["Mass;TB", "No Finding", "TB;Mass", "Edema", "TB"]),
    "a list of Python's": (",", ["['TB', 'Edema']", "['No Finding']", "['TB']", "['Edema']", "['Mass', 'TB']"]),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_cell_may_hold_a_list_of_findings(name: str) -> None:
    separator, values = LISTS[name]
    text = pl.Series([*values, None])
    assert findings.separator_of(text) == separator
    assert findings.holds(text, "TB").to_list() == [True, False, True, False, True, None]


def test_sentences_and_places_are_no_lists() -> None:
    for values in (["Ulm, room 3", "Bonn"], ["a", "b"], ["1.5", "2"], [None]):
        assert findings.separator_of(pl.Series(values, dtype=pl.String)) is None


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store whose column `site` became lists of findings, `answer` words."""
    folder = tmp_path_factory.mktemp("listed")
    store = make_store(folder, 20, patients_unknown=False)
    path = store.path / "index.parquet"
    index = pl.read_parquet(path)
    cells = pl.Series(["TB|Edema", "No Finding", "TB", "NA"] * 10)
    answers = pl.Series(["yes", "no", "yes", None] * 10)
    index.with_columns(findings=cells, answer=answers).write_parquet(path)
    return type(store).open(store.path)


def test_a_target_of_a_list_counts_every_image_that_has_the_finding(listed: Any) -> None:
    target = read_target(listed, "findings~tb")
    assert target.labels.tolist() == [1, 0, 1, -1] * 10
    assert read_target(listed, "findings=No Finding").labels.tolist() == [0, 1, 0, -1] * 10
    assert column_of(listed, "findings~TB") == "findings"
    assert column_of(listed, "Finding") is None
    assert (read_target(listed, "Finding", where=["findings~TB"]).labels[1::4] == -1).all()


def test_a_value_that_lists_hold_too_is_no_target(listed: Any) -> None:
    with pytest.raises(InputError, match="10 images have TB among others") as caught:
        read_target(listed, "findings=TB")
    assert "--target findings~TB" in caught.value.way_out


def test_a_column_that_is_no_label_names_the_way_out(listed: Any) -> None:
    for name, way_out in (
        ("answer", "--label answer"),
        ("findings", "--target findings~FINDING"),
        ("site", "site=VALUE"),
    ):
        with pytest.raises(InputError, match="holds no labels") as caught:
            read_target(listed, name)
        assert way_out in caught.value.way_out


def test_lists_are_remarked_on_when_they_are_prepared(tmp_path: Path) -> None:
    dataset = own(tmp_path, "path,patient,findings\na.png,p,TB|Edema\nb.png,q,TB\nc.png,r,No Finding\n")
    assert any("holds lists, e.g. 'TB|Edema': --target findings~FINDING" in note for note in dataset.notes)
