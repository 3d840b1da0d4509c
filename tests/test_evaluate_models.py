"""`evaluate MODEL... STORE`: numbers, comparison, page and gallery against what the written tables say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sklearn
from sklearn.neighbors import NearestNeighbors

from mococxr.classifier.predict import targets_of
from mococxr.classifier.saved import load_model
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.evaluation.gallery import chosen_images, nearest, read_features
from mococxr.store import Store
from small_store import HOW, make_store, of_target

TARGET = "site=A"
"""Images cannot tell it from site B: there are errors to show. A fifth of the patients have no site."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store, two models, and what `evaluate` makes of both."""
    folder = tmp_path_factory.mktemp("models")
    store = make_store(folder, patients=120, split=(0.3, 0.3, 0.4))
    for name, changed in (("first", {}), ("second", {"seed": 1, "C": "1", "sensitivity": 0.7})):
        given = {"store": store.path, "encoder": "random", "target": TARGET, "out": folder / name, **HOW}
        run("fit", {**given, **changed})
    predictions = [folder / "first", folder / "second", store.path]
    how = {"replicates": 200, "device": "cpu", "maps": True, "out": folder / "out"}
    result = run("evaluate", {"predictions": predictions, **how})
    return folder, result


def known(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(folder / "out" / f"{name}.csv").filter(pl.col("label").is_not_null())


def test_the_numbers_are_those_of_scikit_learn_on_the_written_scores(world: tuple[Path, dict[str, Any]]) -> None:
    folder, result = world
    assert json.loads((folder / "out" / "evaluation.json").read_text()) == result
    for block in result["models"]:
        table, model = known(folder, block["model"]), of_target(folder / block["model"])
        labels, scores, point = table["label"].to_numpy(), table["score"].to_numpy(), block["operating_point"]
        every = pl.read_csv(folder / "out" / f"{block['model']}.csv")
        assert block["left_out"] == {"blank": every["label"].null_count(), "uncertain": 0}
        assert set(every["split"]) == {"test"}
        assert point["threshold"] == model["threshold"]["value"]
        cells = sklearn.confusion_matrix(labels, scores >= point["threshold"])
        counts = ["true_negatives", "false_positives", "false_negatives", "true_positives"]
        assert [point[name] for name in counts] == cells.ravel().tolist()
        assert block["interval"]["value"] == pytest.approx(sklearn.roc_auc_score(labels, scores))
        brier = sklearn.brier_score_loss(labels, table["calibrated"])
        assert block["calibration"]["brier"]["value"] == pytest.approx(brier)
        sensitivity, specificity = point["sensitivity"]["value"], point["specificity"]["value"]
        for row in point["at_prevalences"]:
            right, wrong = sensitivity * row["prevalence"], (1 - specificity) * (1 - row["prevalence"])
            assert row["ppv"]["value"] == pytest.approx(right / (right + wrong))
        (sex,) = [each for each in block["subgroups"] if each["column"] == "sex"]
        sexes = table.join(Store.open(folder / "store").index, on="path", maintain_order="left")["sex"]
        for group in sex["groups"]:
            inside = (sexes == group["name"]).to_numpy()
            assert group["rows"] == inside.sum()
            if group["sensitivity"]["value"] is not None:  # of few patients it is not judged
                rate = (scores[inside & (labels == 1)] >= point["threshold"]).mean()
                assert group["sensitivity"]["value"] == pytest.approx(rate)


def test_a_second_model_is_compared_with_the_first_as_two_tables_are(world: tuple[Path, dict[str, Any]]) -> None:
    folder, result = world
    columns = {"label": "label", "score": "score", "patient": "patient", "key": "path", "replicates": 200}
    tables = {"predictions": folder / "out" / "second.csv", "against": folder / "out" / "first.csv"}
    wanted = run("evaluate", {**columns, **tables})["comparison"]
    first, second = result["models"]
    assert {name: second["comparison"][name] for name in ("value", "low", "high", "p")} == {
        name: wanted[name] for name in ("value", "low", "high", "p")
    }
    assert first["comparison"] is None
    for rate in ("sensitivity", "specificity"):  # each at its own threshold
        less = second["operating_point"][rate]["value"] - first["operating_point"][rate]["value"]
        assert second["operating_point"]["difference"][rate]["value"] == pytest.approx(less)


def test_the_gallery_shows_the_most_certain_errors_and_names_nobody(world: tuple[Path, dict[str, Any]]) -> None:
    folder, result = world
    store, table = Store.open(folder / "store"), known(folder, "first")
    threshold = result["models"][0]["operating_point"]["threshold"]
    errors = pl.read_csv(folder / "out" / "first.errors.csv")
    called = pl.col("score") >= threshold
    for kind, wrong, falling in (
        ("false negative", (pl.col("label") == 1) & ~called, False),
        ("false positive", (pl.col("label") == 0) & called, True),
    ):
        wanted = table.filter(wrong).sort("score", descending=falling).head(12)
        some = errors.filter(kind=kind)
        assert len(some)
        assert some["score"].to_list() == wanted["score"].to_list()
    assert store.index["path"].gather(errors["row"]).to_list() == errors["path"].to_list()
    page = (folder / "out" / "evaluation.html").read_text()
    assert set(re.findall(r"row (\d+) ·", page)) >= set(errors["row"].cast(pl.String))
    assert not [path for path in store.index["path"] if path in page]
    words = set(re.findall(r"\w+", re.sub(r'src="data:[^"]*"', "", page)))
    assert not words & {
        patient for patient in store.index["patient"] if len(patient) > 3
    }  # p1 is a colour of the style


def test_the_gallery_has_a_map_beside_each_image_and_says_what_maps_passed(world: tuple[Path, dict[str, Any]]) -> None:
    page = (world[0] / "out" / "evaluation.html").read_text()
    rows = re.findall(r"row (\d+) ·", page)
    assert rows
    assert re.findall(r'alt="map of row (\d+)"', page) == rows
    for words in ("which sum to it", "does not show where", "mirrored: rank correlation", "With all weights shuffled"):
        assert page.count(words) >= 2  # of each model


def test_without_gallery_no_image_is_in_the_page(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = world
    given = {"predictions": [folder / "first", folder / "store"], "replicates": 200, "device": "cpu"}
    run("evaluate", {**given, "gallery": False, "out": tmp_path / "out"})
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "<img" not in page
    assert "data:image" not in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "evaluation.html", "evaluation.json", "figures", "first.csv", "tables",
    ]  # fmt: skip
    names = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"roc", "precision-recall", "curves-panels", "scores-0"} <= names
    assert "AUROC" in (tmp_path / "out" / "tables" / "models.tex").read_text()


def test_neighbours_are_the_nearest_training_images_of_other_patients(world: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = world
    store, model = Store.open(folder / "store"), load_model(folder / "first")
    rows, references = store.rows_in("test")[:5], targets_of(model, store)[0].known("train")
    read: dict[int, np.ndarray] = {}
    read_features(model, store, np.concatenate([rows, references]), "cpu", read)
    assert set(read) == {*rows.tolist(), *references.tolist()}
    asked, known_ones = (np.stack([read[row] for row in some.tolist()]) for some in (rows, references))
    scores = model.ensemble.members[0].head.scores(asked)
    assert np.allclose(
        scores, model.predict([store.pixels(int(row)) for row in rows], device="cpu")["score"], atol=1e-6
    )
    patients = np.arange(len(references))
    ours = nearest(asked, known_ones, np.full(5, -1), patients)
    _, wanted = NearestNeighbors(n_neighbors=3).fit(known_ones).kneighbors(asked)
    assert np.array_equal(ours, wanted)
    again = nearest(asked, known_ones, wanted[:, 0], patients)  # the nearest is now of the same patient
    assert all(first not in order for first, order in zip(wanted[:, 0], again, strict=True))


def test_borderline_images_are_nearest_to_the_threshold_and_errors_are_wrong() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200).astype(np.int8), rng.uniform(size=200)
    chosen = chosen_images(labels, scores, 0.6, 7)
    assert set(chosen["borderline"]) == set(np.argsort(abs(scores - 0.6))[:7])
    assert (labels[chosen["false negative"]] == 1).all()
    assert scores[chosen["false negative"]].max() < np.sort(scores[(labels == 1) & (scores < 0.6)])[7]
    assert scores[chosen["false positive"]].min() > np.sort(scores[(labels == 0) & (scores >= 0.6)])[-8]


@pytest.mark.parametrize(
    ("names", "more", "words"),
    [
        (["first", "store"], {"label": "TB"}, "--label"),
        (["first", "second"], {}, "2 models and 0 stores"),
        (["store"], {}, "0 models and 1 stores"),
        (["store", "out"], {}, "model.json"),
        (["first", "store"], {"subgroup": "sx"}, "sx"),
        (["first", "store"], {"out": "first"}, "is not an evaluation"),
        (["out/first.csv"], {"out": "x", "label": "label", "score": "score"}, "--out"),
        ([], {"label": "label", "score": "score"}, "nothing to evaluate"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_and_writes_nothing(
    world: tuple[Path, dict[str, Any]], names: list[str], more: dict[str, Any], words: str
) -> None:
    folder, _ = world
    before = sorted(folder.rglob("*"))
    given = more | ({"out": folder / more["out"]} if "out" in more else {})
    with pytest.raises(InputError, match=words):
        run("evaluate", {"predictions": [folder / name for name in names], **given})
    assert sorted(folder.rglob("*")) == before
