"""Splits that stay: by who a patient is and the seed, whatever else is in the folder, and as an earlier store had them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mococxr.datasets import read_dataset
from mococxr.errors import InputError
from mococxr.preparation.prepare import run
from mococxr.preparation.split_plan import SplitPlan, decide
from mococxr.splits import hashed_split
from mococxr.store import Store
from small_images import settings, write_images

SHARES = (0.5, 0.1, 0.4)


def splits_of(store: Store) -> dict[str, str]:
    return dict(store.splits.iter_rows())


def of_patients(root: Path, patients: list[str], **columns: list[object]) -> SplitPlan:
    """What is decided for a table of these patients; there are no images."""
    root.mkdir(exist_ok=True)
    paths = [f"{i}.png" for i in range(len(patients))]
    pl.DataFrame({"path": paths, "patient": patients, **columns}).write_csv(root / "labels.csv")
    return decide(read_dataset(root), None, SHARES, 0)


def test_a_split_stays_when_images_labels_and_pseudonyms_are_added(tmp_path: Path) -> None:
    few = run(settings(tmp_path / "images", tmp_path / "few", **_written(tmp_path / "images", 24)))
    table = pl.read_csv(tmp_path / "images" / "labels.csv", infer_schema=False)
    other = {"path": "images/new.png", "patient_id": "new"}
    more = pl.concat([pl.DataFrame([other]), table.reverse()], how="diagonal")
    more.with_columns(Effusion=pl.lit(1), Mass=pl.lit(0)).write_csv(tmp_path / "images" / "labels.csv")
    many = run(settings(tmp_path / "images", tmp_path / "many"))
    assert splits_of(few) == {p: s for p, s in splits_of(many).items() if p != "new"}
    hidden = run(settings(tmp_path / "images", tmp_path / "hidden", pseudonymise=True))
    real = pl.read_csv(tmp_path / "hidden.key.lookup.csv", infer_schema=False)
    who = dict(real.select("patient", "real_patient").iter_rows())
    assert {who[p]: s for p, s in hidden.splits.iter_rows()} == splits_of(many)
    assert many.manifest["split_rule"] == "by hash of patient 50/10/40 %, seed 0"


def _written(folder: Path, images: int) -> dict[str, object]:
    write_images(folder, images)
    return {}


def test_an_earlier_stores_splits_are_taken_and_new_patients_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "images", 20)
    (tmp_path / "images" / "images" / "image0000.png").unlink()
    (tmp_path / "images" / "images" / "image0001.png").unlink()  # a patient of whom the first store knows nothing
    first = run(settings(tmp_path / "images", tmp_path / "first", split_seed=3))
    assert "000" not in splits_of(first)
    capsys.readouterr()
    second = run(settings(tmp_path / "images", tmp_path / "second", split_file=tmp_path / "first" / "splits.csv"))
    assert splits_of(second) == splits_of(first)
    told = capsys.readouterr().err
    assert "Not in splits.csv: 1 of 10 patients; their split is by hash 50/10/40 %, seed 0" in told
    assert second.manifest["split_rule"] == "as stated in splits.csv, the other 1 by hash 50/10/40 %, seed 0"
    plan = decide(read_dataset(tmp_path / "images"), tmp_path / "first" / "splits.csv", SHARES, 5)
    assert plan.explicit is not None
    assert dict(plan.explicit.iter_rows())["000"] == hashed_split(pl.Series(["000"]), SHARES, 5)["split"][0]


def test_a_split_file_may_use_any_word_for_a_split_and_no_other(tmp_path: Path) -> None:
    of_patients(tmp_path, ["a", "b", "c"])
    split_file, dataset = tmp_path / "s.csv", read_dataset(tmp_path, labels=tmp_path / "labels.csv")
    split_file.write_text("patient,split\nb,Test\n,train\na, train \nc,valid\n")
    plan = decide(dataset, split_file, SHARES, 0)
    assert plan.explicit is not None
    assert dict(plan.explicit.iter_rows()) == {"a": "train", "b": "test", "c": "val"}
    split_file.write_text("patient,split\na,train\n\n,val\nb,trian\n")
    with pytest.raises(
        InputError, match=r"s.csv, row 3 \(line 5\), column 'split': 'trian' is not the name of a split"
    ):
        decide(dataset, split_file, SHARES, 0)


def test_pseudonyms_in_a_split_file_are_taken_back_under_their_key_alone(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 20)
    first = run(settings(tmp_path / "images", tmp_path / "first", pseudonymise=True, split_seed=4))
    how = {"pseudonymise": True, "split_file": tmp_path / "first" / "splits.csv"}
    again = run(settings(tmp_path / "images", tmp_path / "again", key=tmp_path / "first.key", **how))
    assert splits_of(again) == splits_of(first)
    for others in (how, how | {"pseudonymise": False}):
        with pytest.raises(InputError, match="None of the 10 patients") as caught:
            run(settings(tmp_path / "images", tmp_path / "other", **others))
        assert "--key" in caught.value.way_out
    assert not list(tmp_path.glob("other*"))


@pytest.mark.parametrize(("split", "share"), [("train", 50), ("val", 10), ("test", 40)])
def test_a_split_that_nobody_is_in_is_warned_of_with_a_seed_that_fills_it(
    tmp_path: Path, split: str, share: int
) -> None:
    split_of = dict(hashed_split(pl.Series([f"{i:03d}" for i in range(200)]), SHARES, 0).iter_rows())
    others = {"train", "val", "test"} - {split}
    patients = [p for name in sorted(others) for p in [p for p, where in split_of.items() if where == name][:4]]
    plan = of_patients(tmp_path / "few", patients)
    rows = pl.DataFrame({"patient": patients})
    [text] = plan.warnings(rows, plan.assign(rows, []), [])
    assert f"none of the 8 patients is in {split} ({share} %)" in text
    seed = int(text.split("--split-seed ")[1].split()[0])
    assert set(hashed_split(rows["patient"], SHARES, seed)["split"]) == {"train", "val", "test"}
    assert "--stratify" in text


def test_a_label_without_a_positive_in_a_split_is_named_with_its_count(tmp_path: Path) -> None:
    patients = [f"{i:02d}" for i in range(30)]
    split = dict(hashed_split(pl.Series(patients), SHARES, 0).iter_rows())
    rare = [int(split[p] == "train") for p in patients]
    plan = of_patients(tmp_path / "labelled", patients, Rare=rare, None_=[0] * 30, Often=[1] * 30)
    rows = pl.DataFrame({"patient": patients, "Rare": rare, "None_": 0, "Often": 1})
    texts = plan.warnings(rows, plan.assign(rows, []), ["Rare", "None_", "Often"])
    sizes = {name: list(split.values()).count(name) for name in ("val", "test")}
    assert texts == [
        f"no image in {name} ({sizes[name]}) is positive for Rare ({sum(rare)} elsewhere). "
        "--stratify deals labels out evenly."
        for name in ("val", "test")
    ]


def test_a_stratified_split_goes_by_that_name_and_by_no_stated_split(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 20)
    store = run(settings(tmp_path / "images", tmp_path / "store", stratify=True))
    assert store.manifest["split_rule"] == "random by patient 50/10/40 %, stratified by label, seed 0"
    assert store.splits["split"].value_counts(sort=True)["count"].to_list() == [5, 4, 1]
    pl.DataFrame({"patient": ["000"], "split": ["train"]}).write_csv(tmp_path / "split.csv")
    with pytest.raises(InputError, match="--stratify goes with --split"):
        run(settings(tmp_path / "images", tmp_path / "two", stratify=True, split_file=tmp_path / "split.csv"))
