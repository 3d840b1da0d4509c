"""C-STORE, over the loopback: an image that was answered with success is not lost, and nobody else may send."""

from __future__ import annotations

import gc
import io
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_images import CR
from dicom_studies import chest
from mococxr.errors import InputError
from mococxr.gateway import dimse, pacs
from mococxr.gateway.archive import Refused, Unreachable
from mococxr.gateway.dimse import Listener, Peer, Spool, address_of
from mococxr.gateway.findings import uid_of
from mococxr.gateway.ledger import DECLINED, REPORTED, Ledger
from mococxr.settings import PacsSettings, make

# pynetdicom leaves a socket open where a connection ends before it began
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
pynetdicom = pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What is left open is closed within its own test."""
    yield
    gc.collect()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings_of(folder: Path, **more: Any) -> PacsSettings:
    port = free_port()
    values = {"model": folder, "ledger": folder / "ledger", "listen": f"CXRAI@127.0.0.1:{port}", "allow": ["ORTHANC"]}
    return make(PacsSettings, values | more)


@contextmanager
def listening(settings: PacsSettings) -> Iterator[threading.Event]:
    arrived = threading.Event()
    listener = Listener(settings, "a", Spool(settings.ledger), arrived)
    try:
        yield arrived
    finally:
        listener.close()


def send(settings: PacsSettings, data: bytes, title: str = "ORTHANC", called: str = "CXRAI", **tls: Any) -> int | None:
    """The answer to C-STORE, or None where no association was made."""
    entity = pynetdicom.AE(title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = 10
    dataset = pydicom.dcmread(io.BytesIO(data))
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    assert settings.listen is not None
    link = entity.associate("127.0.0.1", int(settings.listen.rpartition(":")[2]), ae_title=called, **tls)
    if not link.is_established:
        return None
    try:
        return int(link.send_c_store(dataset).Status)
    finally:
        link.release()


def test_an_image_that_is_sent_lies_on_the_disk_and_in_the_ledger_before_it_is_answered(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    ledger = Ledger(settings.ledger, "a")
    with listening(settings) as arrived:
        assert send(settings, chest(1)) == 0
        assert arrived.is_set()
        assert send(settings, chest(1)) == 0
        assert send(settings, chest(2), title="STRANGER") is None
        assert send(settings, chest(2), called="ANOTHER") is None
        assert send(settings, chest(2, StudyInstanceUID=None)) == dimse.NOT_UNDERSTOOD
    (name,) = ledger.files()
    assert ledger.counts() == {"waiting": 1}
    spool = Spool(settings.ledger)
    assert pydicom.dcmread(io.BytesIO(spool.read(name))).SOPInstanceUID == uid_of("image 1 0")
    assert (spool.folder.stat().st_mode & 0o777, (spool.folder / name).stat().st_mode & 0o777) == (0o700, 0o600)


def test_an_image_that_is_done_is_not_taken_again_and_its_file_goes(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, dicomweb="http://127.0.0.1:1")
    ledger = Ledger(settings.ledger, "a")
    with listening(settings):
        send(settings, chest(1, view="LL"))
        entry = ledger.next_due(0.0)
        assert entry is not None
        assert entry.file is not None
        worker = object.__new__(pacs.Worker)
        worker.ledger, worker.spool = ledger, Spool(settings.ledger)
        worker._end(entry, DECLINED, "view: Lateral")
        assert send(settings, chest(1, view="LL")) == 0
    assert ledger.counts() == {DECLINED: 1}
    assert not list(Spool(settings.ledger).folder.iterdir())


def test_a_kill_between_file_and_ledger_loses_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    spool, ledger = Spool(settings.ledger), Ledger(settings.ledger, "a")
    spool.keep(uid_of("image 1 0"), chest(1))  # killed here: the ledger knows nothing of it
    spool.recover(ledger)
    entry = ledger.next_due(0.0)
    assert entry is not None
    assert (entry.image, entry.file) == (uid_of("image 1 0"), f"{uid_of(uid_of('image 1 0'))}.dcm")
    ledger.end(entry, REPORTED)  # killed here: the file is still there
    spool.recover(ledger)
    assert not list(spool.folder.iterdir())


def test_a_report_goes_to_an_archive_without_dicomweb_and_a_refusal_has_words(tmp_path: Path) -> None:
    received, answer = [], [0x0000]

    def take(event: Any) -> int:
        received.append(event.dataset.SOPInstanceUID)
        return answer[0]

    entity = pynetdicom.AE("ARCHIVE")
    entity.require_calling_aet = ["CXRAI"]
    entity.add_supported_context(CR)
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, take)])
    dataset = pydicom.dcmread(io.BytesIO(chest(2)))
    try:
        peer = Peer(settings_of(tmp_path, send_to=f"ARCHIVE@127.0.0.1:{port}"))
        peer.keep(dataset)
        assert received == [uid_of("image 2 0")]
        answer[0] = 0xA700
        with pytest.raises(Refused, match="A700"):
            peer.keep(dataset)
        stranger = settings_of(tmp_path, send_to=f"ARCHIVE@127.0.0.1:{port}", listen=f"ELSE@127.0.0.1:{free_port()}")
        with pytest.raises(Unreachable, match="turns us away"):
            Peer(stranger).keep(dataset)
    finally:
        server.shutdown()
    with pytest.raises(Unreachable, match="cannot be reached"):
        peer.keep(dataset)


def test_with_a_certificate_images_come_by_tls_with_both_sides_known(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*line.split(), "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True
    )
    settings = settings_of(tmp_path, cert=tmp_path / "cert", cert_key=tmp_path / "key", peer_ca=tmp_path / "cert")
    client = make(PacsSettings, vars(settings) | {"send_to": "X@127.0.0.1:1"})
    with listening(settings):
        context = dimse._tls(client, server=False)
        assert send(settings, chest(1), tls_args=(context, "127.0.0.1")) == 0


@pytest.mark.parametrize("text", ["AE", "AE:0", "AE:x", ":11112", "A" * 17 + ":104", "AE@host"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no address"):
        address_of(text, "--listen", "0.0.0.0")


def test_ways_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    for values, says in [
        ({}, "No archive is named"),
        ({"dicomweb": "http://x", "send_to": "A@b:1", "listen": "A:1"}, "two ways"),
        ({"send_to": "A@b:1"}, "No image can come"),
        ({"dicomweb": "http://x", "listen": "A:1", "once": True}, "--listen waits"),
    ]:
        with pytest.raises(InputError, match=says):
            pacs._check(make(PacsSettings, {"model": tmp_path, "ledger": tmp_path / "ledger", **values}))
    with pytest.raises(InputError, match="from nobody"):
        Listener(settings_of(tmp_path, allow=()), "a", Spool(tmp_path / "ledger"), threading.Event())
