"""Who may go on with a run folder: the launch that began it, or `--resume`."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mococxr.augment import Recipe
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.pretraining import run_folder
from mococxr.pretraining.dataset import PretrainSet, SpacedShuffle
from mococxr.pretraining.hardware import check_shares
from mococxr.pretraining.loader import BatchLoader
from small_run import tiny, tiny_run
from test_pretrain import assert_same_run, break_off


@pytest.fixture(scope="module")
def whole(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run from start to end, nothing in its way."""
    return tiny_run(synthetic_store, tmp_path_factory.mktemp("full") / "run")


def test_processes_started_again_by_their_launcher_go_on_and_those_of_another_do_not(
    whole, synthetic_store, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    break_off(monkeypatch, 7, synthetic_store, out)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-8")
    with pytest.raises(InputError, match="is not empty"):
        tiny_run(synthetic_store, out)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    tiny_run(synthetic_store, out)
    assert_same_run(whole, out)
    tiny_run(synthetic_store, out)  # started again after its last step: nothing is left to do


@pytest.mark.parametrize("unnamed", ["none", ""])
def test_a_launch_without_a_name_is_known_by_its_launcher(unnamed):
    name = run_folder.launch_name({"TORCHELASTIC_RUN_ID": unnamed})
    assert name is not None
    assert str(os.getppid()) in name
    assert run_folder.launch_name({}) is None
    assert run_folder.launch_name({"TORCHELASTIC_RUN_ID": "job-7"}) == "job-7"


def test_a_process_that_sees_other_images_than_the_first_is_refused(synthetic_store, tmp_path, monkeypatch):
    monkeypatch.setattr(
        run_folder, "broadcast_decision", lambda *_: [{"store": "store", "source": "here", "images_sha256": "0"}]
    )
    with pytest.raises(InputError, match=r"Process 0 sees other images than process 0 in .*store"):
        tiny_run(synthetic_store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_steps_are_counted_by_the_number_of_processes_that_made_them():
    assert run_folder.world_sizes(None, 0, 2) == [[0, 2]]
    assert run_folder.world_sizes({"worlds": [[0, 2]]}, 8, 2) == [[0, 2]]
    assert run_folder.world_sizes({"worlds": [[0, 2]]}, 8, 1) == [[0, 2], [8, 1]]
    assert run_folder.world_sizes({"worlds": [[0, 2], [8, 1]]}, 12, 4) == [[0, 2], [8, 1], [12, 4]]
    assert run_folder.world_sizes({}, 8, 1) == [[8, 1]]  # from before this was kept


@pytest.mark.parametrize(
    ("batch", "world", "groups", "parts", "words"),
    [
        (32, 3, 1, 1, r"--batch 32 cannot .* 3 processes.\n.*Start 2 instead.* --batch 30"),
        (8, 6, 1, 1, r"Start 4 instead.* --batch 12"),
        (8, 4, 2, 1, r"--key-groups 2 leaves less than two images a pass where 4 processes"),
        (8, 2, 1, 4, r"--accumulate 4 leaves less than two images"),
    ],
)
def test_a_batch_is_shared_evenly_or_refused_with_numbers_that_fit(batch, world, groups, parts, words):
    with pytest.raises(InputError, match=words):
        check_shares(batch, world, groups, parts)
    check_shares(32, 4, 2, 2)
    for number in re.findall(r"Start (\d+)", words):
        check_shares(batch, int(number), groups, parts)


def test_the_processes_take_each_image_of_an_epoch_once_and_what_fills_no_batch_waits_for_the_next():
    """43 images in batches of 8: three images an epoch are left over, others each time, and none for good."""
    pool = PretrainSet({}, np.zeros(43, int), np.arange(43), np.arange(43), np.arange(43), pl.DataFrame())
    recipe = Recipe(32, 0.5, 0.0, (1.0, 1.0))
    left = []
    for world in (1, 2, 4):
        feeds = [
            BatchLoader(pool, recipe, SpacedShuffle(43, 40, 23, seed=0), batch=8, seed=0, rank=rank, world=world)
            for rank in range(world)
        ]
        assert {feed.steps_per_epoch for feed in feeds} == {5}
        for epoch in range(4):
            steps = [np.concatenate([feed.images(epoch * 5 + i)[1] for feed in feeds]) for i in range(5)]
            taken = np.concatenate(steps)
            assert len(set(taken.tolist())) == 40
            np.testing.assert_array_equal(taken, SpacedShuffle(43, 40, 23, seed=0).epoch(epoch))  # by rank, in order
            left.append(frozenset(range(43)) - set(taken.tolist()))
    assert left[:4] == left[4:8] == left[8:]
    assert len(set(left[:4])) == 4


def test_what_a_run_settled_by_itself_stays_when_it_goes_on(whole, synthetic_store):
    settings = tiny(synthetic_store, whole, queue=None, batch=0, resume=True)
    settled, finished = run_folder.resolve_resume(settings)
    assert (settled.queue, settled.batch, finished) == (16, 8, True)


def test_a_folder_in_which_another_process_trains_is_refused(whole, synthetic_store, tmp_path):
    out = tmp_path / "run"
    with run_folder.sole_run(out), pytest.raises(InputError, match="Another process is training in"):
        tiny_run(synthetic_store, out)
    assert not out.exists()
    with run_folder.sole_run(whole), pytest.raises(InputError, match="Another process"), run_folder.sole_run(whole):
        pass


def test_a_run_that_was_refused_leaves_a_folder_as_it_was(synthetic_store, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        tiny_run(synthetic_store, tmp_path / "notes")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine.txt"]


def test_pretraining_runs_in_a_thread_and_gives_the_same(whole, synthetic_store, tmp_path):
    worker = threading.Thread(target=tiny_run, args=(synthetic_store, tmp_path / "run"))
    worker.start()
    worker.join()
    assert_same_run(whole, tmp_path / "run")


def test_a_renamed_store_with_other_labels_is_resumed_and_one_with_other_images_is_not(
    synthetic_store, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    break_off(monkeypatch, 7, synthetic_store, out)
    source = synthetic_store.parent / "images"
    table = pl.read_csv(source / "labels.csv", infer_schema=False)
    table.with_columns(Edema=pl.lit("1")).write_csv(tmp_path / "labels.csv")
    how = {"source": source, "labels": tmp_path / "labels.csv", "size": 64, "jobs": 1,
           "split": (0.7, 0.1, 0.2), "stratify": True}  # fmt: skip
    run("prepare", {**how, "out": tmp_path / "renamed"})
    run("prepare", {**how, "out": tmp_path / "larger", "size": 72})
    with pytest.raises(InputError, match="started on other images: store"):
        tiny_run(tmp_path / "larger", out, resume=True)
    assert tiny_run(tmp_path / "renamed", out, resume=True) == out
