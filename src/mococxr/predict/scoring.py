"""`predict`: a MODEL and films, from files, folders or a store -> a table of scores."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import journal
from mococxr.config import PredictSettings
from mococxr.encode import pick_device
from mococxr.errors import FilmError, InputError
from mococxr.files import check_place, write_csv
from mococxr.films import SUFFIXES, read_film
from mococxr.predict.fitting import set_threads
from mococxr.predict.model import Model, load_model
from mococxr.store import Store

BLOCK = 256
"""Films decoded before they are encoded."""


def run_predict(settings: PredictSettings) -> Path:
    """The command `predict`: `path, patient, study, score` of every film that can be read.

    Films that cannot are listed in `<out>.quarantine.csv`; their number is the last thing said.

    Raises:
        InputError: no model, no film, or nothing there by a name given; nothing was written.
    """
    set_threads(settings.jobs)
    check_place(settings.out)
    model, device = load_model(Path(settings.model)), pick_device(settings.device)
    films = [film for path in settings.films for film in _films(Path(path), model)]
    if not films:
        raise InputError("There is no film to score.", f"A folder is searched for {', '.join(SUFFIXES)}.")
    rows, lost = [], []
    with journal.progress("predict", len(films)) as bar:
        for start in range(0, len(films), BLOCK):
            good, frames = [], []
            for film in films[start : start + BLOCK]:
                try:
                    frames.append(model.frame_of(film.read()))
                    good.append(film)
                except FilmError as error:
                    lost.append({"path": film.path, "reason": str(error)})
            scores = model.scores(frames, device)
            rows += [(f.path, f.patient, f.study, s) for f, s in zip(good, scores.tolist(), strict=True)]
            bar.advance(len(films[start : start + BLOCK]))
    out = Path(settings.out)
    schema = {"path": pl.String, "patient": pl.String, "study": pl.String, "score": pl.Float64}
    write_csv(out, pl.DataFrame(rows, schema=schema, orient="row"))
    _write_quarantine(out.with_name(f"{out.name}.quarantine.csv"), lost)
    journal.say(f"{len(rows):,} films scored for {model.about['target']}: {out}")
    if lost:
        journal.say(f"{len(lost):,} films could not be read: {out}.quarantine.csv says why.")
    return out


def _write_quarantine(path: Path, lost: list[dict[str, str]]) -> None:
    """The films that could not be read; where all could, a list left by an earlier run goes."""
    if lost:
        write_csv(path, pl.DataFrame(lost))
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Film:
    """One film to score: a file, or row `row` of a store."""

    path: str
    depth: str = "full"
    patient: str | None = None
    study: str | None = None
    store: Store | None = None
    row: int = 0

    def read(self) -> NDArray[np.uint8]:
        """Its pixels (H, W) uint8; FilmError where it cannot be read."""
        return (
            self.store.pixels(self.row) if self.store else read_film(Path(self.path), sixteen_bit=self.depth)
        )


def _films(path: Path, model: Model) -> Iterator[Film]:
    """The films by one name: a store's in row order, a folder's (with its subfolders) in natural order."""
    depth = model.about["preprocessing"]["depth"]
    if (path / "manifest.json").is_file():
        store = Store.open(path)
        rows = store.index.select("path", "patient", "study").rows()
        yield from (Film(p, depth, patient, study, store, i) for i, (p, patient, study) in enumerate(rows))
    elif path.is_dir():
        found = [Path(top) / name for top, _, names in os.walk(path, onerror=_refuse) for name in names]
        kept = [file for file in found if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
        yield from (Film(str(file), depth) for file in sorted(kept, key=_natural))
    elif path.exists():
        yield Film(str(path), depth)
    else:
        raise InputError(f"There is nothing at {path}.", "Name film files, folders of films, or a store.")


def _refuse(error: OSError) -> None:
    raise InputError(f"Cannot read the folder {error.filename}: {error.strerror}.", "Check its permissions.")


def _natural(path: Path) -> list[tuple[int, str]]:
    """`film-9` before `film-10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]
