from __future__ import annotations

import ast
import hashlib
import hmac
import os
import pickle
import stat
import threading
from pathlib import Path

import polars as pl
import pytest

import mococxr
from mococxr.datasets import READERS, Dataset, read_dataset
from mococxr.errors import WITHHELD, InputError, RunError, Shown
from mococxr.preparation.prepare import run
from mococxr.preparation.pseudonymised import pseudonymise
from mococxr.privacy import LOOKUP, Key, redacted_errors
from small_images import settings, write_images
from small_world import closed


def test_a_pseudonym_is_the_front_of_an_hmac(tmp_path):
    key = Key.open(tmp_path / "key")
    whole = hmac.new(key.secret, b"patient\0J\xc3\xb6rg", hashlib.sha256).hexdigest()
    assert key.name("patient", "Jörg") == f"patient-{whole[:24]}"
    named = key.names("patient", pl.Series(["Jörg", None, "b", "Jörg"]))
    assert named.to_list() == [f"patient-{whole[:24]}", None, key.name("patient", "b"), f"patient-{whole[:24]}"]
    assert key.name("study", "b") != key.name("patient", "b")


def test_a_new_key_is_random_kept_once_and_for_its_owner_alone(tmp_path):
    key = Key.open(tmp_path / "key")
    assert not key.path.exists()
    key.keep()
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
    again = Key.open(tmp_path / "key")
    assert again.secret == key.secret
    assert again.fingerprint == key.fingerprint
    assert len(key.secret) == 32
    other = Key.open(tmp_path / "other")
    assert other.fingerprint != key.fingerprint
    assert key.secret.hex() not in key.fingerprint


@pytest.mark.parametrize("text", ["", "no key", "ab" * 31, "é"])
def test_a_file_that_is_no_key_is_refused_and_left_alone(tmp_path, text):
    (tmp_path / "key").write_text(text)
    with pytest.raises(InputError, match="is not a key"):
        Key.open(tmp_path / "key")
    assert (tmp_path / "key").read_text() == text


def test_the_table_grows_with_each_store_and_is_for_its_owner_alone(tmp_path):
    key = Key.open(tmp_path / "key")
    key.keep()
    rows = pl.DataFrame({name: ["a", "b"] if name == "image" else ["x", "x"] for name in LOOKUP})
    key.record(rows)
    key.record(rows.with_columns(image=pl.Series(["b", "c"])))
    assert pl.read_csv(key.lookup)["image"].to_list() == ["a", "b", "c"]
    assert stat.S_IMODE(key.lookup.stat().st_mode) == 0o600
    key.lookup.write_text("thesis\n1\n")
    with pytest.raises(InputError, match="not a re-identification table"):
        key.record(rows)


def test_an_error_of_a_library_keeps_its_kind_and_place_only():
    with pytest.raises(RunError) as caught, redacted_errors():
        Path("/nobody/doe^john").read_bytes()
    assert "doe" not in str(caught.value)
    assert "FileNotFoundError in pathlib.py" in str(caught.value)
    assert caught.value.__suppress_context__


def test_one_key_gives_one_person_one_name_in_two_stores_and_another_key_another(tmp_path):
    for name in ("one", "two"):
        write_images(tmp_path / name, 12)
    key = tmp_path / "key"
    one, two = (
        run(settings(tmp_path / name, tmp_path / f"{name}-store", pseudonymise=True, key=key))
        for name in ("one", "two")
    )
    other = run(settings(tmp_path / "one", tmp_path / "other-store", pseudonymise=True))
    assert set(one.index["patient"]) == set(two.index["patient"])
    assert one.source == two.source != other.source
    assert not set(one.index["patient"]) & set(other.index["patient"])
    assert (tmp_path / "other-store.key").is_file()
    assert one.index["path"].str.starts_with("image-").all()
    assert one.index["path"].is_sorted() or one.index["patient"].is_sorted()
    assert "remark" not in one.index.columns
    assert one.manifest["pseudonyms"]
    table = pl.read_csv(f"{key}.lookup.csv", infer_schema=False)
    assert table["image"].n_unique() == len(table) == 24
    assert set(table["real_patient"]) == {f"{i:03d}" for i in range(6)}
    kept = run(settings(tmp_path / "one", tmp_path / "kept", pseudonymise=True, key=key, keep=("remark",)))
    assert kept.index["remark"].to_list() == ["note"] * 12


def test_a_run_that_is_refused_leaves_no_new_key_and_takes_no_old_one(tmp_path):
    write_images(tmp_path / "images", 4)
    for image in (tmp_path / "images" / "images").iterdir():
        image.write_text("no image")
    with pytest.raises(InputError, match="None of the 4 images"):
        run(settings(tmp_path / "images", tmp_path / "store", pseudonymise=True, jobs=1, split=(1, 0, 0)))
    assert os.listdir(tmp_path) == ["images"]
    Key.open(tmp_path / "key").keep()
    with pytest.raises(InputError, match="None of the 4 images"):
        run(settings(tmp_path / "images", tmp_path / "store", pseudonymise=True, key=tmp_path / "key",
                     split=(1, 0, 0)))  # fmt: skip
    assert (tmp_path / "key").is_file()


def test_of_two_runs_that_make_one_key_the_second_is_refused_and_deletes_nothing(tmp_path):
    first, second = Key.open(tmp_path / "key"), Key.open(tmp_path / "key")
    first.keep()
    with pytest.raises(InputError, match="meanwhile"):
        second.keep()
    rows = pl.DataFrame({name: ["a"] for name in LOOKUP})
    second.forget(rows)
    assert Key.open(tmp_path / "key").secret == first.secret
    first.record(rows)
    Key.open(tmp_path / "key").record(rows.with_columns(image=pl.lit("b")))
    first.forget(rows)
    assert pl.read_csv(first.lookup)["image"].to_list() == ["a", "b"]


def test_two_runs_at_once_lose_no_row_of_the_table(tmp_path):
    key = Key.open(tmp_path / "key")
    key.keep()

    def grow(name):
        for i in range(20):
            key.record(pl.DataFrame({column: [f"{name}{i}"] for column in LOOKUP}))

    threads = [threading.Thread(target=grow, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pl.read_csv(key.lookup)) == 40


def test_the_same_command_again_writes_a_table_that_was_lost(tmp_path):
    write_images(tmp_path / "images", 12)
    how = settings(tmp_path / "images", tmp_path / "store", pseudonymise=True, jobs=1)
    run(how)
    whole = (tmp_path / "store.key.lookup.csv").read_bytes()
    (tmp_path / "store.key.lookup.csv").unlink()
    run(how)
    assert (tmp_path / "store.key.lookup.csv").read_bytes() == whole


def test_a_key_that_others_may_read_is_warned_of(tmp_path, capsys):
    Key.open(tmp_path / "key").keep()
    Key.open(tmp_path / "key")
    assert capsys.readouterr().err == ""
    (tmp_path / "key").chmod(0o640)
    Key.open(tmp_path / "key")
    assert f"chmod 600 {tmp_path / 'key'}" in capsys.readouterr().err


def test_where_a_key_is_lost_and_its_table_is_left_no_new_one_is_made(tmp_path):
    (tmp_path / "key.lookup.csv").write_text("left")
    with pytest.raises(InputError, match="Put that key back"):
        Key.open(tmp_path / "key")
    assert (tmp_path / "key.lookup.csv").read_text() == "left"


def test_days_counted_by_a_reader_are_kept_and_a_column_of_that_name_is_not(tmp_path):
    fixed = {"path": ["a"], "patient": ["A"], "study": ["S"], "view": ["PA"], "sex": ["F"]}
    rows = pl.DataFrame(fixed | {"day": [0], "remark": ["note"]})
    for name, names in (("mimic", ("day",)), ("csv", ())):
        safe = READERS[name].safe
        dataset = Dataset(name, "images", tmp_path, rows, (), metadata=("day", "remark"), safe=safe)
        hidden, _ = pseudonymise(dataset, Key.open(tmp_path / "key"), ())
        assert hidden.metadata == names
        assert set(hidden.rows.columns) == {*fixed, *names}


def test_a_key_inside_the_store_is_refused(tmp_path):
    write_images(tmp_path / "images", 12)
    inside = tmp_path / "store" / "key"
    with pytest.raises(InputError, match="inside the store"):
        run(settings(tmp_path / "images", tmp_path / "store", pseudonymise=True, key=inside))
    assert os.listdir(tmp_path) == ["images"]


TEMPLATED = (
    "datasets",
    "preparation",
    "images",
    "tables",
    "files.py",
    "privacy.py",
    "splits.py",
    "classifier/inputs.py",
)
"""Rooms whose errors and messages may come from a run under pseudonyms."""


def test_a_message_from_a_run_under_pseudonyms_has_its_values_apart():
    source = Path(mococxr.__file__).parent
    files = [
        file for room in TEMPLATED for file in ([source / room] if room[-1] == "y" else (source / room).rglob("*.py"))
    ]
    assert len(files) > 30
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("InputError", "message"):
                mixed = [part for part in node.args if isinstance(part, ast.JoinedStr | ast.BinOp | ast.Call)]
                assert not mixed, f"{file.name}:{node.lineno}"


def test_what_is_withheld_is_every_text_of_the_data_quoted_or_not():
    error = InputError(
        "{row}: the path {path!r} and {name} of {source} in {count:,} rows.", "Ask {name:>20}.",
        row=Shown("SMITH.csv, row 3", redacted="row 3"), path="SMITH/1.dcm", name="SMITH_JOHN", source=Shown("/data"),
        count=1200,
    )  # fmt: skip
    assert str(error).startswith("SMITH.csv, row 3: the path 'SMITH/1.dcm' and SMITH_JOHN of /data in 1,200 rows.")
    told = str(error.redacted())
    assert told == f"row 3: the path {WITHHELD} and {WITHHELD} of /data in 1,200 rows.\n  Ask {WITHHELD}."
    assert str(pickle.loads(pickle.dumps(error)).redacted()) == told
    assert str(InputError("{braces} stay", "as {they} are")) == "{braces} stay\n  as {they} are"


def test_a_folder_named_after_a_patient_is_not_named_when_it_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "SMITH_JOHN").mkdir()
    closed(tmp_path / "SMITH_JOHN", monkeypatch)
    with pytest.raises(InputError, match="Permission denied") as caught:
        read_dataset(tmp_path, format="folder", patients_unknown=True, pseudonyms=True)
    assert "SMITH" not in str(caught.value)


def test_two_rows_of_one_film_are_refused_without_its_name(tmp_path):
    (tmp_path / "t.csv").write_text("path,patient\n00012_SMITH.png,1\n00012_SMITH.png,1\n")
    with pytest.raises(InputError, match=r"row 2 \(line 3\).*already appears in row 1") as caught:
        read_dataset(tmp_path, pseudonyms=True)
    assert "SMITH" not in str(caught.value)
