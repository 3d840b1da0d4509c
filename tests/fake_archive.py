"""An archive in memory, which can be down, break off, lose an image, or kill whoever asks it at the n-th request."""

from __future__ import annotations

import datetime
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pydicom

from mococxr.gateway.archive import Missing, Refused, Study, Unreachable
from mococxr.gateway.ledger import Entry, Found


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


class FakeArchive:
    """The methods of `Archive`, on files in memory.

    Args:
        files: the images, as bytes.
    """

    def __init__(self, files: list[bytes]) -> None:
        self.files: dict[str, tuple[Any, bytes]] = {}
        for data in files:
            head = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
            self.files[str(head.SOPInstanceUID)] = (head, data)
        self.stored: dict[str, pydicom.Dataset] = {}
        self.sent: Counter[str] = Counter()
        self.requests, self.kill_at, self.down, self.refuses = 0, -1, False, ""

    def _request(self) -> None:
        self.requests += 1
        if self.requests == self.kill_at:
            raise Killed
        if self.down:
            raise Unreachable("The archive cannot be reached.")

    def studies(self, _since: datetime.date | None, uid: str | None = None) -> Iterator[Study]:
        self._request()
        counts = Counter(str(head.StudyInstanceUID) for head, _ in self.files.values())
        yield from (Study(study, count) for study, count in counts.items() if uid in (None, study))

    def images(self, study: str) -> Iterator[Found]:
        self._request()
        for head, _ in list(self.files.values()):
            if head.StudyInstanceUID == study:
                yield Found(str(head.SOPInstanceUID), study, str(head.SeriesInstanceUID))

    def fetch(self, entry: Entry) -> bytes:
        self._request()
        if entry.image not in self.files:
            raise Missing
        return self.files[entry.image][1]

    def holds(self, _study: str, uid: str) -> bool:
        self._request()
        return uid in self.stored

    def keep(self, dataset: pydicom.Dataset) -> None:
        uid = str(dataset.SOPInstanceUID)
        if self.holds(str(dataset.StudyInstanceUID), uid):
            return
        if self.refuses:
            raise Refused(self.refuses)
        self.sent[uid] += 1
        self.stored[uid] = dataset
        self._request()  # the answer to what is stored may be lost
