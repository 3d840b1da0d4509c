"""`mococxr pacs` beside a real Orthanc: 60 studies, restarts, kills; every frontal image has exactly one report."""

from __future__ import annotations

import io
import random
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
import pytest
from orthanc_server import PASSWORD, USER, Orthanc, need_tools
from pacs_process import Command

import mococxr
from dicom_studies import NAMES, chest, ct_slice, private, undecodable, wrong_part
from mococxr.classifier.saved import load_model
from mococxr.exporting.export import leave_onnx
from mococxr.gateway import archive
from mococxr.gateway.findings import algorithm_of, uid_of
from mococxr.gateway.ledger import Found, Ledger
from mococxr.synthetic.image import write_synthetic

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
LIMIT = 15.0
"""Seconds within which the command says that an archive is away."""
MISSING = dict.fromkeys(("StudyID", "PatientBirthDate", "PatientSex", "StudyTime", "AccessionNumber", "PatientName"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier of drawn images, with its graph, threshold and calibration."""
    need_tools()

    folder = tmp_path_factory.mktemp("model")
    write_synthetic(folder / "images", 80, seed=1, size=96, images_per_patient=1, label_noise=0)
    mococxr.prepare(folder / "images", out=folder / "store", size=64, jobs=1, split=(0.5, 0.4, 0.1))
    mococxr.fit(
        folder / "store", target="Effusion", encoder="random", backbone="test_efficientnet", size=64, device="cpu",
        jobs=1, out=folder / "model",
    )  # fmt: skip
    return Path(leave_onnx(folder / "model"))


@cache
def studies() -> dict[str, list[tuple[bytes, bool]]]:
    """Kind -> its objects, each with whether it is to have a report; 60 studies in all."""
    kinds: dict[str, list[tuple[bytes, bool]]] = {
        "frontal": [(chest(n, view="AP" if n % 3 == 0 else "PA"), True) for n in range(24)],
        "with lateral": [],
        "two frontals": [(chest(n, part), True) for n in range(32, 36) for part in (0, 1)],
        "lateral alone": [(chest(n, view="LL"), False) for n in range(36, 40)],
        "CT": [(ct_slice(n, part), False) for n in range(40, 44) for part in (0, 1)],
        "sent twice": [(chest(n), True) for n in (44, 45, 46, 44, 45, 46)],
        "undecodable": [(undecodable(n), False) for n in range(47, 50)],
        "private syntax": [(private(n), False) for n in range(50, 53)],
        "missing tags": [(chest(n, **MISSING), True) for n in (53, 54)] + [(wrong_part(n), False) for n in (55, 56)],
        "other scripts": [(chest(n, PatientName=NAMES[n - 57]), True) for n in range(57, 60)],
    }
    for n in range(24, 32):
        kinds["with lateral"] += [(chest(n), True), (chest(n, 1, view="LL"), False)]
    assert len({head(data).StudyInstanceUID for each in kinds.values() for data, _ in each}) == 60
    return kinds


def head(data: bytes) -> Any:
    return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    need_tools()
    server = Orthanc(tmp_path / "orthanc")
    server.start()
    yield server
    server.stop()


Run = Callable[..., Command]


@pytest.fixture
def start(model: Path, tmp_path: Path) -> Run:
    """Starts `mococxr pacs` with the ledger of this test; the first words are where reports go."""

    def run(*words: object, password: str = PASSWORD) -> Command:
        line = ["pacs", model, "--ledger", tmp_path / "ledger.sqlite", "--since", "all", "--jobs", 1, *words]
        environment = {"MOCOCXR_PACS_USER": USER, "MOCOCXR_PACS_PASSWORD": password}
        return Command(line, tmp_path / "said", environment)

    return run


def reports_of(server: Orthanc, modality: str = "SR") -> dict[str, list[bytes]]:
    """UID of an image -> the objects of that modality that refer to it."""
    referring: dict[str, list[bytes]] = {}
    for identifier in server.find("Instance", Modality=modality):
        data = server.file(identifier)
        text = head(data).to_json()
        images = [image for image in uids() if f'"{image}"' in text]
        assert len(images) == 1
        referring.setdefault(images[0], []).append(data)
    return referring


@cache
def uids() -> set[str]:
    return {str(head(data).SOPInstanceUID) for each in studies().values() for data, _ in each}


def probability(report: bytes) -> float:
    def walk(items: Any) -> Iterator[Any]:
        for item in items:
            yield item
            yield from walk(item.get("ContentSequence", []))

    named = [i for i in walk(head(report).ContentSequence) if i.ConceptNameCodeSequence[0].CodeValue == "122157"]
    assert len(named) == 1
    return float(named[0].MeasuredValueSequence[0].NumericValue)


def check_all(server: Orthanc, expected: dict[str, bytes], model: Path, folder: Path, capture: bool) -> None:
    """Exactly one report (and picture) an image, valid, in its study, under its patient, with the model's probability."""
    reports = reports_of(server)
    assert {image: len(each) for image, each in reports.items()} == dict.fromkeys(expected, 1)
    table = mococxr.load_classifier(model).predict(list(expected.values()))
    for (image, data), row in zip(expected.items(), table.iter_rows(named=True), strict=True):
        report = head(reports[image][0])
        assert probability(reports[image][0]) == pytest.approx(row["calibrated"] or row["score"], abs=1e-6)
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName"):
            assert (report.get(keyword) or "") == (head(data).get(keyword) or ""), keyword
        assert report.SeriesInstanceUID != head(data).SeriesInstanceUID
        assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    objects = [each[0] for each in reports.values()]
    if capture:
        pictures = [server.file(each) for each in server.find("Instance", Modality="OT")]
        assert len(pictures) == len(expected)
        objects += pictures
    paths = [folder / f"{number}.dcm" for number in range(len(objects))]
    for path, data in zip(paths, objects, strict=True):
        path.write_bytes(data)
        said = subprocess.run(["dciodvfy", path], capture_output=True, text=True).stderr
        assert not [line for line in said.splitlines() if line.startswith("Error")], said
    reports_alone = paths[: len(reports)]
    assert subprocess.run(["dsrdump", *reports_alone], capture_output=True).returncode == 0
    new = Counter(change["ID"] for change in changes(server) if change["ChangeType"] == "NewInstance")
    assert set(new.values()) == {1}, "an object was stored twice"


def changes(server: Orthanc) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    while True:
        page = server.get(f"/changes?since={listed[-1]['Seq'] if listed else 0}&limit=1000")
        listed += page["Changes"]
        if page["Done"]:
            return listed


def test_sixty_studies_ten_kills_and_a_restart_leave_one_report_an_image(
    model: Path, start: Run, orthanc: Orthanc, tmp_path: Path
) -> None:
    """Killed with -9 at ten random moments, Orthanc stopped in the middle of the last run and started again."""
    expected: dict[str, bytes] = {}
    for kind in studies().values():
        for data, has_report in kind:
            orthanc.post("/instances", data)
            if has_report:
                expected[str(head(data).SOPInstanceUID)] = data
    scored = mococxr.load_classifier(model).predict(list(expected.values()), refuse=True)
    refused = [image for image, score in zip(expected, scored["score"], strict=True) if score is None]
    for image in refused:  # by the model's own warnings
        del expected[image]
    assert len(expected) > 40, refused
    dice = random.Random(11)
    words = ["--dicomweb", orthanc.dicomweb, "--capture", "--every", 1]
    for _ in range(10):
        running = start(*words)
        running.until(count=dice.randrange(0, 8))
        time.sleep(dice.uniform(0, 0.1))
        running.kill()
    running = start(*words)
    running.until(count=1)
    orthanc.stop()
    running.until("Trying again")
    orthanc.start()
    running.until("back")
    status, lines = running.end(stop=True)
    assert status in (0, 3), lines
    status, lines = start(*words, "--once").end()
    assert status == 0, lines
    check_all(orthanc, expected, model, tmp_path, capture=True)
    count = orthanc.get("/statistics")["CountInstances"]
    (tmp_path / "ledger.sqlite").unlink()  # without a ledger the reports that are there are seen all the same
    assert start(*words, "--once").end()[0] == 0
    assert orthanc.get("/statistics")["CountInstances"] == count


def test_an_archive_that_is_away_is_said_in_one_line_within_seconds(start: Run, orthanc: Orthanc) -> None:
    orthanc.post("/instances", chest(1))
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        for address, password, status, says in [
            (f"http://127.0.0.1:{closed.getsockname()[1]}", PASSWORD, 1, "cannot be reached"),
            (orthanc.dicomweb, "wrong", 2, "lets nobody in (401: wrong user or password)"),
            (f"http://127.0.0.1:{silent.getsockname()[1]}", PASSWORD, 1, "is silent"),
            (f"http://127.0.0.1:{orthanc.http}/nothing", PASSWORD, 2, "There is no DICOMweb at"),
        ]:
            running = start("--dicomweb", address, "--once", password=password)
            code, lines = running.end()
            assert (code, len(lines)) == (status, 2), lines
            assert says in lines[0]
            assert lines[1].startswith("  ")
            assert PASSWORD not in "".join(lines)
            assert time.monotonic() - running.began < 4 * LIMIT, "15 s, and what a busy machine adds"
    assert sum(archive.TIMEOUTS) < LIMIT
    assert orthanc.get("/statistics")["CountInstances"] == 1


def test_an_image_that_was_deleted_is_said_and_the_others_are_done(
    model: Path, start: Run, orthanc: Orthanc, tmp_path: Path
) -> None:
    orthanc.post("/instances", chest(1))
    ledger = Ledger(tmp_path / "ledger.sqlite", algorithm_of(load_model(model)).version)
    ledger.add([Found(uid_of("image 2 0"), uid_of("study 2"), uid_of("series 2 0"))])  # found, and deleted since
    ledger.close()
    status, lines = start("--dicomweb", orthanc.dicomweb, "--once").end()
    assert status == 0, lines
    assert "image 1: gone, no longer in the archive" in lines
    assert any(line.startswith("1 reported, 1 gone") for line in lines)


def test_an_image_that_orthanc_sends_by_c_store_has_its_report_soon(
    start: Run, orthanc: Orthanc, tmp_path: Path
) -> None:
    identifier = orthanc.post("/instances", chest(1))["ID"]
    listen = ["--listen", f"CXRAI@127.0.0.1:{orthanc.peer}", "--allow", "ORTHANC"]
    for sends in (["--dicomweb", orthanc.dicomweb], ["--send-to", f"ORTHANC@127.0.0.1:{orthanc.dicom}"]):
        running = start(*sends, *listen)
        running.until("Taking images at")
        for _ in range(2):
            assert orthanc.post("/modalities/cxr/store", identifier.encode())["FailedInstancesCount"] == 0
        running.until("reported")
        assert running.end(stop=True)[0] == 0
        assert len(orthanc.find("Instance", Modality="SR")) == 1  # the second way makes the same report again
        assert not list((tmp_path / "ledger.sqlite.images").iterdir())
        (tmp_path / "ledger.sqlite").unlink()
