"""The cells of the paper's tables, against the list of its published numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mococxr.errors import InputError
from mococxr.reproduction.compare import published
from mococxr.reproduction.recipe import cells_of, select

NUMBERS = Path(os.environ.get("MOCOCXR_DATA", Path(__file__).parents[2] / "shared/data")).parent / "paper_numbers.json"
SETS = ("chexpert", "shenzhen")
SHARES = {"0.1%": 0.001, "1%": 0.01, "10%": 0.1, "100%": 1.0, "6.25%": 0.0625, "25%": 0.25}
WORDS = {"linear": "linear", "end_to_end": "finetune"}


def paper(*place: object, measure: str = "auroc") -> list:
    """Value and interval that the product says the paper prints."""
    row = published()[(*place, measure)]
    return [row["value"], row["low"], row["high"]]


def printed() -> dict:
    if not NUMBERS.is_file():
        pytest.skip("the list of published numbers is not here")
    return json.loads(NUMBERS.read_text())


@pytest.mark.parametrize("dataset", SETS)
def test_every_cell_has_its_published_number_and_a_name_of_its_own(dataset: str) -> None:
    cells = cells_of(dataset)
    assert len({cell.id for cell in cells}) == len(cells) == {"chexpert": 96, "shenzhen": 27}[dataset]
    for cell in cells:
        value, low, high = paper(cell.task, cell.backbone, cell.mode, cell.fraction, cell.arm)
        assert low <= value <= high


def test_effusion_and_tuberculosis_are_as_printed() -> None:
    numbers = printed()
    for key, task in (("chexpert_pleural_effusion_auc", "Pleural Effusion"), ("shenzhen_tb_auc", "Tuberculosis")):
        block = numbers[key]
        for place, share in enumerate(block["fractions"]):
            for mode, backbones in ((m, block[m]) for m in WORDS):
                for backbone, arms in backbones.items():
                    for arm, values in arms.items():
                        name = "difference" if arm == "diff" else arm
                        assert paper(task, backbone, WORDS[mode], SHARES[share], name) == values[place]
            for backbone, values in block["moco_linear_minus_imagenet_end_to_end"].items():
                assert (
                    paper(task, backbone, "linear", SHARES[share], "difference-from-imagenet-finetune") == values[place]
                )


def test_the_other_tasks_are_as_printed() -> None:
    block = printed()["chexpert_other_tasks_resnet18"]
    for mode, tasks in ((m, block[m]) for m in WORDS):
        for task, arms in tasks.items():
            for arm, values in arms.items():
                name = "difference" if arm == "diff" else arm
                for share, value in zip(block["fractions"], values, strict=True):
                    assert paper(task.capitalize(), "resnet18", WORDS[mode], SHARES[share], name) == value


def test_precision_read_off_figures_is_marked_so() -> None:
    row = published()["Pleural Effusion", "resnet18", "finetune", 0.001, "moco", "average_precision"]
    assert (row["value"], row["low"], row["note"]) == (0.449, None, "read off a figure")


def test_the_ablation_has_a_run_for_each_learning_rate() -> None:
    runs = {cell.arm: cell.run for cell in cells_of("shenzhen") if cell.arm != "imagenet"}
    assert runs["moco-lr0.01"] == "resnet18-lr0.01"
    assert runs["moco-lr1e-05"] == "resnet18-lr1e-05"
    numbers = printed()["shenzhen_tb_auc"]["pretraining_lr_ablation_resnet18_100pct"]
    for lr, values in numbers.items():
        assert paper("Tuberculosis", "resnet18", "linear", 1.0, f"moco-lr{float(lr):g}") == values


def test_patterns_choose_cells_and_a_pattern_for_none_is_refused() -> None:
    cells = cells_of("chexpert")
    assert select(cells, [], ())[0] == cells
    chosen, _ = select(cells, [], ("pleural-effusion/resnet18/linear/*",))
    assert len(chosen) == 8
    assert {cell.study for cell in chosen} == {f"pleural-effusion-resnet18-{f}" for f in ("0.001", "0.01", "0.1", "1")}
    with pytest.raises(InputError, match="matches no cell"):
        select(cells, [], ("effusion/*",))
