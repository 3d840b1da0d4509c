"""Who may go on with a run folder: the launch that began it, or `--resume`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mococxr.errors import InputError
from mococxr.pretrain import feed as feed_module
from mococxr.pretrain import folder
from small_run import tiny_run
from test_pretrain import assert_same_run, breaking_off


@pytest.fixture(scope="module")
def whole(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run from start to end, nothing in its way."""
    return tiny_run(phantom_store, tmp_path_factory.mktemp("whole") / "run")


def test_processes_started_again_by_their_launcher_go_on_and_those_of_another_do_not(
    whole, phantom_store, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    with monkeypatch.context() as patch:
        patch.setattr(feed_module.Feed, "run", breaking_off(feed_module.Feed.run, 7))
        with pytest.raises(OSError, match="films are gone"):
            tiny_run(phantom_store, out)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-8")
    with pytest.raises(InputError, match="is there already"):
        tiny_run(phantom_store, out)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    tiny_run(phantom_store, out)
    assert_same_run(whole, out)
    tiny_run(phantom_store, out)  # started again after its last step: nothing is left to do


@pytest.mark.parametrize("unnamed", ["none", ""])
def test_a_launch_without_a_name_is_known_by_its_launcher(unnamed):
    name = folder.launch_name({"TORCHELASTIC_RUN_ID": unnamed})
    assert name is not None
    assert str(os.getppid()) in name
    assert folder.launch_name({}) is None
    assert folder.launch_name({"TORCHELASTIC_RUN_ID": "job-7"}) == "job-7"


def test_a_process_that_sees_other_films_than_the_first_is_refused(phantom_store, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "agreed", lambda *_: [{"store": "store", "source": "here", "sha256": "0"}])
    with pytest.raises(InputError, match=r"Process 0 sees other films than process 0 in .*store"):
        tiny_run(phantom_store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_steps_are_counted_by_the_number_of_processes_that_made_them():
    assert folder.worlds(None, 0, 2) == [[0, 2]]
    assert folder.worlds({"worlds": [[0, 2]]}, 8, 2) == [[0, 2]]
    assert folder.worlds({"worlds": [[0, 2]]}, 8, 1) == [[0, 2], [8, 1]]
    assert folder.worlds({"worlds": [[0, 2], [8, 1]]}, 12, 4) == [[0, 2], [8, 1], [12, 4]]
    assert folder.worlds({}, 8, 1) == [[8, 1]]  # from before this was kept
