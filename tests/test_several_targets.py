"""Several targets in one model: each as if it had been fitted alone, features read once, columns by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

import mococxr
from mococxr.classifier import encoding
from mococxr.classifier.graph import open_graph
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.exporting.export import leave_onnx
from mococxr.store import Store
from small_store import HOW, make_store, of_target

TARGETS = ["Finding", "Rare", "site=A"]
"""`Rare` is blank, uncertain or known; a fifth of the images have no `site`."""
OF_ONE = ("score", "calibrated", "decision")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a model of `TARGETS`, and beside it a model of each."""
    folder = tmp_path_factory.mktemp("several")
    store = make_store(folder, patients=130, split=(0.4, 0.3, 0.3))
    rows: list[int] = []
    read = encoding.features
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            encoding,
            "features",
            lambda encoder, store, some, **how: rows.extend(some) or read(encoder, store, some, **how),
        )
        fit(store, folder / "all", TARGETS)
    assert len(rows) == len(set(rows)), "an image was read twice"
    for number, target in enumerate(TARGETS):
        fit(store, folder / str(number), [target])
    return folder


def fit(store: Store, out: Path, targets: list[str], **changed: Any) -> None:
    kept = store.path.parent / "features"  # read in another batch, a feature may differ in its last digit
    how = {"store": store.path, "encoder": "random", "target": targets, "feature_cache": kept, "out": out, **HOW}
    run("fit", {**how, **changed})


def predict(world: Path, model: Path, out: Path, **changed: Any) -> pl.DataFrame:
    run("predict", {"model": model, "images": [world / "store"], "out": out, "device": "cpu", "jobs": 1, **changed})
    return pl.read_csv(out)


def test_each_target_is_what_its_own_fit_gives(world: Path) -> None:
    heads = load_file(world / "all" / "model.safetensors")
    for number, target in enumerate(TARGETS):
        alone = load_file(world / str(number) / "model.safetensors")
        assert of_target(world / "all", number) == of_target(world / str(number))
        assert of_target(world / "all", number)["target"] == target
        for name in ("mean", "scale", "weight", "bias"):
            assert np.array_equal(heads[f"0.head.{number}.{name}"], alone[f"0.head.0.{name}"])
    images = [of_target(world / "all", number)["training"]["images"] for number in range(3)]
    assert len(set(images)) == 3, "an image counts for the targets that it is labelled for"


def test_predict_has_the_columns_of_each_target_by_its_name(world: Path, tmp_path: Path) -> None:
    table = predict(world, world / "all", tmp_path / "all.csv", split="all")
    columns = [f"{name}_{target}" for target in TARGETS for name in OF_ONE]
    labels, looks = [f"label_{target}" for target in TARGETS], ["view", "warning"]
    assert table.columns == ["path", "patient", "study", *columns, *looks, *labels, "split"]
    for number, target in enumerate(TARGETS):
        alone = predict(world, world / str(number), tmp_path / f"{number}.csv", split="all")
        theirs = {"path": "path", "label": f"label_{target}"} | {name: f"{name}_{target}" for name in OF_ONE}
        assert table.select(**{name: pl.col(column) for name, column in theirs.items()}).equals(alone.select(*theirs))
    store = Store.open(world / "store")
    classifier = mococxr.load_classifier(world / "all")
    ours = classifier.predict([store.pixels(row) for row in range(4)], device="cpu")
    assert ours.columns == [*columns, *looks]
    assert np.allclose(ours["score_site=A"], table["score_site=A"][:4])


def test_a_prevalence_is_given_for_each_target_in_order(world: Path, tmp_path: Path) -> None:
    table = predict(world, world / "all", tmp_path / "all.csv", prevalence=[0.1, 0.2, 0.5])
    for number, (target, share) in enumerate(zip(TARGETS, (0.1, 0.2, 0.5), strict=True)):
        alone = predict(world, world / str(number), tmp_path / f"{number}.csv", prevalence=share)
        assert table[f"calibrated_{target}"].equals(alone["calibrated"].alias(f"calibrated_{target}"))
    with pytest.raises(InputError, match="this model has 3 targets"):
        predict(world, world / "all", tmp_path / "no.csv", prevalence=0.1)


def test_a_target_without_calibration_says_so_and_the_others_have_theirs(
    world: Path, tmp_path: Path, capsys: Any
) -> None:
    fit(Store.open(world / "store"), tmp_path / "few", ["Finding", "Rare"], where=["sex=F"])
    blocks = [of_target(tmp_path / "few", number) for number in range(2)]
    assert [bool(block["calibration"]["method"]) for block in blocks] == [True, False]
    assert "Rare: No calibrated probability. " in " ".join(capsys.readouterr().err.split())
    table = predict(world, tmp_path / "few", tmp_path / "few.csv")
    assert table["calibrated_Finding"].null_count() == 0
    assert table["calibrated_Rare"].null_count() == table["decision_Rare"].null_count() == len(table)
    assert "Column calibrated_Rare is blank." in " ".join(capsys.readouterr().err.split())
    with pytest.raises(InputError, match="no calibrated probability of Rare"):
        predict(world, tmp_path / "few", tmp_path / "no.csv", prevalence=[0.1, 0.1])


def test_targets_that_cannot_share_a_model_are_refused_and_nothing_is_written(world: Path, tmp_path: Path) -> None:
    store = Store.open(world / "store")
    for targets, changed, says in (
        (["Finding", "Rare"], {"mode": "finetune"}, "--mode finetune trains the encoder for one target; 2"),
        (["Finding", "Rare"], {"linear_solver": "gradient"}, "--mode linear with --linear-solver gradient trains"),
        (["Finding", "Finding"], {}, "--target Finding is named twice"),
        (["Finding", "sex=F"], {"where": ["sex=F"]}, "--target sex=F: "),
    ):
        with pytest.raises(InputError, match=says):
            fit(store, tmp_path / "no", targets, **changed)
    assert not (tmp_path / "no" / "model.json").exists()


def test_evaluate_judges_each_target_as_a_model_of_it_alone(world: Path, tmp_path: Path) -> None:
    how = {"replicates": 200, "device": "cpu", "gallery": False}
    given = {"predictions": [world / "all", world / "store"], "out": tmp_path / "all"}
    result = run("evaluate", {**given, **how, "gallery": True})
    assert [block["label"] for block in result["models"]] == TARGETS
    number, block = 1, result["models"][1]
    alone = run("evaluate", {"predictions": [world / str(number), world / "store"], **how, "out": tmp_path / "a"})
    (theirs,) = alone["models"]
    changed = {"model", "score", "notes", "predictions"}
    assert {k: v for k, v in block.items() if k not in changed} == {k: v for k, v in theirs.items() if k not in changed}
    errors = pl.read_csv(tmp_path / "all" / "all.errors.csv")
    assert set(errors["target"]) == set(TARGETS)
    page = (tmp_path / "all" / "evaluation.html").read_text()
    assert "All targets" in page
    assert all(f"ROC curve of {target}" in page for target in TARGETS)


@pytest.mark.slow
def test_a_target_whose_test_labels_are_of_one_class_is_left_out_and_the_others_are_judged(
    world: Path, tmp_path: Path
) -> None:
    shutil.copytree(world / "store", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    unknown = pl.when(pl.col("row").is_in(store.rows_in("test"))).then(None).otherwise("Rare")
    store.index.with_columns(unknown.cast(pl.Int8).alias("Rare")).write_parquet(tmp_path / "store" / "index.parquet")
    how = {"gallery": False, "replicates": 200, "device": "cpu"}
    result = run("evaluate", {"predictions": [world / "all", tmp_path / "store"], "out": tmp_path / "out", **how})
    assert [block["label"] for block in result["models"]] == ["Finding", "site=A"]
    assert any(note.startswith("Rare: ") and "0 positive and 0 negative" in note for note in result["notes"])
    with pytest.raises(InputError, match=r"Rare: the test images of .* are 0 positive"):
        run("evaluate", {"predictions": [world / "1", tmp_path / "store"], "out": tmp_path / "none", **how})


@pytest.mark.slow
def test_models_are_compared_target_by_target(world: Path, tmp_path: Path) -> None:
    predictions = [world / "all", world / "1", world / "store"]
    result = run("evaluate", {"predictions": predictions, "out": tmp_path / "out", "gallery": False, "replicates": 200})
    compared = [(block["model"], block["label"]) for block in result["models"] if block["comparison"]]
    assert compared == [("1", "Rare")]
    assert result["models"][-1]["comparison"]["value"] == 0


def test_recalibrate_learns_the_targets_that_it_can_and_keeps_the_others(
    world: Path, tmp_path: Path, capsys: Any
) -> None:
    how = {"model": world / "all", "store": world / "store", "out": tmp_path / "new", "threshold_by": "youden"}
    run("recalibrate", {**how, "device": "cpu", "jobs": 1})
    before, after = ([of_target(folder, number) for number in range(3)] for folder in (world / "all", tmp_path / "new"))
    learned = ["recalibrated" in block for block in after]
    assert learned.count(True) in (1, 2)
    said = " ".join(capsys.readouterr().err.split())
    for target, anew, old, new in zip(TARGETS, learned, before, after, strict=True):
        assert (old == new) != anew
        assert (f"{target}: calibration and threshold stay those of the model." in said) != anew
    with pytest.raises(InputError, match="this model has 3 targets"):
        run("recalibrate", {**how, "target": ["Finding"]})


@pytest.mark.slow
def test_one_graph_gives_every_output_of_every_target(world: Path, tmp_path: Path) -> None:
    fit(Store.open(world / "store"), tmp_path / "model", TARGETS)
    folder = leave_onnx(tmp_path / "model")
    outputs = [f"{name}_{target}" for target in TARGETS for name in OF_ONE]
    assert [output.name for output in open_graph(folder / "model.onnx").get_outputs()] == [*outputs, "features"]
    classifier, store = mococxr.load_classifier(folder), Store.open(world / "store")
    table = classifier.predict([store.pixels(row) for row in range(len(store))])
    assert "ensemble" not in classifier.__dict__, "PyTorch was asked"
    expected = predict(world, world / "all", tmp_path / "torch.csv")
    for name in outputs:
        np.testing.assert_allclose(table[name], expected[name], rtol=0, atol=1e-5)
    card = mococxr.export(folder, to="onnx", out=tmp_path / "onnx") / "README.md"
    assert "raw score (0 to 1) of `Finding`, `Rare` and of `site=A`, in this order" in card.read_text()
    facts = json.loads((tmp_path / "onnx" / "export.json").read_text())
    assert [block["target"] for block in facts["targets"]] == TARGETS
