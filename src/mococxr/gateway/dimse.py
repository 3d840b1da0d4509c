"""C-STORE, by pynetdicom: taking images that are sent here, and sending reports to an archive without DICOMweb.

An image is answered with success when it lies on the disk and the ledger knows of it, and not before: whatever happens
afterwards, it is not lost, and a sender that got no answer sends it again.
"""

from __future__ import annotations

import io
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mococxr import console
from mococxr.errors import InputError, RunError
from mococxr.files import atomic
from mococxr.gateway.archive import Refused, Unreachable
from mococxr.gateway.findings import uid_of
from mococxr.gateway.ledger import OPEN, Entry, Found, Ledger
from mococxr.images.dicom.metadata import CAPTURES, RADIOGRAPHS
from mococxr.settings import PacsSettings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SUCCESS, NO_ROOM, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
"""Answers to C-STORE (PS3.4 table B.2-1)."""
LONGEST = 60.0
"""Seconds that a peer may be silent."""
CONNECT = 5.0
_VERIFICATION = "1.2.840.10008.1.1"


@dataclass(frozen=True)
class Address:
    """An application entity: its title, and where it is."""

    title: str
    host: str
    port: int


def address_of(text: str, name: str, host: str | None = None) -> Address:
    """`AE@HOST:PORT`, or `AE:PORT` where a host is given.

    >>> address_of("CXRAI:11112", "--listen", "0.0.0.0")
    Address(title='CXRAI', host='0.0.0.0', port=11112)
    """
    match = re.fullmatch(r"([^@:\\]{1,16})(?:@([^@\s]+))?:(\d{1,5})", text.strip())
    if match is None or not (match[2] or host) or not 0 < int(match[3]) < 1 << 16:
        form = "AE:PORT or AE@HOST:PORT" if host else "AE@HOST:PORT"
        raise InputError(f"{name} {text} is no address.", f"Write {form}; AE titles have 16 letters at most.")
    return Address(match[1].strip(), match[2] or str(host), int(match[3]))


class Spool:
    """The folder beside the ledger in which images that were sent here wait; its owner's alone."""

    def __init__(self, ledger: Path) -> None:
        self.folder = ledger.with_name(f"{ledger.name}.images")

    def keep(self, image: str, data: bytes) -> str:
        """Write a file, to the disk; returns its name."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        name = f"{uid_of(image)}.dcm"
        with atomic(self.folder / name, mode=0o600) as temporary:
            temporary.write_bytes(data)
        return name

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.folder / name).read_bytes()

    def drop(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def recover(self, ledger: Ledger) -> None:
        """After a kill: enter files that the ledger does not know of, and remove those of images that are done."""
        known = ledger.files()
        for path in sorted(self.folder.glob("*.dcm")) if self.folder.is_dir() else []:
            if path.name not in known and not _enter(path.read_bytes(), ledger, lambda *_, name=path.name: name):
                self.drop(path.name)


def _enter(data: bytes, ledger: Ledger, keep: Any) -> bool:
    """Enter an image with its file; returns False where it is done already, or names no image."""
    import pydicom

    tags = ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
    head = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=tags)
    image, study, series = (str(head.get(tag, "")) for tag in tags)
    if not (image and study and series):
        raise ValueError("an image without UIDs")
    entry = ledger.entry_of(image)
    if entry is not None and entry.state not in OPEN:
        return False
    name = keep(image, data)
    if entry is None:
        ledger.add([Found(image, study, series, name)])
    else:
        ledger.sent(entry, name)
    return True


class Listener:
    """Takes images in threads of pynetdicom's, until it is closed.

    Args:
        settings: `listen`, `allow`, and those of TLS.
        version: of the model whose ledger it is.
        spool: where images wait.
        arrived: set when one is there.

    Raises:
        InputError: no address, nobody who may send, or a port in use.
    """

    def __init__(self, settings: PacsSettings, version: str, spool: Spool, arrived: threading.Event) -> None:
        from pydicom.uid import AllTransferSyntaxes
        from pynetdicom import AE, evt

        assert settings.listen is not None
        address = address_of(settings.listen, "--listen", "0.0.0.0")
        if not settings.allow:
            raise InputError("--listen takes images from nobody.", "Name the AE titles that may send: --allow ARCHIVE.")
        self._ledger, self._version, self._spool, self._arrived = settings.ledger, version, spool, arrived
        entity = AE(address.title)
        entity.require_called_aet, entity.require_calling_aet = True, list(settings.allow)
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = LONGEST
        entity.add_supported_context(_VERIFICATION)
        for kind in sorted(RADIOGRAPHS | CAPTURES):
            entity.add_supported_context(kind, AllTransferSyntaxes)
        try:
            self._server = entity.start_server(
                (address.host, address.port), block=False, ssl_context=_tls(settings, server=True),
                evt_handlers=[(evt.EVT_C_STORE, self._store)],
            )  # fmt: skip
        except OSError as error:
            raise InputError(
                f"--listen {settings.listen} cannot be used: {error.strerror}.", "Name another."
            ) from error

    def close(self) -> None:
        """Take no more images."""
        if self._server is not None:
            self._server.shutdown()

    def _store(self, event: Any) -> int:
        """Answer one C-STORE."""
        try:
            ledger = Ledger(self._ledger, self._version)
            try:
                if _enter(event.encoded_dataset(), ledger, self._spool.keep):
                    self._arrived.set()
            finally:
                ledger.close()
        except (RunError, OSError) as error:
            console.warn(f"an image that was sent cannot be kept: {error}")
            return NO_ROOM
        except Exception as error:
            console.warn(f"an image that was sent cannot be read ({type(error).__name__})")
            return NOT_UNDERSTOOD
        return SUCCESS


class Peer:
    """An archive to which reports are sent by C-STORE; it cannot be asked what it has."""

    def __init__(self, settings: PacsSettings) -> None:
        assert settings.send_to is not None
        self.settings, self.address = settings, address_of(settings.send_to, "--send-to")
        self._title = address_of(settings.listen, "--listen", "0.0.0.0").title if settings.listen else "MOCOCXR"

    def fetch(self, entry: Entry) -> bytes:
        """Images come by C-STORE alone here; one that did not, cannot be had."""
        raise Refused(f"image {entry.number} was not sent here, and there is no DICOMweb to fetch it by")

    def keep(self, dataset: Dataset) -> None:
        """Send an object; the same one twice is one object to an archive, as its UID and its bytes are the same."""
        from pynetdicom import AE

        self._reach()
        entity = AE(self._title)
        entity.connection_timeout, entity.acse_timeout, entity.dimse_timeout = CONNECT, CONNECT, 2 * CONNECT
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        context = _tls(self.settings, server=False)
        tls = (context, self.address.host) if context else None
        link = entity.associate(self.address.host, self.address.port, ae_title=self.address.title, tls_args=tls)
        if not link.is_established:
            how = "turns us away: check AE titles" if link.is_rejected else "breaks off"
            raise Unreachable(f"The archive {self.settings.send_to} {how}.\n  Check that it runs, and --send-to.")
        try:
            status = link.send_c_store(dataset)
        except ValueError as error:  # no context for this kind of object
            raise Refused("the archive does not take such reports") from error
        finally:
            link.release()
        if "Status" not in status:
            raise Unreachable(
                f"The archive {self.settings.send_to} does not answer.\n  Does it know us as {self._title}?"
            )
        if status.Status != SUCCESS and status.Status >> 12 != 0xB:  # B...: stored, with a remark
            raise Refused(f"the archive answers {status.Status:04X}")

    def _reach(self) -> None:
        """Knock first: a connection that is refused has no words of its own in pynetdicom, which leaves its socket open."""
        try:
            socket.create_connection((self.address.host, self.address.port), CONNECT).close()
        except OSError as error:
            raise Unreachable(
                f"The archive {self.settings.send_to} cannot be reached.\n  Check that it runs, and --send-to."
            ) from error


def _tls(settings: PacsSettings, *, server: bool) -> ssl.SSLContext | None:
    """TLS as `--cert` and `--peer-ca` say, or None.

    Raises:
        InputError: files that are no certificate and key.
    """
    if settings.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.cert, settings.cert_key)
        if settings.peer_ca is not None:
            context.load_verify_locations(settings.peer_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        elif not server:
            context.load_default_certs()
    except OSError as error:
        raise InputError(f"--cert {settings.cert}: {error.strerror or error}.", "Name PEM files.") from error
    return context
