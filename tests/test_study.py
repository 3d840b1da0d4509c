from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import yaml
from sklearn.metrics import average_precision_score, roc_auc_score

from mococxr.commands import run
from mococxr.encoders import EncoderSpec, build, save_encoder
from mococxr.errors import InputError, RunError
from mococxr.settings import COMMANDS, make
from mococxr.store import Store
from mococxr.studies.design import slug
from mococxr.studies.folder import is_finished
from small_store import BACKBONE, HOW, make_store, run_study

SMALL = {
    "target": ["Finding", "sex=M"],
    "arm": ["random", "moco=RUN"],
    "fraction": [0.2, 1.0],
    "draws": 3,
    "replicates": 200,
    "device": "cpu",
    "jobs": 1,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store and two runs: encoders with other random weights, which say whose images they saw."""
    folder = tmp_path_factory.mktemp("study")
    store = make_store(folder, patients=45)
    for i in (1, 2):
        save_encoder(build(EncoderSpec(BACKBONE, 32, mean=0.4), seed=i), folder / f"run{i}", {})
    train = store.splits.filter(pl.col("split") == "train")["patient"]
    write_run(folder / "run1", store.source, train)
    return folder


def write_run(folder, source, patients):
    about = {"source": [source], "images": 2 * len(patients), "patients": len(patients), "splits": "train"}
    (folder / "run.json").write_text(json.dumps({"pretrained_on": about, "verdict": "healthy", "seconds": 60.0}))
    pl.DataFrame({"source": [source] * len(patients), "patient": list(patients)}).write_csv(folder / "patients.csv")
    nothing = pl.DataFrame(schema={"sha256": pl.String, "fingerprint": pl.Binary})
    nothing.write_parquet(folder / "images.parquet")


def settings(place, out, **changed):
    given = {"store": place / "store", "out": out, **SMALL, **changed}
    given["arm"] = [arm.replace("RUN", str(place / "run1")).replace("TWO", str(place / "run2")) for arm in given["arm"]]
    return given


def study(place, out, **changed):
    return run_study(settings(place, out, **changed))


@pytest.fixture(scope="module")
def done(place, tmp_path_factory):
    out = study(place, tmp_path_factory.mktemp("done") / "study")
    run("report", {"study": out})
    return out


def contents(folder, *names):
    files = [file for name in names for file in sorted(folder.glob(name))]
    assert files
    return {file.name: file.read_bytes() for file in files}


def predictions(folder, trial):
    return pl.read_parquet(folder / "predictions" / f"{trial}.parquet")


def test_every_trial_is_there_and_its_numbers_are_those_of_its_predictions(done):
    trials = pl.read_csv(done / "trials.csv")
    assert len(trials) == 2 * 2 * (3 + 1)
    assert set(trials["status"]) == {"done"}
    for row in trials.iter_rows(named=True):
        table = predictions(done, row["trial"])
        assert table.columns == ["path", "patient", "study", "label", "score"]
        assert np.isclose(row["auroc"], roc_auc_score(table["label"], table["score"]))
        assert np.isclose(row["average_precision"], average_precision_score(table["label"], table["score"]))


def test_a_cell_is_the_mean_over_draws_and_a_difference_that_of_two_cells(done):
    trials, cells = pl.read_csv(done / "trials.csv"), pl.read_csv(done / "cells.csv")
    keys = ["arm", "mode", "target", "fraction"]
    means = trials.group_by(keys).agg(pl.col("auroc").mean().alias("mean"), pl.col("auroc").std().alias("sd"))
    both = cells.join(means, on=keys)
    assert len(both) == len(cells) == 8
    assert np.allclose(both["auroc"], both["mean"])
    assert np.allclose(both["draw_sd"].drop_nulls(), both["sd"].drop_nulls())
    assert (cells["low"] <= cells["auroc"]).all()
    assert (cells["auroc"] <= cells["high"]).all()
    value = {tuple(row[:4]): row[4] for row in cells.rows()}
    differences = pl.read_csv(done / "differences.csv").rows(named=True)
    assert len(differences) == 4
    for row in differences:
        rest = (row["mode"], row["target"], row["fraction"])
        assert (row["arm"], row["against"]) == ("moco", "random")
        assert np.isclose(row["difference"], value["moco", *rest] - value["random", *rest])
        assert row["low"] <= row["difference"] <= row["high"]


def test_the_draws_are_tables_of_training_images_and_the_test_images_are_none_of_them(done, place):
    store = Store.open(place / "store")
    split = dict(store.splits.rows())
    tables = sorted((done / "draws").glob("*.csv"))
    assert len(tables) == 2 * (3 + 1)
    for table in tables:
        rows = pl.read_csv(table, schema_overrides={"patient": pl.String})
        assert rows["path"].to_list() == store.index["path"][rows["row"]].to_list()
        assert {split[p] for p in rows["patient"]} == {"train"}
    for file in (done / "predictions").iterdir():
        assert {split[p] for p in pl.read_parquet(file)["patient"]} == {"test"}


def test_the_facts_name_the_data_the_arms_and_the_comparison_chosen_by_rule(done):
    facts = json.loads((done / "study.json").read_text())
    primary = {"target": "Finding", "mode": "linear", "fraction": 0.2, "arm": "moco", "against": "random"}
    assert facts["primary"] == primary
    assert facts["reference"] == "random"
    assert facts["arms"]["moco"]["verdict"] == "healthy"
    assert facts["arms"]["moco"]["pretrained_on"]["source"] == facts["store"]["source"]
    assert facts["arms"]["random"]["pretrained_on"] is None
    assert facts["validation_labels"] == {"linear": 0}
    assert facts["warnings"] == []
    assert facts["store"]["splits"]["test"]["images"] == 2 * facts["store"]["splits"]["test"]["patients"]
    assert (done / "report.html").stat().st_size > 10_000


def test_a_deleted_trial_alone_is_done_again_and_gives_the_same_bytes(done, place, capsys):
    before = contents(done, "predictions/*", "cells.csv", "differences.csv", "draws/*")
    times = {file.name: file.stat().st_mtime_ns for file in (done / "predictions").iterdir()}
    gone = sorted((done / "predictions").iterdir())[3]
    gone.unlink()
    run("study", settings(place, done))
    assert "15 of 16 trials are done already" in capsys.readouterr().err
    assert contents(done, "predictions/*", "cells.csv", "differences.csv", "draws/*") == before
    changed = [file.name for file in (done / "predictions").iterdir() if file.stat().st_mtime_ns != times[file.name]]
    assert changed == [gone.name]


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"draws": 2}, "--draws"), ({"seed": 1}, "--seed"), ({"arm": ["random", "moco=TWO"]}, "encoder of arm moco"),
     ({"arm": ["moco=RUN", "random"]}, "order of the arms"), ({"target": ["Finding"]}, "--target"),
     ({"standardize": "labelled"}, "--standardize")],
)  # fmt: skip
def test_other_settings_in_the_same_folder_are_refused_by_name(done, place, changed, words):
    before = contents(done, "*.csv", "*.json", "*.yaml")
    with pytest.raises(InputError, match=words):
        study(place, done, **changed)
    assert contents(done, "*.csv", "*.json", "*.yaml") == before


def test_another_store_in_the_same_folder_is_refused(done, place, tmp_path):
    shutil.copytree(place / "store", tmp_path / "store")
    manifest = tmp_path / "store" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(InputError, match="the store"):
        study(place, done, store=tmp_path / "store")


def test_test_labels_never_reach_training(done, place, tmp_path):
    """With the test labels turned round every score stays what it was."""
    shutil.copytree(place / "store", tmp_path / "store")
    index = pl.read_parquet(place / "store" / "index.parquet")
    store = Store.open(place / "store")
    in_test = pl.col("row").is_in(store.rows_in("test").tolist())
    turned = pl.when(in_test).then(1 - pl.col("Finding")).otherwise(pl.col("Finding")).cast(index.schema["Finding"])
    index.with_columns(Finding=turned).write_parquet(tmp_path / "store" / "index.parquet")
    other = study(place, tmp_path / "study", store=tmp_path / "store", target=["Finding"])
    files = sorted((other / "predictions").iterdir())
    assert len(files) == 8
    for file in files:
        ours, theirs = pl.read_parquet(file), predictions(done, file.stem)
        assert (ours["label"] == 1 - theirs["label"]).all()
        assert ours["score"].to_list() == theirs["score"].to_list()


def test_labels_of_one_class_make_undefined_cells_with_the_reason(place, tmp_path):
    out = study(place, tmp_path / "study", target=["Finding"], where=["Finding=0"])
    cells = pl.read_csv(out / "cells.csv")
    assert cells["auroc"].null_count() == len(cells) == 4
    facts = json.loads((out / "study.json").read_text())
    assert len(facts["undefined"]) == 4
    assert all("is positive" in entry["reason"] for entry in facts["undefined"])
    assert all(status.startswith("undefined: ") for status in pl.read_csv(out / "trials.csv")["status"])
    run("report", {"study": out})
    assert "undefined" in (out / "report.md").read_text()


def test_images_of_a_patient_vote(place, done, tmp_path):
    out = study(place, tmp_path / "study", target=["Finding"], unit="patient", aggregate="mean")
    row = pl.read_csv(out / "trials.csv").row(0, named=True)
    voted = predictions(done, row["trial"]).group_by("patient").agg(pl.col("label").max(), pl.col("score").mean())
    assert np.isclose(row["auroc"], roc_auc_score(voted["label"], voted["score"]))
    assert pl.read_csv(out / "cells.csv")["n_units"][0] == len(voted)


def test_several_runs_of_an_arm_are_averaged(place, tmp_path):
    out = study(place, tmp_path / "study", target=["Finding"], arm=["random", "moco=RUN,TWO"])
    trials = pl.read_csv(out / "trials.csv").filter((pl.col("arm") == "moco") & (pl.col("fraction") == 1))
    assert sorted(trials["run"]) == ["run1", "run2"]
    cell = pl.read_csv(out / "cells.csv").filter((pl.col("arm") == "moco") & (pl.col("fraction") == 1))
    assert np.isclose(cell["auroc"][0], trials["auroc"].mean())
    assert "run2 of arm moco does not say" in json.loads((out / "study.json").read_text())["warnings"][0]


def test_a_run_that_saw_test_patients_is_shouted_about(place, tmp_path):
    store = Store.open(place / "store")
    shutil.copytree(place / "run1", tmp_path / "run")
    test = store.splits.filter(pl.col("split") == "test")["patient"]
    write_run(tmp_path / "run", store.source, test[:4])
    out = study(place, tmp_path / "study", target=["Finding"], arm=["random", f"moco={tmp_path / 'run'}"])
    assert (
        f"images of 4 of the {len(test)} test patients" in json.loads((out / "study.json").read_text())["warnings"][0]
    )
    write_run(tmp_path / "run", "elsewhere", test[:4])
    out = study(place, tmp_path / "other", target=["Finding"], arm=["random", f"moco={tmp_path / 'run'}"])
    assert json.loads((out / "study.json").read_text())["warnings"] == []


def test_training_by_gradient_counts_its_validation_labels_and_says_what_it_decided(place, tmp_path):
    how = {
        "target": ["Finding"],
        "mode": ["finetune", "linear"],
        "linear_solver": "gradient",
        "fraction": [0.5],
        "draws": 1,
    }
    out = study(place, tmp_path / "study", **how, epochs=1.0)
    facts = json.loads((out / "study.json").read_text())
    val = Store.open(place / "store").splits.filter(pl.col("split") == "val")
    assert facts["validation_labels"] == {"finetune": 2 * len(val), "linear": 2 * len(val)}
    assert len(pl.read_csv(out / "cells.csv")) == 4
    last = study(place, tmp_path / "last", **how, epochs=1.0, checkpoints=0)
    facts = json.loads((last / "study.json").read_text())
    assert facts["validation_labels"] == {"finetune": 0, "linear": 0}
    assert any("the last weights were kept" in warning for warning in facts["warnings"])


@pytest.mark.slow
def test_training_by_gradient_gives_the_same_whatever_the_number_of_jobs(place, tmp_path):
    how = {"target": ["Finding"], "mode": ["finetune"], "fraction": [0.5], "draws": 1, "epochs": 2.0}
    one = study(place, tmp_path / "one", **how, jobs=1)
    two = study(place, tmp_path / "two", **how, jobs=2)
    assert contents(one, "predictions/*", "cells.csv") == contents(two, "predictions/*", "cells.csv")


def test_predictions_about_other_images_are_refused(place, tmp_path):
    out = study(place, tmp_path / "study", target=["Finding"])
    file = sorted((out / "predictions").iterdir())[0]
    pl.read_parquet(file)[1:].write_parquet(file)
    with pytest.raises(RunError, match=file.stem):
        study(place, out, target=["Finding"])


@pytest.mark.parametrize(
    "changed",
    [{"fraction": [0.0]}, {"fraction": [1.5]}, {"fraction": [0.5, 0.5]}, {"draws": 0}, {"target": ["Nothing"]},
     {"target": ["Finding", "Finding"]}, {"arm": ["random", "random"]}, {"arm": ["random", "moco=/nowhere"]},
     {"against": "nobody"}, {"where": ["sex=X"]}, {"gpus": 0.5}, {"C": "strong"}, {"arm": ["imagenet"]},
     {"arm": ["moco=RUN,RUN"]}, {"arm": ["=RUN"]}],
)  # fmt: skip
def test_settings_that_cannot_be_write_nothing(place, tmp_path, changed):
    with pytest.raises(InputError):
        study(place, tmp_path / "study", **changed)
    assert not (tmp_path / "study").exists()


def test_a_folder_with_other_things_in_it_is_left_alone(place, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is not a study folder"):
        study(place, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_names_become_file_names_that_differ():
    assert slug("Finding") == "Finding"
    assert len({slug("a/b"), slug("a b"), slug("a_b"), slug("..")}) == 4
    assert len({slug("a" * 60), slug("a" * 61), slug("a" * 60 + "b")}) == 3
    assert all("/" not in slug(text) and not slug(text).startswith(".") for text in ("../x", "a=b", "Ödem"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_killed_in_the_middle_goes_on_and_ends_the_same(place, tmp_path, capsys):
    how = {"target": ["Finding"], "mode": ["finetune"], "epochs": 2.0, "draws": 2}
    whole = study(place, tmp_path / "whole", **how)
    script = (
        "import json, sys\nfrom mococxr.commands import run\n"
        "if __name__ == '__main__':\n    run('study', json.loads(sys.argv[1]))\n"
    )
    (tmp_path / "go.py").write_text(script)
    killed = tmp_path / "killed"
    given = json.dumps(settings(place, killed, **how), default=str)
    with subprocess.Popen([sys.executable, str(tmp_path / "go.py"), given], stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and len(list(killed.glob("trials/*.json"))) < 2:
                time.sleep(0.02)
        finally:
            os.kill(process.pid, signal.SIGKILL)
    records = len(list(killed.glob("trials/*.json")))
    assert 2 <= records < 6
    capsys.readouterr()
    study(place, killed, **how)
    assert f"{records} of 6 trials are done already" in capsys.readouterr().err
    names = ("predictions/*.parquet", "cells.csv", "differences.csv", "draws/*.csv")
    assert contents(whole, *names) == contents(killed, *names)


def test_a_study_is_finished_only_with_facts_settings_and_a_report_that_is_not_older(done, tmp_path):
    asked = yaml.safe_load((done / "settings.yaml").read_text("utf-8"))
    assert is_finished(done, asked)
    assert not is_finished(done, asked | {"replicates": asked["replicates"] + 1})
    for lost in ("study.json", "report.html"):  # as a kill between the tables and the last file leaves it
        cut = tmp_path / lost
        shutil.copytree(done, cut)
        (cut / lost).unlink()
        assert not is_finished(cut, asked)
    measured_again = tmp_path / "again"
    shutil.copytree(done, measured_again)
    os.utime(measured_again / "report.html", ns=(0, (done / "study.json").stat().st_mtime_ns - 1))
    assert not is_finished(measured_again, asked)


def test_the_settings_of_a_study_repeat_it(done):
    from mococxr.settings import from_yaml

    assert make(COMMANDS["study"], from_yaml(done / "settings.yaml")).draws == 3
    assert HOW["backbone"] == BACKBONE
