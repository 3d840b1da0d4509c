"""The command `pacs`: new images of an archive -> scored -> reports in the archive, each image once.

A look enters what is new into the ledger; then whatever the ledger has open is worked off, one image after another:
fetch, decide, score, keep the scores, store the report. Each of these steps is safe to be killed in and repeated.
"""

from __future__ import annotations

import csv
import datetime
import importlib.util
import io
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mococxr import console, files
from mococxr.classifier.saved import Model, load_model
from mococxr.errors import ImageError, InputError
from mococxr.gateway.archive import Archive, Missing, Refused, Unreachable
from mococxr.gateway.dimse import Listener, Peer, Spool
from mococxr.gateway.findings import algorithm_of, answer_of, reference_of
from mococxr.gateway.frontal import FRONT, VIEW_UNKNOWN, reason_against
from mococxr.gateway.ledger import DEAD, DECLINED, GONE, REPORTED, SCORED, WAITING, Entry, Ledger, Scored, now_text
from mococxr.images import decode_image
from mococxr.images.dicom import header
from mococxr.settings import PacsSettings

ATTENTION = 3
"""Exit status where images wait for another try or are dead letters."""
LONGEST_PAUSE = 300.0
"""Seconds between two tries to reach an archive that is down, at most."""


@dataclass(frozen=True)
class Outcome:
    """How the ledger stands for one model.

    Args:
        counts: state -> images in it.
    """

    counts: dict[str, int]

    @property
    def exit_status(self) -> int:
        """3 where images wait or are dead letters, else 0."""
        return ATTENTION if any(self.counts.get(state) for state in (WAITING, SCORED, DEAD)) else 0

    @property
    def facts(self) -> dict[str, int]:
        """The counts, as `--json` gives them."""
        return self.counts

    @property
    def in_words(self) -> str:
        """`34 reported, 20 declined, 1 dead`."""
        counts = [
            f"{self.counts[s]:,} {s}" for s in (REPORTED, DECLINED, GONE, WAITING, SCORED, DEAD) if s in self.counts
        ]
        return ", ".join(counts) or "no images"


def run_pacs(settings: PacsSettings) -> Outcome:
    """Score the images that an archive has or sends until it is stopped, or with `--once` those that are there.

    Raises:
        InputError: bad settings, an extra that is not installed, or credentials that the archive refuses.
        RunError: with `--once`, an archive that cannot be reached; the ledger has what was done before.
    """
    _check(settings)
    model = load_model(Path(settings.model), settings.jobs)
    algorithm = algorithm_of(model)
    files.check_place(settings.ledger)
    settings.ledger.parent.mkdir(parents=True, exist_ok=True)
    if settings.dead is not None:  # beside a `pacs` that runs, too
        with closing(Ledger(settings.ledger, algorithm.version)) as ledger:
            return _dead(ledger, settings.dead)
    busy = InputError(f"Another `mococxr pacs` works with {settings.ledger}.", "Stop it, or name another --ledger.")
    lock = settings.ledger.with_name(f"{settings.ledger.name}.lock")
    with files.lock(lock, busy), closing(Ledger(settings.ledger, algorithm.version)) as ledger:
        archive: Archive | Peer = (
            Peer(settings)
            if settings.dicomweb is None
            else Archive(settings.dicomweb, settings.credentials, settings.ca)
        )
        worker = Worker(archive, ledger, model, settings)
        worker.spool.recover(ledger)
        ledger.introduce(algorithm.name, reference_of(model))
        with _stop_signal() as stopped:
            if settings.once:
                worker.look()
                worker.work_off(float("inf"), stopped)
            else:
                _serve(worker, stopped)
        outcome = Outcome(ledger.counts())
    console.say(f"{outcome.in_words}: {settings.ledger}")
    return outcome


def _check(settings: PacsSettings) -> None:
    if settings.dead is None:
        _check_ways(settings)
    start_of(settings.since)
    for library in ("highdicom", "dicomweb_client", "pynetdicom"):
        if importlib.util.find_spec(library) is None:
            raise InputError(
                f"`mococxr pacs` needs the extra pacs ({library} is not installed).", "Run: pip install 'mococxr[pacs]'"
            )


def _check_ways(settings: PacsSettings) -> None:
    """Refuse settings by which no image can come or no report can go."""
    if (settings.dicomweb is None) == (settings.send_to is None):
        problem = "No archive is named." if settings.dicomweb is None else "Reports have two ways to go."
        raise InputError(
            problem, "Give its DICOMweb service (--dicomweb https://HOST/dicom-web), or --send-to AE@HOST:PORT."
        )
    if settings.send_to is not None and settings.listen is None:
        raise InputError("No image can come: --send-to only sends.", "Take them by C-STORE: --listen AE:PORT.")
    if settings.listen is not None and (settings.once or settings.study):
        raise InputError("--listen waits for images that are sent.", "Leave --once and --study out.")


def start_of(since: str) -> datetime.date | None:
    """The first day of `--since`: `2d`, `1w`, or None for `all`."""
    match = re.fullmatch(r"(\d{1,5})([dw])", since.strip().lower())
    if since.strip().lower() == "all":
        return None
    if match is None:
        raise InputError(f"--since {since} is no time.", "Write days (2d), weeks (1w) or all.")
    return datetime.date.today() - datetime.timedelta(days=int(match[1]) * (7 if match[2] == "w" else 1))


def _dead(ledger: Ledger, what: str) -> Outcome:
    """List the dead letters, drop them, or let them wait again."""
    letters = ledger.dead()
    if what == "drop":
        console.say(f"{ledger.drop():,} dead letters dropped.")
    elif what == "retry":
        console.say(f"{ledger.revive():,} dead letters wait to be tried again.")
    elif letters:
        text = io.StringIO()
        table = csv.DictWriter(text, list(letters[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(letters)
        console.result(text.getvalue().rstrip("\n"))
    return Outcome(ledger.counts())


def _serve(worker: Worker, stopped: threading.Event) -> None:
    """Work until told to stop; an archive that is away is said once, and tried ever less often."""
    settings = worker.settings
    arrived = threading.Event()
    listener = Listener(settings, worker.algorithm.version, worker.spool, arrived) if settings.listen else None
    if listener is not None:
        console.say(f"Taking images at {settings.listen} from {', '.join(settings.allow)}.")
    pause, away = settings.every, False
    try:
        while not stopped.is_set():
            arrived.clear()
            try:
                if listener is None:
                    worker.look()
                worker.work_off(None, stopped)
                if away:
                    console.say("The archive is back.")
                pause, away = settings.every, False
            except Unreachable as error:
                if not away:
                    console.warn(f"{error}\n  Trying again until it answers.")
                pause, away = min(2 * pause, LONGEST_PAUSE), True
            _wait(pause, stopped, arrived)
    finally:
        if listener is not None:
            listener.close()


def _wait(pause: float, stopped: threading.Event, arrived: threading.Event) -> None:
    """Wait until there is something to do."""
    end = time.monotonic() + pause
    while not (stopped.is_set() or arrived.wait(0.2)) and time.monotonic() < end:
        pass


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the image at hand is finished; Ctrl-C ends at once, which loses nothing."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)


class Worker:
    """Takes images from the archive to their reports.

    Args:
        archive: where images come from and reports go to.
        ledger: what was done.
        model: the classifier.
        settings: of the command.
        clock: gives the time, in seconds.
    """

    def __init__(
        self,
        archive: Archive | Peer,
        ledger: Ledger,
        model: Model,
        settings: PacsSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.archive, self.ledger, self.model, self.settings, self.clock = archive, ledger, model, settings, clock
        self.algorithm, self.spool = algorithm_of(model), Spool(settings.ledger)

    def look(self) -> None:
        """Enter what the archive has and the ledger has not."""
        assert not isinstance(self.archive, Peer)
        since = start_of(self.settings.since)
        for study in self.archive.studies(since, self.settings.study):
            if self.ledger.is_new(study.uid, study.objects):
                self.ledger.add(self.archive.images(study.uid))
                self.ledger.looked(study.uid, study.objects)

    def work_off(self, now: float | None, stopped: threading.Event) -> None:
        """Work on whatever is due, each image once.

        Args:
            now: the time until which images are due; None takes the clock's, infinity all that wait.
            stopped: ends it between two images.
        """
        done: set[int] = set()
        while not stopped.is_set():
            entry = self.ledger.next_due(self.clock() if now is None else now, done)
            if entry is None:
                return
            done.add(entry.number)
            self.work_on(entry)

    def work_on(self, entry: Entry) -> None:
        """One image: to its report, or to the reason why it has none."""
        if entry.tries >= self.settings.tries:  # a try that failed would have been counted as such
            self._end(entry, DEAD, "each try ended this process")
            return
        self.ledger.begin(entry)
        try:
            words = self._report(entry)
        except (Unreachable, InputError):
            self.ledger.undo_begin(entry)
            raise
        except Missing:
            self._end(entry, GONE, "no longer in the archive")
        except ImageError as error:
            self._end(entry, DECLINED, str(error))
        except Exception as error:  # whatever it is, the other images have their turn
            reason = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
            dead = self.ledger.failed(entry, reason, self.settings.tries, self.clock())
            console.warn(
                f"image {entry.number}: {reason}; " + ("it is a dead letter now" if dead else "tried again later")
            )
        else:
            self._end(entry, REPORTED, None, words)

    def _end(self, entry: Entry, state: str, reason: str | None, words: str = "") -> None:
        self.ledger.end(entry, state, reason)
        if entry.file and state != DEAD:
            self.spool.drop(entry.file)
        console.say(f"image {entry.number}: {state}, {reason or words}")

    def _report(self, entry: Entry) -> str:
        """Fetch, decide, score, store; returns the findings in words."""
        from mococxr.gateway.structured_report import Report, read_head, structured_report

        data = self.spool.read(entry.file) if entry.file else self.archive.fetch(entry)
        facts = header(data)
        head = read_head(data)
        reason = reason_against(facts, head, self.model.reading.any_body_part)
        if reason not in (None, VIEW_UNKNOWN):
            raise ImageError(reason)
        if facts.sop != entry.image:
            raise ImageError("the archive gives another image under its UID")
        if entry.state == WAITING:
            answer = answer_of(self.model, data)
            if reason and answer.view != FRONT:
                raise ImageError(reason)
            device = " ".join(filter(None, (facts.manufacturer, facts.model))) or None
            view = facts.view or answer.view
            self.ledger.scored(entry, Scored(now_text(), view, device, answer.warning, answer.findings))
        at, warning = self.ledger.scored_at(entry)
        report = Report(head, self.algorithm, self.ledger.findings(entry), at, warning)
        self.archive.keep(structured_report(report))
        if self.settings.capture:
            self._capture(report, data)
        return "; ".join(finding.in_words for finding in report.findings)

    def _capture(self, report: Any, data: bytes) -> None:
        from mococxr.gateway.capture import secondary_capture

        self.archive.keep(secondary_capture(report, decode_image(data, self.model.reading)))
