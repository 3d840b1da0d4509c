"""Settings of `pacs` and `drift`: a model beside an archive, and how it fares there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.fields import WithJobs, setting, under

_archive, _receiving, _output, _execution = under("Archive", "Receiving", "Output", "Execution")


@dataclass(frozen=True, kw_only=True)
class PacsSettings(WithJobs):
    """Score new chest X-rays of an archive (PACS) and store each result there as a DICOM structured report.

    Research use only: reports are preliminary and unverified. docs/pacs.md walks through an installation.
    """

    model: Path = setting("Model folder made by `fit`.", positional=True)
    dicomweb: str | None = _archive(
        "Address of the archive's DICOMweb service, e.g. https://pacs.example/dicom-web; without a password in it.",
        None,
    )
    since: str = _archive(
        "Look at studies of so many days (2d) or weeks (1w) back, by study date; all: whatever the date.", "2d"
    )
    study: str | None = _archive("Look at the study with this UID alone, whatever its date.", None)
    credentials: Path | None = _archive(
        "File with USER:PASSWORD, or with a token, on its first line.",
        None,
        shown="MOCOCXR_PACS_USER and MOCOCXR_PACS_PASSWORD, or MOCOCXR_PACS_TOKEN, of the environment",
    )
    ca: Path | None = _archive("Certificates (PEM) of those who signed the archive's own.", None, shown="the system's")
    send_to: str | None = _archive(
        "Send reports by C-STORE instead, to AE@HOST:PORT; where the archive has no DICOMweb.", None
    )
    listen: str | None = _receiving(
        "Take images that are sent here by C-STORE, as AE:PORT or AE@HOST:PORT, and look for none.", None
    )
    allow: tuple[str, ...] = _receiving("AE title that may send (repeatable); all others are turned away.", ())
    cert: Path | None = _receiving("Certificate (PEM) of this side: C-STORE then goes by TLS alone.", None)
    cert_key: Path | None = _receiving("Its private key (PEM).", None, shown="in the file of --cert")
    peer_ca: Path | None = _receiving(
        "Certificates (PEM) of those who signed the other side's, which then has to show one.",
        None,
        shown="not asked for",
    )
    ledger: Path = _output("SQLite file that knows what was done; made where there is none, and kept.")
    capture: bool = _output("Store a picture with the result, too (secondary capture): all viewers show it.", False)
    once: bool = _execution("Look once, do all that is to be done, and end.", False)
    every: float = _execution("Time between two looks.", 30.0, unit="s", low=1)
    tries: int = _execution("How often an image is tried before it goes to the dead letters.", 8, low=1)
    dead: Literal["list", "retry", "drop"] | None = _execution(
        "Dead letters, also of a `pacs` that runs: list them as CSV, let them be tried again, or drop them; and end.",
        None,
    )


@dataclass(frozen=True, kw_only=True)
class DriftSettings:
    """Compare what `pacs` scored, week by week, with the images that the model learned from: scores, views, devices."""

    ledger: Path = setting("Ledger of `pacs`; it may be at work meanwhile.", positional=True)
    out: Path = _output("HTML file to write; the facts stand beside it as JSON.")
