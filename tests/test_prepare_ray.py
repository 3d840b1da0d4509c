"""`prepare --executor ray`: the same bytes as on one machine, whatever is lost on the way."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deadly_folder import DeadlyFolder
from mococxr.errors import InputError, RunError
from mococxr.images import Reading
from mococxr.preparation.decode import Chunk, decode_on_ray, record_file
from mococxr.preparation.prepare import run
from mococxr.workers import CRASHED
from ray_nodes import MEMORY, nodes
from small_images import contents, settings, write_images


def test_without_ray_the_extra_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 4)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"mococxr\[ray\]"):
        run(settings(tmp_path / "images", tmp_path / "store", executor="ray"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each on this machine; the second can be killed by `remove_node`."""
    with nodes(1, 1) as made:
        yield made


def same(left: Path, right: Path) -> None:
    """Every byte, but for the sheet, whose title is the store's name."""
    a, b = contents(left), contents(right)
    a.pop("contact.png"), b.pop("contact.png")
    assert a == b


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_nodes_write_the_bytes_of_one_machine_and_go_on_when_one_is_lost(cluster, tmp_path, monkeypatch):
    folder = tmp_path / "images"
    write_images(folder, 600)
    (folder / "images" / "image0040.png").write_bytes(b"no image")
    local = run(settings(folder, tmp_path / "local"))
    assert run(settings(folder, tmp_path / "ray", executor="ray")).sha256 == local.sha256
    same(local.path, tmp_path / "ray")

    second = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    seen: list[int] = []
    decode = decode_on_ray

    def losing(chunks: list[Chunk], where: Path, jobs: int | None, done: Any) -> None:
        def watched(number: int) -> None:
            done(number)
            seen.append(number)
            if len(seen) == 2:
                threading.Thread(target=cluster.remove_node, args=(second, False)).start()

        decode(chunks, where, jobs, watched)

    monkeypatch.setattr("mococxr.preparation.prepare.decode_on_ray", losing)
    run(settings(folder, tmp_path / "lost", executor="ray"))
    assert sorted(seen) == list(range(19))
    same(local.path, tmp_path / "lost")

    def stopping(chunks: list[Chunk], where: Path, jobs: int | None, done: Any) -> None:
        decode(chunks[:3], where, jobs, done)
        raise KeyboardInterrupt

    monkeypatch.setattr("mococxr.preparation.prepare.decode_on_ray", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(settings(folder, tmp_path / "stopped", executor="ray"))
    left: list[int] = []

    def rest(chunks: list[Chunk], where: Path, jobs: int | None, done: Any) -> None:
        left.extend(chunk.number for chunk in chunks)
        decode(chunks, where, jobs, done)

    monkeypatch.setattr("mococxr.preparation.prepare.decode_on_ray", rest)
    run(settings(folder, tmp_path / "stopped", executor="ray"))
    assert left == list(range(3, 19))
    same(local.path, tmp_path / "stopped")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("cluster")
def test_an_image_that_kills_its_task_is_quarantined_and_no_other(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mococxr.cluster.RETRIES", 0)  # each takes Ray some ten seconds
    folder = tmp_path / "images"
    paths = write_images(folder, 9)["path"].to_list()
    root: Any = DeadlyFolder(folder)
    parts = (paths[:5], [paths[5], "images/deadly.png"])
    chunks = [Chunk(n, root, tuple(part), 32, Reading(max_pixels=10**6)) for n, part in enumerate(parts)]
    done: list[int] = []
    decode_on_ray(chunks, tmp_path, None, done.append)
    assert sorted(done) == [0, 1]
    reasons = [json.loads(record_file(tmp_path, n).read_text())["reason"] for n in (0, 1)]
    assert reasons == [[None] * 5, [None, CRASHED]]
    assert "a decoding process crashed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("cluster")
def test_a_machine_that_does_not_see_the_folder_stops_the_run(tmp_path):
    table = write_images(tmp_path / "images", 2)
    chunk = Chunk(0, tmp_path / "images", tuple(table["path"]), 32, Reading())
    with pytest.raises(RunError, match="does not see the folder of the store"):
        decode_on_ray([chunk], tmp_path / "elsewhere", None, lambda _: None)
    assert not (tmp_path / "elsewhere").exists()
