"""Checkpoints: whole, the last two, and none of another version."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mococxr.errors import InputError
from mococxr.pretraining import run_folder


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        run_folder.save_checkpoint(tmp_path, step, {"step": step, "weights": torch.full((3,), float(step))})
    assert [path.name for path in run_folder.checkpoints(tmp_path)] == ["step-00000002.pt", "step-00000030.pt"]
    found = run_folder.latest_checkpoint(tmp_path)
    assert found is not None
    assert found["step"] == 30
    assert torch.equal(found["weights"], torch.full((3,), 30.0))


def test_a_damaged_newest_one_gives_way_to_the_one_before(tmp_path: Path) -> None:
    run_folder.save_checkpoint(tmp_path, 1, {"step": 1})
    newest = run_folder.save_checkpoint(tmp_path, 2, {"step": 2})
    newest.write_bytes(newest.read_bytes()[:100])
    found = run_folder.latest_checkpoint(tmp_path)
    assert found is not None
    assert found["step"] == 1


def test_only_damaged_ones_are_refused_by_name(tmp_path: Path) -> None:
    run_folder.save_checkpoint(tmp_path, 1, {"step": 1}).write_bytes(b"no")
    with pytest.raises(InputError, match=r"step-00000001\.pt"):
        run_folder.latest_checkpoint(tmp_path)


def test_one_of_another_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save({"step": 3}, tmp_path / "step-00000003.pt")
    with pytest.raises(InputError, match="another version"):
        run_folder.latest_checkpoint(tmp_path)


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert run_folder.latest_checkpoint(tmp_path) is None
