"""`pacs` against an archive in memory: each frontal image once, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import io
import re
import sqlite3
import stat
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest

from dicom_images import SC
from dicom_studies import chest, ct_slice, undecodable, wrong_part
from fake_archive import FakeArchive, Killed
from mococxr.classifier.findings import Finding
from mococxr.classifier.saved import SCORES, Model, columns_of
from mococxr.errors import ImageError, InputError
from mococxr.gateway import archive, pacs
from mococxr.gateway.capture import secondary_capture
from mococxr.gateway.findings import Algorithm, algorithm_of, answer_of, uid_of
from mococxr.gateway.frontal import reason_against
from mococxr.gateway.ledger import DEAD, GONE, REPORTED, Entry, Found, Ledger
from mococxr.gateway.structured_report import Report, code_of, read_head, structured_report
from mococxr.images import decode_image
from mococxr.settings import PacsSettings, make
from small_world import status

highdicom = pytest.importorskip("highdicom", reason="the extra pacs is not installed")
AT = "2026-01-31T12:00:00+01:00"
FINDINGS = (Finding("Effusion", 0.6, 0.812499999, 1, 0.5, 0.75), Finding("Wet socks", 0.1, None, None, None, None))


class BrightModel(Model):
    """A model whose scores are the image's mean grey and the rest of it, calibrated by a square."""

    def answers(self, frames: Any, device: str = "auto") -> Any:
        del device
        grey = np.array([each[0].mean() / 255 for each in frames])
        return np.column_stack([grey, 1 - grey])[:, : len(self.targets)], None

    def judge(self, glances: Any, features: Any) -> Any:
        del features
        return [self.record.get("verdict", (None, ()))] * len(glances)

    def columns(self, scores: Any, prevalence: Any = ()) -> dict[str, Any]:
        del prevalence
        columns: dict[str, Any] = {}
        for names, score in zip(columns_of(self.targets, *SCORES), scores.T, strict=True):
            columns |= dict(zip(names, (score, score**2, (score >= 0.4).astype(np.int8)), strict=True))
        return columns


def make_model(folder: Path, *targets: str) -> Model:
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    how = {"depth": "full", "voi": "first", "frames": "first", "any_body_part": False}
    record = {
        "targets": [{"target": name, "threshold": {"value": 0.4}} for name in targets],
        "preprocessing": {**how, "store_size": 32, "crop_mode": "center"},
        "encoders": [{"frame": 32}],
    }
    return BrightModel(record, folder)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return make_model(tmp_path / "model", "Effusion")


def worker(fake: FakeArchive, model: Model, folder: Path, **settings: Any) -> pacs.Worker:
    """A worker with an open ledger in the folder; the clock stands still."""
    ledger = folder / "ledger.sqlite"
    values = {"model": model.folder, "dicomweb": "http://x", "ledger": ledger, "since": "all", **settings}
    opened = Ledger(ledger, algorithm_of(model).version)
    return pacs.Worker(fake, opened, model, make(PacsSettings, values), lambda: 0.0)  # type: ignore[arg-type]


def go(fake: FakeArchive, model: Model, folder: Path, **settings: Any) -> dict[str, int]:
    """Look and work, as `--once` does; returns how the ledger stands."""
    at_work = worker(fake, model, folder, **settings)
    try:
        at_work.look()
        at_work.work_off(float("inf"), threading.Event())
        return at_work.ledger.counts()
    finally:
        at_work.ledger.close()


def reasons(folder: Path) -> dict[str, str]:
    with sqlite3.connect(folder / "ledger.sqlite") as opened:
        return dict(opened.execute("select image, reason from images where state != 'reported'"))


def numbers(report: pydicom.Dataset) -> dict[str, list[float]]:
    """Finding -> its probability and threshold, walked out of the tree of a report."""
    found: dict[str, list[float]] = {}
    groups = [item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"]
    for group in groups[0].ContentSequence:
        name = [i.TextValue for i in group.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "112039"]
        nums = [i.MeasuredValueSequence[0] for i in group.ContentSequence if i.ValueType == "NUM"]
        found[name[0]] = [float(num.NumericValue) for num in nums]
    return found


def report_of(data: bytes) -> Report:
    return Report(read_head(data), Algorithm("MoCo-CXR Effusion", "1a2b3c4d5e6f"), FINDINGS, AT, "a wide image")


def as_bytes(dataset: pydicom.Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


# --- what a report says


def test_a_report_says_what_the_model_said_about_which_image_and_that_nobody_verified_it() -> None:
    image = chest(1, PatientName="山田^太郎")
    report = pydicom.dcmread(io.BytesIO(as_bytes(structured_report(report_of(image)))))
    assert numbers(report) == {"Effusion": [pytest.approx(0.812499999, abs=1e-9), 0.75], "Wet socks": [0.1]}
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert (report.PatientName, report.PatientID, report.AccessionNumber) == ("山田^太郎", "P1", "A1")
    assert report.StudyInstanceUID == uid_of("study 1")
    assert report.SeriesInstanceUID != uid_of("series 1 0")
    text = report.to_json()
    for said in (uid_of("image 1 0"), "Research use only", "1a2b3c4d5e6f", "a wide image", "60046008", "52101004"):
        assert said in text
    groups = highdicom.sr.Comprehensive3DSR.from_dataset(report).content.get_image_measurement_groups()
    assert len(groups) == 2


def test_a_report_and_its_picture_are_the_same_bytes_when_they_are_made_again(monkeypatch) -> None:
    data = chest(2)
    pixels = decode_image(data)
    first = [as_bytes(structured_report(report_of(data))), as_bytes(secondary_capture(report_of(data), pixels))]
    import datetime as real

    class Later(real.datetime):
        @classmethod
        def now(cls, _zone: Any = None) -> Later:
            return cls(2031, 5, 6, 7, 8, 9)

    import highdicom.base
    import highdicom.sc.sop

    for module in (highdicom.base, highdicom.sc.sop):
        monkeypatch.setattr(module, "datetime", SimpleNamespace(**vars(real) | {"datetime": Later}))
    again = [as_bytes(structured_report(report_of(data))), as_bytes(secondary_capture(report_of(data), pixels))]
    assert first == again


def test_uids_are_those_of_image_model_and_version_alone() -> None:
    report = report_of(chest(3))
    assert structured_report(report).SOPInstanceUID == uid_of(uid_of("image 3 0"), "MoCo-CXR Effusion", "1a2b3c4d5e6f")
    other = dataclasses.replace(report, algorithm=Algorithm("MoCo-CXR Effusion", "another"))
    every = {report.uid(), other.uid(), report.uid("capture"), report.uid("report series"), uid_of("image 3 0")}
    assert len(every) == 5
    assert all(re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid) for uid in every)


def test_an_image_that_lacks_every_optional_element_has_a_report_too() -> None:
    bare = dict.fromkeys(
        ("StudyID", "AccessionNumber", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "PatientName",
         "PatientID", "ReferringPhysicianName")
    )  # fmt: skip
    made = structured_report(report_of(chest(4, **bare)))
    assert numbers(made)["Effusion"][1] == 0.75
    library = str(made.ContentSequence)
    assert "Pixel Spacing" not in library, "an invented spacing"
    stated = structured_report(report_of(chest(4, PatientOrientation=["L", "F"], ImagerPixelSpacing=[0.2, 0.2])))
    assert "Pixel Spacing" in str(stated.ContentSequence)


def test_a_target_that_no_vocabulary_knows_is_called_by_its_own_name() -> None:
    assert code_of("Pleural Effusion").value == code_of("effusion=1").value == "60046008"
    for name in ("Effusion=0", "x" * 200, "Labels~TB"):
        code = code_of(name)
        assert (code.scheme_designator, code.meaning) == ("99MOCOCXR", name[:64])
        assert len(code.value) <= 16


def test_the_threshold_in_a_report_is_on_the_scale_of_its_probability(model: Model) -> None:
    (finding,) = answer_of(model, chest(5)).findings
    assert finding.probability == pytest.approx(finding.score**2)
    assert finding.probability_threshold == pytest.approx(0.16)
    assert finding.decision == (finding.probability >= finding.probability_threshold)


def test_a_model_of_several_targets_has_a_group_of_each_in_one_report(tmp_path: Path) -> None:
    model, data = make_model(tmp_path / "model", "Effusion", "Edema"), chest(5)
    findings = answer_of(model, data).findings
    report = Report(read_head(data), algorithm_of(model), findings, AT)
    row = model.predict([data]).row(0, named=True)
    said = numbers(structured_report(report))
    assert {name: values[0] for name, values in said.items()} == {
        name: pytest.approx(row[f"calibrated_{name}"], abs=1e-9) for name in ("Effusion", "Edema")
    }
    assert report.algorithm.name == "MoCo-CXR Effusion, Edema"


# --- which image has one


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (chest(1), None),
        (chest(1, view="AP"), None),
        (chest(1, view="LL"), "view: Lateral"),
        (chest(1, view=""), "the view is not stated"),
        (wrong_part(1), "the part of the body is not stated"),
        (wrong_part(1, StudyDescription="Rx Tórax"), None),
        (wrong_part(1, ProtocolName="Hand p.a."), "the part of the body is not stated"),
        (chest(1, BodyPartExamined="HAND"), "another part of the body: HAND"),
        (chest(1, PresentationIntentType="FOR PROCESSING"), "raw values of the detector (FOR PROCESSING)"),
        (chest(1, SOPClassUID=SC, Modality="OT"), "a secondary capture: not surely an image as it was taken"),
        (ct_slice(1, 0), "not a radiograph: CT Image"),
    ],
)
def test_only_what_is_surely_a_frontal_chest_image_has_a_report(data: bytes, reason: str | None) -> None:
    from mococxr.images.dicom import header

    assert reason_against(header(data), read_head(data)) == reason


# --- the way of an image


def test_each_frontal_image_has_one_report_and_every_other_a_reason(model: Model, tmp_path: Path) -> None:
    fake = FakeArchive([chest(1), chest(1, 1, "LL"), chest(2), chest(2, 1, "AP"), undecodable(3), ct_slice(4, 0)])
    assert go(fake, model, tmp_path) == {"declined": 3, "reported": 3}
    assert go(fake, model, tmp_path) == {"declined": 3, "reported": 3}
    assert sorted(fake.sent.values()) == [1, 1, 1]
    assert set(reasons(tmp_path)) == {uid_of("image 1 1"), uid_of("image 3 0"), uid_of("image 4 0")}
    assert reasons(tmp_path)[uid_of("image 3 0")].startswith("damaged JPEG")
    data = fake.files[uid_of("image 2 1")][1]
    stored = fake.stored[uid_of(uid_of("image 2 1"), *dataclasses.astuple(algorithm_of(model)))]
    assert numbers(stored)["Effusion"][0] == pytest.approx(answer_of(model, data).findings[0].probability, abs=1e-6)


@pytest.mark.parametrize(
    ("verdict", "view", "state", "text"),
    [
        (("Frontal", ()), "", "reported", None),
        (("Lateral", ()), "", "declined", "the view is not stated"),
        ((None, ()), "", "declined", "the view is not stated"),
        (("Lateral", ("lateral",)), "PA", "declined", "the model warns: lateral"),
        (("Frontal", ("lettered",)), "PA", "reported", "Warning: lettered"),
    ],
)
def test_the_look_of_an_image_settles_an_unstated_view_and_its_warnings_count(
    verdict: Any, view: str, state: str, text: str | None, model: Model, tmp_path: Path
) -> None:
    model.record["verdict"] = verdict
    fake = FakeArchive([chest(1, view=view)])
    assert go(fake, model, tmp_path) == {state: 1}
    if state == "declined":
        assert list(reasons(tmp_path).values()) == [text]
    else:
        (report,) = fake.stored.values()
        assert (text or "Research use only").encode() in as_bytes(report)


def test_killed_at_any_request_nothing_is_twice_and_nothing_is_missing(model: Model, tmp_path: Path) -> None:
    files = [chest(1), chest(1, 1, "LL"), chest(2)]
    whole = FakeArchive(files)
    go(whole, model, tmp_path / "whole", capture=True)
    assert whole.requests > 10
    for moment in range(1, whole.requests + 1):
        fake, folder = FakeArchive(files), tmp_path / str(moment)
        fake.kill_at = moment
        with pytest.raises(Killed):
            go(fake, model, folder, capture=True)
        assert go(fake, model, folder, capture=True) == {"declined": 1, "reported": 2}
        assert fake.stored.keys() == whole.stored.keys()
        assert set(fake.sent.values()) == {1}


def test_a_kill_before_the_ledger_knows_of_the_report_makes_the_same_report_again(model: Model, tmp_path: Path) -> None:
    fake = FakeArchive([chest(1)])
    at_work = worker(fake, model, tmp_path)
    at_work.look()
    at_work.ledger.end = lambda *_: (_ for _ in ()).throw(Killed())  # type: ignore[assignment]
    with pytest.raises(Killed):
        at_work.work_off(0.0, threading.Event())
    at_work.ledger.close()
    (first,) = map(as_bytes, fake.stored.values())
    fake.stored.clear()  # an archive that lost it, or that replaces what comes twice
    go(fake, model, tmp_path)
    assert [as_bytes(made) for made in fake.stored.values()] == [first]


def test_an_archive_that_is_away_costs_an_image_no_try(model: Model, tmp_path: Path) -> None:
    fake = FakeArchive([chest(1)])
    at_work = worker(fake, model, tmp_path, tries=1)
    at_work.look()
    fake.down = True
    for _ in range(3):
        with pytest.raises(archive.Unreachable):
            at_work.work_off(0.0, threading.Event())
    fake.down = False
    at_work.work_off(0.0, threading.Event())
    assert at_work.ledger.counts() == {REPORTED: 1}
    at_work.ledger.close()


def test_an_image_that_fails_waits_longer_each_time_and_is_a_dead_letter_at_last(model: Model, tmp_path: Path) -> None:
    fake = FakeArchive([chest(1), chest(2, view="LL")])
    fake.refuses = "the archive answers 500"
    at_work = worker(fake, model, tmp_path, tries=3)
    at_work.look()
    now, waits = 0.0, []
    at_work.clock = lambda: now
    for _ in range(3):
        at_work.work_off(None, threading.Event())
        due = sqlite3.connect(tmp_path / "ledger.sqlite").execute("select max(due) from images").fetchone()[0]
        waits.append(due - now)
        assert at_work.ledger.next_due(now) is None
        now = due
    assert waits[:2] == [30.0, 60.0]
    (letter,) = at_work.ledger.dead()
    assert (letter["reason"], letter["tries"]) == ("the archive answers 500", 3)
    assert pacs.Outcome(at_work.ledger.counts()).exit_status == 3
    fake.refuses = ""
    assert at_work.ledger.revive() == 1
    at_work.work_off(None, threading.Event())
    assert at_work.ledger.counts() == {"declined": 1, REPORTED: 1}
    at_work.ledger.close()


def test_an_image_that_kills_the_process_is_not_tried_for_ever(model: Model, tmp_path: Path, monkeypatch) -> None:
    def kill(*_: object) -> None:
        raise Killed

    fake = FakeArchive([chest(1)])
    monkeypatch.setattr(pacs, "answer_of", kill)
    for _ in range(3):
        with pytest.raises(Killed):
            go(fake, model, tmp_path, tries=3)
    assert go(fake, model, tmp_path, tries=3) == {DEAD: 1}


def test_an_image_that_is_deleted_on_the_way_is_gone(model: Model, tmp_path: Path, capsys) -> None:
    fake = FakeArchive([chest(1), chest(2)])
    at_work = worker(fake, model, tmp_path)
    at_work.look()
    del fake.files[uid_of("image 1 0")]
    at_work.work_off(0.0, threading.Event())
    assert at_work.ledger.counts() == {GONE: 1, REPORTED: 1}
    assert "image 1: gone, no longer in the archive\n" in capsys.readouterr().err
    at_work.ledger.close()


def test_a_study_is_looked_through_again_when_it_has_more_images(model: Model, tmp_path: Path) -> None:
    fake = FakeArchive([chest(1)])
    go(fake, model, tmp_path)
    before = fake.requests
    go(fake, model, tmp_path)
    assert fake.requests == before + 1  # the list of studies alone
    fake.files |= FakeArchive([chest(1, 1)]).files
    assert go(fake, model, tmp_path) == {REPORTED: 2}


def test_the_ledger_is_its_owners_alone_and_no_message_names_a_patient(model: Model, tmp_path: Path, capsys) -> None:
    go(FakeArchive([chest(1), undecodable(2)]), model, tmp_path)
    assert stat.S_IMODE((tmp_path / "ledger.sqlite").stat().st_mode) == 0o600
    told = capsys.readouterr().err
    for named in ("Test^1", "P1", uid_of("image 1 0"), uid_of("study 1")):
        assert named not in told


def test_each_model_has_rows_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first, second = Ledger(path, "a"), Ledger(path, "b")
    image = Found("1.2.3", "1.2", "1.2.1")
    assert (first.add([image]), second.add([image]), second.add([image])) == (1, 1, 0)
    first.end(Entry("1.2.3", "1.2", "1.2.1", number=1), GONE)
    assert (first.counts(), second.counts()) == ({GONE: 1}, {"waiting": 1})


# --- the command


def test_what_cannot_be_is_refused_before_anything_is_written(model: Model, tmp_path: Path, capsys) -> None:
    here = tmp_path / "here"
    for words, says in [
        (["--dicomweb", "pacs.example"], "no address"),
        (["--dicomweb", "http://me:secret@pacs.example"], "in it"),
        ([], "--dicomweb"),
        (["--dicomweb", "http://127.0.0.1:1", "--since", "soon"], "--since soon"),
        (["--dicomweb", "http://127.0.0.1:1", "--credentials", str(tmp_path / "none")], "--credentials"),
    ]:
        with pytest.raises(InputError, match=re.escape(says)):
            archive_or_check(words, model, here)
        assert "secret" not in capsys.readouterr().err
        assert not here.exists()


def archive_or_check(words: list[str], model: Model, here: Path) -> None:
    flags = dict(zip(words[::2], words[1::2], strict=True))
    values = {name.removeprefix("--"): value for name, value in flags.items()}
    settings = make(PacsSettings, {"model": model.folder, "ledger": here / "ledger.sqlite", **values})
    pacs._check(settings)
    archive.Archive(settings.dicomweb or "", settings.credentials, settings.ca)


def test_credentials_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "secret").write_text("me:pass:word\n")
    auth = archive._session(tmp_path / "secret", None).auth
    assert (auth.username, auth.password) == (b"me", b"pass:word")
    (tmp_path / "secret").write_text("a-token\n")
    assert archive._session(tmp_path / "secret", None).headers["Authorization"] == "Bearer a-token"
    assert archive._session(None, None).auth is None
    monkeypatch.setenv(archive.USER, "me")
    monkeypatch.setenv(archive.PASSWORD, "naïve")
    auth = archive._session(None, None).auth
    assert (auth.username, auth.password) == (b"me", "naïve".encode())


def test_a_missing_library_names_the_extra(model: Model, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(pacs.importlib.util, "find_spec", lambda name: None if name == "highdicom" else object())
    line = ["pacs", model.folder, "--dicomweb", "http://127.0.0.1:1", "--ledger", tmp_path / "ledger", "--once"]
    assert status(*line) == 2
    assert "pip install 'mococxr[pacs]'" in capsys.readouterr().err


def test_another_file_is_no_ledger_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("my notes, which are longer than a header of SQLite " * 9)
    before = (tmp_path / "notes").read_bytes()
    with pytest.raises(InputError, match="not a ledger"):
        Ledger(tmp_path / "notes", "a")
    assert (tmp_path / "notes").read_bytes() == before


def test_the_file_of_an_image_comes_whole_out_of_its_wrapping() -> None:
    body = b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n\r\n--DICM\r\n\0\r\n--x--\r\n"
    assert archive._first_part(body, 'multipart/related; boundary="x"') == b"\r\n--DICM\r\n\0"
    assert archive._first_part(b"DICM", "application/dicom") == b"DICM"
    with pytest.raises(archive.Refused):
        archive._first_part(body[:40], 'multipart/related; boundary="x"')


def test_a_header_that_is_none_is_declined() -> None:
    with pytest.raises(ImageError):
        read_head(b"no DICOM")
