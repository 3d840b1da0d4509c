"""An archive by DICOMweb: search (QIDO-RS), fetch (WADO-RS), store (STOW-RS), and what can go wrong, in words.

Nothing is retried here and nothing waits for longer than `TIMEOUTS`: the ledger knows what to try again, and when.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mococxr.errors import InputError, RunError
from mococxr.gateway.frontal import RADIOGRAPHS
from mococxr.gateway.ledger import Entry, Found

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from requests import Session

TIMEOUTS = (3.0, 10.0)
"""Seconds until a connection stands, and until the next bytes come."""
PAGE = 200
"""Results that are asked for at once."""
USER, PASSWORD, TOKEN = "MOCOCXR_PACS_USER", "MOCOCXR_PACS_PASSWORD", "MOCOCXR_PACS_TOKEN"
_AWAY = (408, 429, 502, 503, 504)
"""Answers of a server that is there and cannot work now."""


class Unreachable(RunError):
    """The archive is down, silent or overloaded: nothing is said about any one image."""


class Missing(Exception):
    """The archive does not have what was asked for."""


class Refused(Exception):
    """The archive does not give or take this one; the text is the reason."""


@dataclass(frozen=True)
class Study:
    """A study that the archive lists: its UID, and how many objects it has, where the archive says."""

    uid: str
    objects: int | None


class Archive:
    """A DICOMweb service.

    Args:
        address: of the service, `https://pacs.example/dicom-web`.
        credentials: file with USER:PASSWORD or a token; None takes the environment's, if any.
        ca: certificates of those who signed the archive's own; None takes the system's.

    Raises:
        InputError: no address, one with a password in it, or credentials that cannot be read.
    """

    def __init__(self, address: str, credentials: Path | None = None, ca: Path | None = None) -> None:
        from dicomweb_client.api import DICOMwebClient

        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"--dicomweb {address} is no address.", "Write https://HOST:PORT/PATH.")
        if parts.username or parts.password:
            raise InputError(
                "--dicomweb has a user or a password in it, which every user of this machine can read.",
                f"Put them into a file (--credentials) or into {USER} and {PASSWORD}.",
            )
        self.address = address.rstrip("/")
        self._session = _session(credentials, ca)
        self._client = DICOMwebClient(self.address, session=self._session, timeout=TIMEOUTS, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)

    def studies(self, since: datetime.date | None, uid: str | None = None) -> Iterator[Study]:
        """The studies from a date on (None: all), or the one named, as far as they may hold radiographs."""
        filters = {"StudyInstanceUID": uid} if uid else {"StudyDate": f"{since:%Y%m%d}-"} if since else {}
        fields = ["ModalitiesInStudy", "NumberOfStudyRelatedInstances"]
        try:
            for item in self._pages("search_for_studies", "0020000D", search_filters=filters, fields=fields):
                modalities = _values(item, "00080061")
                if uid or not modalities or set(modalities) & set(RADIOGRAPHS):
                    objects = _values(item, "00201208")
                    yield Study(_values(item, "0020000D")[0], int(objects[0]) if objects else None)
        except Missing as error:
            raise InputError(
                f"There is no DICOMweb at {self.address}.", "Check --dicomweb: in Orthanc it ends in /dicom-web."
            ) from error

    def images(self, study: str) -> Iterator[Found]:
        """The objects of a study that may be radiographs, by their modality."""
        for item in self._pages("search_for_instances", "00080018", study_instance_uid=study):
            if (_values(item, "00080060") or [""])[0] in RADIOGRAPHS:
                image, series = _values(item, "00080018")[0], _values(item, "0020000E")[0]
                yield Found(image, study, series)

    def fetch(self, entry: Entry) -> bytes:
        """The file of an image, as the archive has it.

        Raises:
            Missing: the archive has it no longer.
        """
        with self._in_words():
            answer = self._session.get(
                f"{self.address}/studies/{entry.study}/series/{entry.series}/instances/{entry.image}",
                headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
                timeout=TIMEOUTS,
            )
            answer.raise_for_status()
        return _first_part(answer.content, answer.headers.get("Content-Type", ""))

    def holds(self, study: str, uid: str) -> bool:
        """Whether a study has an object."""
        with self._in_words():
            try:
                return bool(self._client.search_for_instances(study, search_filters={"SOPInstanceUID": uid}))
            except Exception as error:
                if getattr(getattr(error, "response", None), "status_code", None) == 404:  # no such study any more
                    return False
                raise

    def keep(self, dataset: Dataset) -> None:
        """Store an object, unless the archive has it: never twice, whatever happened the last time.

        Raises:
            Refused: the archive does not take it.
        """
        study, uid = str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)
        if self.holds(study, uid):
            return
        with self._in_words():
            answer = self._client.store_instances([dataset], study)
        if failed := answer.get("FailedSOPSequence"):
            raise Refused(f"the archive does not take the report (reason {failed[0].get('FailureReason', 'unknown')})")

    def _pages(self, search: str, key: str, **how: Any) -> Iterator[dict[str, Any]]:
        """The results of a search, page by page; an archive that knows no pages sends all of them each time."""
        seen: set[str] = set()
        while True:
            with self._in_words():
                page = getattr(self._client, search)(limit=PAGE, offset=len(seen), **how)
            new = [item for item in page if (_values(item, key) or [""])[0] not in {"", *seen}]
            seen |= {_values(item, key)[0] for item in new}
            yield from new
            if not new:
                return

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Turn what the libraries raise into one of our errors, in one line."""
        import requests

        try:
            yield
        except requests.exceptions.SSLError as error:
            raise Unreachable(
                f"The certificate of {self.address} is not trusted.\n  Name who signed it with --ca."
            ) from error
        except requests.ConnectTimeout as error:
            raise self._away(f"does not answer ({TIMEOUTS[0]:g} s)") from error
        except requests.Timeout as error:
            raise self._away(f"is silent ({TIMEOUTS[1]:g} s)") from error
        except requests.ConnectionError as error:
            raise self._away("cannot be reached") from error
        except requests.HTTPError as error:
            raise self._by_status(0 if error.response is None else error.response.status_code) from error
        except requests.RequestException as error:
            raise self._away(f"breaks off ({type(error).__name__})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # of an answer that is no DICOMweb
            raise Unreachable(f"{self.address} answers, but not as DICOMweb does.\n  Check --dicomweb.") from error

    def _away(self, how: str) -> Unreachable:
        return Unreachable(f"The archive {self.address} {how}.\n  Check that it runs, and --dicomweb.")

    def _by_status(self, status: int) -> Exception:
        if status in (401, 403):
            why = "wrong user or password" if status == 401 else "this user may not"
            return InputError(
                f"The archive {self.address} lets nobody in ({status}: {why}).",
                f"Check --credentials, or {USER} and {PASSWORD}.",
            )
        if status in _AWAY:
            return self._away(f"cannot work now ({status})")
        return Missing() if status == 404 else Refused(f"the archive answers {status}")


def _session(credentials: Path | None, ca: Path | None) -> Session:
    """A session with credentials that are neither on the command line nor in a log."""
    import requests

    session = requests.Session()
    session.trust_env = False  # neither ~/.netrc nor a proxy: images go to the archive alone
    if ca is not None:
        if not ca.is_file():
            raise InputError(f"There are no certificates at {ca}.", "Check --ca.")
        session.verify = str(ca)
    user, password, token = (os.environ.get(name) for name in (USER, PASSWORD, TOKEN))
    if credentials is not None:
        user, password, token = _read(credentials)
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif user:
        # bytes: requests would take Latin-1
        session.auth = requests.auth.HTTPBasicAuth(user.encode(), (password or "").encode())
    return session


def _read(path: Path) -> tuple[str | None, str | None, str | None]:
    """User, password and token that a file holds."""
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--credentials {path} cannot be read.", "Name a file with USER:PASSWORD in it.") from error
    if not line:
        raise InputError(f"--credentials {path} is empty.", "Write USER:PASSWORD into it, or a token.")
    user, colon, password = line.partition(":")
    return (user, password, None) if colon else (None, None, line)


def _values(item: dict[str, Any], tag: str) -> list[Any]:
    """The values of an element of DICOM JSON."""
    return [value for value in (item.get(tag) or {}).get("Value") or [] if value is not None]


def _first_part(body: bytes, content_type: str) -> bytes:
    """The first part of a multipart body; another body is the file itself."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if boundary is None:
        return body
    mark = b"--" + boundary[1].strip().encode()
    _, _, part = body.partition(mark)
    _, _, content = part.partition(b"\r\n\r\n")
    content, end, _ = content.rpartition(b"\r\n" + mark)
    if not end:
        raise Refused("the archive breaks off in the middle of the image")
    return content
