"""Labels that grow: events that are kept, the labels that stand, and what fit, study and splits make of them."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import mococxr
from mococxr.audit.labels import label_table
from mococxr.errors import InputError
from mococxr.heads.targets import read_target
from mococxr.settings import StudySettings, make, to_mapping
from mococxr.store import Store
from mococxr.store import label_history as history
from mococxr.studies.design import Design, read_design
from mococxr.studies.folder import inputs_of, open_output
from mococxr.studies.provenance import blank_words
from small_images import contents, image_path, small_prepared
from small_store import HOW

IMAGES = 40


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 40 images of 20 patients, with the labels Effusion and Rare."""
    return small_prepared(tmp_path_factory.mktemp("labels"), IMAGES, split_seed=4)


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "store")
    return tmp_path / "store"


def long(*labels: tuple[int, str, Any], **columns: Any) -> pl.DataFrame:
    """A table with a row a label."""
    schema = {"path": pl.String, "target": pl.String, "value": pl.String}
    rows = [(image_path(i), target, None if value is None else str(value)) for i, target, value in labels]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(**{k: pl.lit(v) for k, v in columns.items()})


def values(store: Store, target: str) -> list[int | None]:
    return store.index[target].to_list()


# --- the history


def replayed(events: Sequence[tuple[Any, ...]]) -> dict[tuple[str, str], int | None]:
    """The labels that stand, by a loop over the events: who said what, in the order in which it was said."""
    cells: dict[tuple[str, str], dict[str | None, int]] = {}
    for path, target, value, reader in events:
        said = cells.setdefault((path, target), {})
        if value is None and reader is None:
            said.clear()
            said["cleared"] = -9
        elif value is None:
            said.pop(reader, None)
        else:
            said.pop(reader, None)  # said now, not then
            said[reader] = value
    last = {cell: list(said.values())[-1] for cell, said in cells.items() if said}
    return {cell: None if value == -9 else value for cell, value in last.items()}


@pytest.mark.parametrize("seed", range(20))
def test_the_labels_that_stand_are_those_of_a_slow_replay(seed: int) -> None:
    rng = random.Random(seed)
    events = [
        (rng.choice("xyz"), rng.choice("AB"), rng.choice([1, 0, -1, None]), rng.choice(["R", "S", None]))
        for _ in range(40)
    ]
    table = pl.DataFrame(events, schema=["path", "target", "value", "reader"], orient="row")
    table = table.with_row_index("event", offset=1).cast({"event": pl.Int64, "value": pl.Int8})
    current = history.current(table)
    assert dict(zip(current.select("path", "target").iter_rows(), current["value"], strict=True)) == replayed(events)


def test_every_earlier_state_is_given_back_by_number_and_by_date(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [(0, "2026-02-28", values(Store.open(store), "Effusion"))]
    for day, table in enumerate((long((0, "Effusion", 1), (1, "Effusion", -1)), long((0, "Effusion", 0))), start=1):
        monkeypatch.setattr("time.gmtime", lambda day=day: (2026, 3, day, 12, 0, 0, 6, 60, 0))
        after = mococxr.label(store, table, reader="A")
        seen.append((after.label_events, f"2026-03-0{day}", values(after, "Effusion")))
    last = mococxr.retract(store, long((1, "Effusion", 1)))
    assert seen[1][2][:2] == [1, -1]
    assert seen[2][2][:2] == [0, -1]
    assert values(last, "Effusion")[:2] == [0, None]
    for number, date, then in seen:
        assert values(Store.open(store, str(number)), "Effusion") == then
        if number != seen[2][0]:  # the retraction is of that day, too
            assert values(Store.open(store, date), "Effusion") == then
    assert values(Store.open(store, "2026-03-02T11:59:59Z"), "Effusion") == seen[1][2]
    assert values(Store.open(store, "2026-03-02T13:00:00+01:00"), "Effusion") == values(last, "Effusion")
    for wrong in ("5", "yesterday"):
        with pytest.raises(InputError, match="label events"):
            Store.open(store, wrong)


def test_a_clock_that_was_put_back_leaves_the_order(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for year in (2027, 2025):
        monkeypatch.setattr("time.gmtime", lambda year=year: (year, 3, 1, 12, 0, 0, 6, 60, 0))
        mococxr.label(store, long((0, "Effusion", int(year == 2025))))
    assert Store.open(store).history["entered"].to_list() == ["2027-03-01T12:00:00Z"] * 2


def test_who_when_and_why_are_kept_and_the_command_fills_what_the_table_leaves_open(store: Path) -> None:
    table = pl.DataFrame({
        "Image": [image_path(2), image_path(3)], "effusion": ["yes", "no"], "Reader": ["B", None],
        "date": ["2026-01-02", None],
        "chosen_by": ["coverage", None], "Probability": ["0.25", None], "NOTE": ["rotated", None], "patient": ["1", "1"],
    })  # fmt: skip
    kept = mococxr.label(store, table, reader="A", chosen_by="random").history.sort("path")
    assert kept.drop("event", "entered").rows() == [
        (image_path(2), "Effusion", 1, "B", "2026-01-02", "coverage", 0.25, "rotated"),
        (image_path(3), "Effusion", 0, "A", None, "random", None, None),
    ]


def test_one_table_twice_is_said_once_and_a_blank_says_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pl.DataFrame({"path": [image_path(i) for i in range(4)], "Effusion": [1, 0, None, -1], "Rare": [None] * 4})
    first = mococxr.label(store, table, reader="A")
    again = mococxr.label(store, table, reader="A")
    assert first.label_events == again.label_events == 3
    assert "Nothing new: 3 labels as they are." in capsys.readouterr().err
    assert mococxr.label(store, table, reader="B").label_events == 6  # a second reader says it too


def test_a_readers_word_is_taken_back_and_the_others_stands(store: Path) -> None:
    for reader, value in (("A", 1), ("B", 0), ("A", -1)):
        mococxr.label(store, long((6, "Effusion", value)), reader=reader)
    assert values(Store.open(store), "Effusion")[6] == -1
    assert mococxr.retract(store, long((6, "Effusion", 1)), reader="C").label_events == 3, "C said nothing"
    assert values(mococxr.retract(store, long((6, "Effusion", 1)), reader="A"), "Effusion")[6] == 0
    assert values(mococxr.retract(store, long((6, "Effusion", 1))), "Effusion")[6] is None


def test_labels_entered_at_once_are_all_kept(store: Path) -> None:
    def enter(i: int) -> None:
        mococxr.label(store, long((i, "Effusion", 1)), reader=f"reader {i % 3}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(24)))
    events = Store.open(store).history
    assert events["event"].to_list() == list(range(1, 25))
    assert sorted(events["path"]) == [image_path(i) for i in range(24)]


def test_an_open_store_keeps_the_labels_that_it_was_opened_with(store: Path) -> None:
    mococxr.label(store, long((0, "Effusion", 1)))
    opened = Store.open(store)
    mococxr.label(store, long((0, "Effusion", 0), (1, "New", 1)), label=["Effusion", "New"])
    there = pickle.loads(pickle.dumps(opened))  # as it reaches another process
    for before in (opened, there):
        assert values(before, "Effusion")[0] == 1
        assert before.labels == ["Effusion", "Rare"]
    assert there.label_state == opened.label_state


# --- what stays as it is


@pytest.mark.slow
def test_labels_in_50_random_orders_move_no_patient_and_come_to_one_state(store: Path) -> None:
    before, files = Store.open(store), contents(store)
    rng, states = random.Random(0), set()
    findings = ("Effusion", "Rare", "Nodule")
    labels = [(i, name, (i * 7 + len(name)) % 3 - 1) for i in range(IMAGES) for name in findings]
    for attempt in range(50):
        (store / history.FILE).unlink(missing_ok=True)
        rng.shuffle(labels)
        cut = rng.randrange(1, len(labels)) if attempt % 5 == 0 else 0
        for part in filter(None, (labels[:cut], labels[cut:])):
            after = mococxr.label(store, long(*part), label=findings)
        states.add(after.label_state["sha256"])
        changed = {name for name, data in contents(store).items() if files.get(name) != data}
        assert changed == {history.FILE, ".labels.lock"}, "neither splits nor images"
        for split in ("train", "val", "test"):
            assert after.rows_in(split).tolist() == before.rows_in(split).tolist()
        assert (after.sha256, after.manifest) == (before.sha256, before.manifest)
    assert len(states) == 1
    assert before.label_state["sha256"] not in states


@pytest.mark.parametrize("blank", [None, "negative", "unknown"])
@pytest.mark.parametrize("means", ["negative", "unknown"])
def test_a_label_taken_back_is_known_to_no_study_whatever_a_blank_counts_as(
    store: Path, blank: str | None, means: str
) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | {"blank": means}))
    mococxr.label(store, long((0, "Nodule", 1), (1, "Nodule", 0)), label="Nodule")
    gone = mococxr.retract(store, long((0, "Effusion", 1), (1, "Nodule", 1)))
    effusion, nodule = (read_target(gone, name, blank=blank) for name in ("Effusion", "Nodule"))
    assert effusion.labels[0] == nodule.labels[1] == -1
    assert nodule.labels[0] == 1
    known = {"Effusion": IMAGES - 1, "Nodule": IMAGES - 1}  # where a blank is a no, what was taken back is none
    assert {name: label_table(gone)[name]["policies"]["ignore, negative"]["known"] for name in known} == known
    # nobody looked for a nodule in the others, unless the study says that a blank is a no
    assert set(nodule.labels[2:].tolist()) == {0 if blank == "negative" else -1}
    assert all(0 not in rows for rows in (effusion.train, effusion.val, effusion.test))


def test_a_model_of_labels_that_came_and_went_is_the_model_of_before(store: Path, tmp_path: Path) -> None:
    given = {"encoder": "random", "target": "Effusion", "calibrate": "none", "threshold_by": "none", **HOW}
    models = [tmp_path / f"model{i}" for i in range(3)]
    mococxr.fit(store, out=models[0], **given)
    train = Store.open(store).rows_in("train").tolist()
    table = long(*((i, "Effusion", 1) for i in train[:5]))
    mococxr.label(store, table, reader="A")
    mococxr.fit(store, out=models[1], **given)
    mococxr.retract(store, table, reader="A")
    mococxr.fit(store, out=models[2], **given)
    weights = [(model / "model.safetensors").read_bytes() for model in models]
    assert weights[0] == weights[2] != weights[1]
    records = [json.loads((model / "model.json").read_text())["store"]["labels"] for model in models]
    assert [record["events"] for record in records] == [0, 5, 10]
    assert records[0]["sha256"] == records[2]["sha256"] != records[1]["sha256"]
    mococxr.fit(store, out=tmp_path / "then", labels_as_of="5", **given)
    assert (tmp_path / "then" / "model.safetensors").read_bytes() == weights[1]


def design_of(store: Path, out: Path, **given: Any) -> tuple[Design, dict[str, Any]]:
    """A study as it is planned, and what its folder is compared by."""
    asked = make(StudySettings, {"store": store, "target": "Effusion", "arm": "random", "out": out, **HOW, **given})
    design = read_design(asked)
    return design, inputs_of(to_mapping(asked), design.train, design.test, {"random/0": "weights"}, None)


def test_a_study_goes_on_unless_its_own_labels_changed_and_then_says_how(store: Path, tmp_path: Path) -> None:
    design, inputs = design_of(store, tmp_path / "study")
    open_output(tmp_path / "study", inputs, "")
    mococxr.label(store, long((0, "Rare", 1), (1, "Rare", 0)))
    open_output(tmp_path / "study", design_of(store, tmp_path / "study")[1], "")
    mococxr.retract(store, long(*((int(i), "Effusion", 1) for i in design.train.store.rows_in("train")[:2])))
    after, changed = design_of(store, tmp_path / "study")
    assert len(after.train.targets["Effusion"].train) == len(design.train.targets["Effusion"].train) - 2
    assert {len(draw.rows) for draw in after.draws} != {len(draw.rows) for draw in design.draws}
    with pytest.raises(InputError, match=r"differs in the labels \(it goes on with --labels-as-of 2\)"):
        open_output(tmp_path / "study", changed, "")
    open_output(tmp_path / "study", design_of(store, tmp_path / "study", labels_as_of="2")[1], "")


def test_a_study_says_what_a_blank_means_for_each_target() -> None:
    class Known:
        labels = ("Effusion", "Late")

        def blank_of(self, name: str) -> str:
            return "negative" if name == "Effusion" else "unknown"  # a finding that was added later

    words = {
        "negative": blank_words(Known(), ["Effusion"], None),
        "unknown": blank_words(Known(), ["Late", "sex=M"], None),
        "Effusion: negative; Late: unknown": blank_words(Known(), ["Effusion", "Late"], None),
        "Late: negative; sex=M: unknown": blank_words(Known(), ["Late", "sex=M"], "negative"),
    }
    assert all(wanted == words_of for wanted, words_of in words.items())


def test_a_study_does_not_go_on_where_a_setting_is_stated_that_was_not_before(store: Path, tmp_path: Path) -> None:
    _, inputs = design_of(store, tmp_path / "study")
    older = {name: value for name, value in inputs["settings"].items() if name != "standardize"}
    open_output(tmp_path / "study", inputs | {"settings": older}, "")
    with pytest.raises(InputError, match=r"--standardize \(not stated before, unlabelled now\)"):
        open_output(tmp_path / "study", inputs, "")


def test_event_numbers_of_one_store_are_refused_beside_another(store: Path, tmp_path: Path) -> None:
    mococxr.label(store, long((0, "Rare", 1)))
    with pytest.raises(InputError, match="of one store"):
        design_of(store, tmp_path / "study", test_on=store, labels_as_of="1")
    _, inputs = design_of(store, tmp_path / "study", test_on=store)
    _, again = design_of(store, tmp_path / "study", test_on=store, labels_as_of=inputs["labels"]["as_of"])
    assert again["labels"] == inputs["labels"]


# --- bad tables

PATHS = "path,Effusion\n" + "".join(f"{image_path(i)},1\n" for i in range(3))
BAD = {
    "an unknown image": (f"{PATHS}images/none.png,1\n", {}, "row 4 (line 5): the store has no image 'images/none.png'"),
    "another store": ("path,Effusion\na.png,1\nb.png,0\n", {}, "None of the 2 images in"),
    "an image in quarantine": (f"{PATHS}images/cut.png,1\n", {}, "'images/cut.png' is in quarantine"),
    "a value that is none": (f"{PATHS}{image_path(5)},2\n", {}, "column 'Effusion': '2' is not a label"),
    "a word that is none": (f"{PATHS}{image_path(5)},maybe\n", {}, "'maybe' is not a label"),
    "a blank path": (f"{PATHS},1\n", {}, "row 4 (line 5): the path is blank"),
    "no path": ("name,Effusion\na,1\n", {}, "has no path column"),
    "no finding": (f"path,Efusion\n{image_path(0)},1\n", {}, "has no finding of the store (Effusion, Rare)"),
    "an unknown finding": (f"path,target,value\n{image_path(0)},Efusion,1\n", {}, "no finding 'Efusion'"),
    "a finding left blank": (f"path,target,value\n{image_path(0)},,1\n", {}, "the finding is blank"),
    "a column of the store": (f"path,view\n{image_path(0)},1\n", {"label": "view"}, "that holds no labels"),
    "a name of the store": (f"path,split\n{image_path(0)},1\n", {"label": "split"}, "that holds no labels"),
    "another case": (f"path,RARE\n{image_path(0)},1\n", {"label": "RARE"}, "the store has the finding 'Rare'"),
    "a column that is not there": (PATHS, {"label": "Nodule"}, "has no column 'Nodule'"),
    "a contradiction": (
        f"{PATHS}{image_path(1)},0\n", {},
        "row 2 (line 3) and labels.csv, row 4 (line 5) contradict each other: Effusion",
    ),
    "a probability above 1": (
        f"path,Effusion,probability\n{image_path(0)},1,1.5\n", {}, "'1.5' is not a probability",
    ),
    "no date": (f"path,Effusion,date\n{image_path(0)},1,12.3.2026\n", {}, "'12.3.2026' is not a date"),
    "a state and a table": (PATHS, {"as_of": "0"}, "--as-of and --out show labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_named_and_nothing_is_written(store: Path, tmp_path: Path, case: str) -> None:
    text, given, message = BAD[case]
    with (store / "quarantine.csv").open("a") as file:
        file.write("images/cut.png,damaged\n")
    before = contents(store)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        mococxr.label(store, tmp_path / "labels.csv", **given)
    assert message.replace("'", "") in str(caught.value).replace("'", "")
    assert contents(store) == before


def test_under_pseudonyms_rows_are_named_and_neither_images_nor_columns(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pl.DataFrame({"path": [image_path(0)], "Rare": ["1"], "Meier": ["x"]})
    mococxr.label(store, table)
    assert "Not read as labels: 1 columns (Meier)" in capsys.readouterr().err
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | {"pseudonyms": True}))
    (tmp_path / "labels.csv").write_text(f"{PATHS}images/Meier.png,1\n")
    for command in (mococxr.label, mococxr.retract):
        with pytest.raises(InputError, match=r"row 4 \(line 5\)") as caught:
            command(store, tmp_path / "labels.csv")
        assert "Meier" not in str(caught.value)
    mococxr.label(store, table)
    told = capsys.readouterr().err
    assert "Not read as labels: 1 columns" in told
    assert "Meier" not in told


def test_a_history_of_another_store_is_named(store: Path) -> None:
    mococxr.label(store, long((0, "Effusion", 1)))
    foreign = pl.read_parquet(store / history.FILE).with_columns(path=pl.lit("other.png"))
    foreign.write_parquet(store / history.FILE)
    with pytest.raises(InputError, match="is of another store"):
        _ = Store.open(store).index
    (store / history.FILE).write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot be read"):
        Store.open(store)


def test_a_full_disk_leaves_the_history_as_it_was(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mococxr.label(store, long((0, "Effusion", 1)))
    before = contents(store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(mococxr.RunError, match="No room left"):
        mococxr.label(store, long((1, "Effusion", 1)))
    assert contents(store) == before


# --- taking back by lists, and showing


def test_a_list_of_images_takes_back_the_findings_that_are_named(store: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"path\n{image_path(0)}\n{image_path(1)}\n")
    gone = mococxr.retract(store, tmp_path / "list.txt", label=["Effusion", "Rare"])
    assert values(gone, "Effusion")[:3] == [None, None, 1]
    assert values(gone, "Rare")[:3] == [None, None, 0]
    assert mococxr.retract(store, tmp_path / "list.txt", label="Rare").label_events == gone.label_events


def test_the_state_is_shown_by_finding_split_and_reader(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = Store.open(store).rows_in("train").tolist()
    mococxr.label(store, long(*((i, "Nodule", int(i % 2)) for i in train)), label="Nodule", reader="Dr A")
    capsys.readouterr()
    mococxr.label(store, out=tmp_path / "history.csv")
    lines = capsys.readouterr().out.splitlines()
    odd = sum(i % 2 for i in train)
    assert ["Nodule", "train", str(odd), str(len(train) - odd), "0", "0"] in [line.split() for line in lines]
    assert lines[-2] == f"By reader: Dr A {len(train)}."
    assert lines[-1].startswith(f"Label events: {len(train)}, the last entered 20")
    assert pl.read_csv(tmp_path / "history.csv")["value"].to_list() == [i % 2 for i in train]
    mococxr.label(store, as_of="0")
    assert "Nodule" not in capsys.readouterr().out
