"""What the table of docs/benchmarks.md rests on: its numbers are those that it says, whatever the machine's speed."""

from __future__ import annotations

import json
import runpy
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import polars as pl
import pytest
import timm
import torch

from mococxr.heads.linear import solve_linear
from mococxr.heads.scaling import Scaling

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """A script of bench/, imported as it is when it runs."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return __import__(name)

    yield load
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == BENCH:
            del sys.modules[name]


def test_bootstrap_replicates_are_those_of_the_loop_over_scikit_learn(bench):
    script = bench("bootstrap")
    assert script.apart(script.made_up(images=80, columns=3), replicates=20) < 1e-12


def test_draws_drawn_anew_give_the_interval_of_the_loop(bench):
    gaps_DB = np.random.default_rng(1).normal(0.05, 0.02, (4, 80))
    slow = [
        np.mean([gaps_DB[draw, replicate] for draw in draws])
        for replicate, draws in enumerate(np.random.default_rng(5).integers(0, 4, size=(80, 4)))
    ]
    found = bench("coverage").draws_anew(gaps_DB.mean(axis=1), gaps_DB, seed=5)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=1e-12)


def test_the_bootstrap_row_fails_where_the_numbers_differ(bench, monkeypatch):
    script = bench("bootstrap")
    ours = script.metrics.bootstrap
    monkeypatch.setattr(script.metrics, "bootstrap", lambda *arguments: ours(*arguments) + 1e-9)
    assert script.apart(script.made_up(images=80, columns=3), replicates=20) > script.TOLERANCE


def resnet18_flop(size: int) -> tuple[int, int]:
    """FLOP of the convolutions of a forward pass of ResNet-18 at `size` px, and of the first of them."""
    side = size // 2
    first = 2 * side**2 * 64 * 3 * 49
    side //= 2
    total = first + 4 * 2 * side**2 * 64 * 64 * 9
    for before, width in ((64, 128), (128, 256), (256, 512)):
        side //= 2
        total += 2 * side**2 * width * (before * 9 + 3 * width * 9 + before)
    return total, first


def test_the_flop_of_a_forward_pass_of_resnet18_are_the_published_ones(bench):
    step = bench("step")
    network = timm.create_model("resnet18", num_classes=1000).eval()
    counted = step.flop_of(lambda: network(torch.zeros(1, 3, 224, 224)))
    assert counted == resnet18_flop(224)[0] + 2 * 512 * 1000
    assert counted / 1e9 == pytest.approx(3.63, abs=0.005)


def test_the_four_passes_are_four_forward_passes_less_the_gradient_of_the_images(bench):
    step = bench("step")
    network = timm.create_model("resnet18", num_classes=0).train()
    key = timm.create_model("resnet18", num_classes=0).requires_grad_(False)
    images = torch.zeros(2, 3, 64, 64)

    learner = SimpleNamespace(network=network, wrapped=network, key=key, autocast=nullcontext)
    forward, first = resnet18_flop(64)
    assert step.flop_of(lambda: step.passes(learner, images, images)) == 2 * (4 * forward - first)


def test_sides_are_measured_in_turn_and_the_ratio_is_the_median_within_rounds(bench):
    ratio = bench("ratio")
    asked: list[str] = []

    def side(name: str, *numbers: float):
        left = iter(numbers)
        return lambda: (asked.append(name), next(left))[1]

    found = ratio.alternate({"a": side("a", 1, 20, 3), "b": side("b", 2, 10, 1)}, 3)
    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1, 20, 3], "b": [2, 10, 1]}
    assert ratio.median_ratio(found["a"], found["b"]) == 2  # of 0.5, 2 and 3; the ratio of the medians is 1.5


@pytest.mark.parametrize(
    ("unit", "at_most", "bar", "met", "value"),
    [
        ("images/s", False, 1.5, "yes", 2),
        ("images/s", False, 2.1, "no", 2),
        ("s", False, 0.5, "yes", 0.5),
        ("MB", True, 1.1, "no", 2),
        ("MB", True, 2.0, "yes", 2),
    ],
)
def test_a_row_says_whether_its_bar_is_met(bench, unit, at_most, bar, met, value):
    ratio = bench("ratio")
    row = ratio.row("x", {"a": [4.0, 4.0], "b": [2.0, 2.0]}, "a", "b", bar, unit=unit, at_most=at_most)
    assert row.ratio == value
    assert row.met == met


def test_a_subject_that_fails_or_lacks_its_library_has_a_row_and_takes_no_other_with_it(bench, tmp_path, capsys):
    ratio = bench("ratio")

    def absent(_rounds):
        raise ModuleNotFoundError("No module named 'kornia'")
        yield

    def faulty(_rounds):
        raise ValueError("odd")
        yield

    def good(rounds):
        yield ratio.row("good", {"a": [1.0] * rounds, "b": [1.0] * rounds}, "a", "b", 1.0)

    subjects = {"absent": absent, "faulty": faulty, "good": good}
    file = tmp_path / "rows.json"
    assert ratio.main("", subjects, ["--rounds", "2", f"--json={file}"]) == 1
    rows = {row["name"]: row["met"] for row in json.loads(file.read_text())}
    assert rows == {"absent": "skipped: No module named 'kornia'", "faulty": "failed: ValueError", "good": "yes"}
    assert "| good | 1 images/s | b: 1 images/s | 1 | at least 1 | yes |" in capsys.readouterr().out


def test_the_table_goes_between_its_markers_and_nothing_else_changes(bench, tmp_path):
    script = bench("all")
    page = tmp_path / "page.md"
    page.write_text(f"above\n{script.BEGIN}\nold\n{script.END}\nbelow\n")
    script.write(page, "new")
    script.write(page, "newer")
    assert page.read_text() == f"above\n{script.BEGIN}\nnewer\n{script.END}\nbelow\n"
    real = script.PAGE.read_text(encoding="utf-8")
    assert 0 < real.index(script.BEGIN) < real.index(script.END)


def test_the_same_view_is_what_each_library_is_asked_for(bench):
    pytest.importorskip("albumentations")
    script = bench("views")
    for make in (script.torchvision_tensor, script.torchvision_pil, script.albumentations):
        work, each = make()
        view = np.asarray(work(0)).squeeze()
        assert each == 1
        assert view.shape == (224, 224)
        assert abs(float(view.mean()) - float(script.IMAGE.mean())) < 25
    work, each = script.ours()
    assert work(0).shape == (each, 224, 224)


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize("script", ["all", "bootstrap"])
def test_a_script_says_what_it_does_when_asked(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(BENCH / f"{script}.py"), run_name="__main__")
    assert "--rounds" in capsys.readouterr().out


def test_the_head_by_products_alone_is_the_head_on_features(bench):
    loop, rng = bench("label_loop"), np.random.default_rng(0)
    x, other = rng.normal(size=(30, 50)), rng.normal(size=(8, 50))
    rows, labels = np.arange(0, 30, 2), np.arange(15) % 2
    weights, bias = loop.head(x @ x.T, rows, labels)
    direct = solve_linear(x[rows], labels, Scaling(np.zeros(50), np.ones(50), 30), patients=rows)
    np.testing.assert_allclose(other @ x[rows].T @ weights + bias, direct.logits(other), atol=1e-4)
    assert loop.head(x @ x.T, rows[:1], labels[:1]) is None


def test_noisy_readers_err_as_often_as_is_stated_and_more_on_hard_images(bench):
    loop, rng = bench("label_loop"), np.random.default_rng(0)
    labels, wrong = np.arange(40_000) % 2, rng.uniform(0, 1, 40_000)
    answers = loop.noisy_answers(labels, wrong, rng)
    said = answers >= 0
    assert abs((~said).mean() - 0.08) < 0.005
    assert abs((answers == labels)[said & (labels == 1)].mean() - 0.85) < 0.02
    assert abs((answers == labels)[said & (labels == 0)].mean() - 0.95) < 0.01
    erred = said & (answers != labels)
    assert erred[wrong > 0.5].mean() > 2 * erred[wrong < 0.5].mean()


def test_a_curve_that_is_another_at_half_the_labels_needs_half_of_them(bench):
    loop = bench("label_loop")
    rows = [
        (0, "Effusion", by, start, n, 0.1 * np.log(n * (2 if by == "coverage" else 1)))
        for by in ("coverage", "random") for start in range(2) for n in loop.SIZES
    ]  # fmt: skip
    table = pl.DataFrame(rows, schema=["split", "target", "by", "start", "labels", "auroc"], orient="row")
    assert loop.labels_needed(table, "coverage") == ("100", "100", "100")
    assert loop.gains(table.with_columns(reader=pl.lit("perfect")))["gain"].round(3).unique().to_list() == [0.069]
