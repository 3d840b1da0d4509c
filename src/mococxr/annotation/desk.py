"""What the page may ask for: a reader's work, answers, images; images go by their numbers, paths and patients stay here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mococxr.annotation.pictures import Pictures
from mococxr.annotation.worklist import AHEAD, LONGEST, Worklist
from mococxr.errors import InputError
from mococxr.store import Store
from mococxr.store.label_history import RESOLVED

SMALLEST_SIDE, NARROWEST, FARTHEST = 64, 1e-4, 10.0
"""Of an image that is asked for: its side, px; the width of its window and where that may lie, in shares of all levels."""


@dataclass
class Session:
    """One browser that was let in, and the name that its reader chose."""

    reader: str | None = None

    def name(self) -> str:
        """The reader's name.

        Raises:
            InputError: none was chosen yet.
        """
        if self.reader is None:
            raise InputError("This page has no reader yet.", "Choose a name first.")
        return self.reader


class Desk:
    """Each method takes the session and what the page sent, and gives what it gets back as JSON.

    Args:
        worklist: images and answers.
        pictures: of the same store.
        proposed: name that the page proposes to a reader.
    """

    def __init__(self, worklist: Worklist, pictures: Pictures, proposed: str | None) -> None:
        self.worklist, self.pictures, self.proposed = worklist, pictures, proposed
        self._patients = _Patients(pictures.store)

    def join(self, session: Session, body: Any) -> dict[str, Any]:
        """Give a session its reader."""
        session.reader = checked_reader(body["reader"])
        return self.open(session, None)

    def open(self, session: Session, _: Any) -> dict[str, Any]:
        """What a page needs that is loaded, or looked at again: answers are read anew."""
        self.worklist.refresh()
        if session.reader is None:
            return {"reader": None, "proposed": self.proposed, "readers": self.worklist.readers()}
        return {**self.work(session.reader), "trail": self.worklist.done(session.reader)}

    def answer(self, session: Session, body: Any) -> dict[str, Any]:
        """Write answers, and give what is to be done next."""
        values, was = dict(body["answers"]), dict(body["was"])
        self.worklist.answer(session.name(), body["number"], values, was, body["note"] or None)
        return self.work(session.name())

    def skip(self, session: Session, body: Any) -> dict[str, Any]:
        """Put an image off, and give what is to be done next."""
        self.worklist.skip(session.name(), body["number"])
        return self.work(session.name())

    def work(self, reader: str) -> dict[str, Any]:
        """A reader's images to come and how far the reader is."""
        order, done = self.worklist.upcoming(reader), len(self.worklist.done(reader))
        seconds = self.worklist.seconds_an_image(reader)
        return {
            "reader": reader,
            "targets": self.worklist.targets,
            "done": done,
            "total": done + len(order),
            "seconds_left": None if seconds is None else round(seconds * len(order)),
            "items": [self._item(number, reader) for number in order[:AHEAD]],
        }

    def item(self, session: Session, number: int) -> dict[str, Any]:
        """An image that the reader goes back to."""
        return self._item(number, session.name())

    def _item(self, number: int, reader: str) -> dict[str, Any]:
        answers, note = self.worklist.answers(number, reader)
        row = self.worklist.items[number].row
        others = [self._patients.words(row, other) for other in self._patients.others(row)]
        return {
            "number": number,
            "view": self._patients.views[row],
            "others": others,
            "answers": answers,
            "note": note or "",
        }

    def image(self, number: int, other: int, asked: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
        """An image of the list (other: 0) or the patient's next ones (1, 2, ...) as PNG, and its window and depth.

        Raises:
            InputError: there is none, or the window is none.
        """
        self.worklist.answers(number, "")
        row = self.worklist.items[number].row
        rows = [row, *self._patients.others(row)]
        if other >= len(rows):
            raise InputError(f"Image {number} has no other image {other}.", f"It has {len(rows) - 1}.")
        window, side = _view(asked)
        picture = self.pictures.picture(rows[other])
        facts = {"X-Window": " ".join(f"{share:.5f}" for share in picture.window), "X-Bits": str(picture.bits)}
        return picture.png(window, side), facts


def checked_reader(name: Any) -> str:
    """A reader's name.

    Raises:
        InputError: it is none: blank, too long, or with signs that no screen shows.
    """
    text = " ".join(name.split()) if isinstance(name, str) else ""
    if text in ("", RESOLVED) or len(text) > LONGEST["reader"] or not text.isprintable():
        raise InputError("That is no name for a reader.", f"Write 1 to {LONGEST['reader']} letters or digits.")
    return text


def _view(asked: Mapping[str, str]) -> tuple[tuple[float, float] | None, int | None]:
    """The window and the side that an image is asked for with."""
    wrong = InputError("The image is asked for with a window or a side that is none.", "Reload the page.")
    try:
        side = max(int(asked["side"]), SMALLEST_SIDE) if "side" in asked else None
        window = (float(asked["low"]), float(asked["high"])) if "low" in asked else None
    except (KeyError, ValueError) as error:
        raise wrong from error
    if window and not (max(map(abs, window)) <= FARTHEST and window[1] - window[0] >= NARROWEST):  # nan is neither
        raise wrong
    return window, side


class _Patients:
    """Which images are of one patient: those of the same study first."""

    def __init__(self, store: Store) -> None:
        index = store.columns("patient", "study", "view")
        self.views, self._studies = index["view"].to_list(), index["study"].to_list()
        self._patients = index["patient"].to_list()
        self._rows: dict[str, list[int]] = {}
        for row, patient in enumerate(self._patients) if store.patients_known else ():
            self._rows.setdefault(patient, []).append(row)

    def others(self, row: int) -> list[int]:
        rows = [other for other in self._rows.get(self._patients[row], ()) if other != row]
        return sorted(rows, key=lambda other: not self._of_one_study(row, other))  # else in the order of the store

    def words(self, row: int, other: int) -> str:
        study = "same study" if self._of_one_study(row, other) else "another study"
        return ", ".join(filter(None, (self.views[other], study)))

    def _of_one_study(self, row: int, other: int) -> bool:
        return self._studies[row] is not None and self._studies[row] == self._studies[other]
