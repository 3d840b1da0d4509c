from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deadly_folder import DeadlyFolder
from mococxr.errors import InputError, RunError
from mococxr.images import Reading
from mococxr.preparation.decode import Chunk, decode_all, decode_chunk, record_file
from mococxr.preparation.prepare import run
from mococxr.preparation.staging import Staging, staging_folder
from mococxr.settings import PrepareSettings
from mococxr.store import Store
from mococxr.workers import CRASHED
from small_images import contents, settings, write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 100)
    return tmp_path / "images"


def in_this_process(chunks: list[Chunk], folder: Path, done: Any) -> None:
    """A stand-in for the processes, for speed."""
    for chunk in chunks:
        done(decode_chunk(chunk, folder))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Decode in this process; the list holds the numbers of the chunks that were decoded."""
    decoded: list[int] = []

    def decode(chunks: list[Chunk], folder: Path, _: int, done: Any) -> None:
        decoded.extend(chunk.number for chunk in chunks)
        in_this_process(chunks, folder, done)

    monkeypatch.setattr("mococxr.preparation.prepare.decode_all", decode)
    return decoded


class Killed(BaseException):
    """Stands for the end of the process."""


def run_until(what: PrepareSettings, chunks: list[int]) -> None:
    """Decode these chunks, in this order, and then be gone."""

    def decode(every: list[Chunk], folder: Path, _: int, done: Any) -> None:
        in_this_process([every[i] for i in chunks], folder, done)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mococxr.preparation.prepare.decode_all", decode)
        with pytest.raises(Killed):
            run(what)


@pytest.mark.parametrize("order", [[0, 1], [2, 0], [3, 1], [0, 2, 1, 3]])
def test_a_stopped_run_goes_on_where_it_was_and_ends_in_the_same_store(folder, tmp_path, here, capsys, order):
    whole = run(settings(folder, tmp_path / "full"))
    run_until(settings(folder, tmp_path / "store"), order)
    assert not (tmp_path / "store").exists()
    here.clear()
    store = run(settings(folder, tmp_path / "store"))
    assert sorted(here) == [i for i in range(4) if i not in order]
    images = sum(4 if i == 3 else 32 for i in order)
    assert f"resuming: {images} images already done" in capsys.readouterr().err
    assert store.sha256 == whole.sha256
    store.verify()
    assert not staging_folder(store.path).exists()


@pytest.mark.parametrize("name", ["pixels-00001.bin", "levels/32/pixels-00001.bin"])
@pytest.mark.parametrize("damage", [lambda file: os.truncate(file, 400), Path.unlink])
def test_pixels_that_were_lost_are_decoded_again(folder, tmp_path, here, name, damage):
    whole = run(settings(folder, tmp_path / "whole", size=64))
    run_until(settings(folder, tmp_path / "store", size=64), [0, 1, 3])
    here.clear()
    damage(staging_folder(tmp_path / "store") / "store" / name)
    store = run(settings(folder, tmp_path / "store", size=64))
    assert here == [1, 2]
    assert store.sha256 == whole.sha256
    store.verify()


def test_a_chunk_without_its_record_is_decoded_again(folder, tmp_path, here):
    whole = run(settings(folder, tmp_path / "full"))
    run_until(settings(folder, tmp_path / "store"), [0, 1])
    here.clear()
    record_file(staging_folder(tmp_path / "store"), 0).unlink()  # killed between the pixels and their record
    (staging_folder(tmp_path / "store") / "store" / ".pixels-00001.bin.ab.part").write_bytes(b"half")
    assert run(settings(folder, tmp_path / "store")).sha256 == whole.sha256
    assert not list((tmp_path / "store").rglob("*.part"))
    assert here == [0, 2, 3]


def test_a_leftover_of_other_settings_or_images_is_started_anew(folder, tmp_path, here, capsys):
    run_until(settings(folder, tmp_path / "store", size=40), [0, 1])
    store = run(settings(folder, tmp_path / "store"))
    assert "left by a run with other images or settings: starting anew" in capsys.readouterr().err
    assert here == [0, 1, 2, 3]
    assert store.pixels(0).shape[0] >= 32
    store.verify()


def test_other_labels_do_not_cost_the_decoded_images(folder, tmp_path, here, capsys):
    run_until(settings(folder, tmp_path / "store"), [0, 1])
    run(settings(folder, tmp_path / "store", label=("Rare",), split=(0.8, 0.1, 0.1)))
    assert here == [2, 3]
    assert "resuming: 64 images" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_an_image_that_changed_makes_another_store(folder, tmp_path):
    run(settings(folder, tmp_path / "store"))
    os.utime(folder / "images" / "image0005.png", (1, 1))
    with pytest.raises(InputError, match="made from other images, labels or settings"):
        run(settings(folder, tmp_path / "store"))


@pytest.mark.usefixtures("here")
def test_two_runs_do_not_make_one_store_at_once(folder, tmp_path):
    staging = Staging.open(tmp_path / "store", "key", 32)
    with pytest.raises(InputError, match="Another process is preparing this store"):
        run(settings(folder, tmp_path / "store"))
    staging.close()
    run(settings(folder, tmp_path / "store"))


def test_a_full_disk_on_the_way_says_what_is_needed_and_keeps_what_is_done(folder, tmp_path, here):
    def full(every: list[Chunk], folder: Path, _: int, done: Any) -> None:
        in_this_process(every[:2], folder, done)
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mococxr.preparation.prepare.decode_all", full)
        with pytest.raises(RunError, match=r"No space left(.|\n)*needs about .* GB more.*\n?.*64 images"):
            run(settings(folder, tmp_path / "store"))
    run(settings(folder, tmp_path / "store"))
    assert here == [2, 3]


@pytest.mark.slow
def test_an_image_that_kills_its_process_is_quarantined_and_no_other(folder, tmp_path, capsys):
    paths = [f"images/image{i:04d}.png" for i in range(9)]
    parts = (paths[:5], [paths[5], "images/deadly.png"])
    root: Any = DeadlyFolder(folder)
    done: list[int] = []
    chunks = [Chunk(n, root, tuple(part), 32, Reading(max_pixels=10**6)) for n, part in enumerate(parts)]
    decode_all(chunks, tmp_path, 1, done.append)
    assert sorted(done) == [0, 1]
    reasons = [json.loads(record_file(tmp_path, n).read_text())["reason"] for n in (0, 1)]
    assert reasons == [[None] * 5, [None, CRASHED]]
    assert "a decoding process crashed" in capsys.readouterr().err


PREPARE = """
import sys
from pathlib import Path
from mococxr.settings import PrepareSettings
from mococxr.preparation.prepare import run
run(PrepareSettings(source=Path(sys.argv[1]), out=Path(sys.argv[2]), size=32, jobs=1))
"""


@pytest.mark.slow
def test_kill_9_leaves_no_half_store_and_the_same_command_completes_it(tmp_path, capfd):
    folder, out = tmp_path / "images", tmp_path / "store"
    write_images(folder, 2500)
    process = subprocess.Popen([sys.executable, "-c", PREPARE, str(folder), str(out)], start_new_session=True)
    records = staging_folder(out) / "records"
    deadline = time.monotonic() + 240
    while len(list(records.glob("*.json"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    with pytest.raises(InputError):
        Store.open(out)
    deadline = time.monotonic() + 10
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(process.pid), "decoding processes outlive the one that started them"
    capfd.readouterr()
    store = run(settings(folder, out))
    said = capfd.readouterr().err
    before = int(re.search(r"resuming: ([\d,]+) images", said)[1].replace(",", ""))  # type: ignore[index]
    after = int(re.search(r"prepare: ([\d,]+) images in", said)[1].replace(",", ""))  # type: ignore[index]
    assert 0 < before < 2500
    assert before + after == 2500
    whole = run(settings(folder, tmp_path / "full"))
    assert store.sha256 == whole.sha256
    left, right = contents(store.path), contents(whole.path)
    left.pop("contact.png"), right.pop("contact.png")  # its title is the store's name
    assert left == right


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
