"""`predict`: a MODEL and films, from files, folders or a store -> a table of scores."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import polars as pl

from mococxr import journal
from mococxr.config import PredictSettings
from mococxr.encode import pick_device
from mococxr.errors import FilmError, InputError
from mococxr.files import check_place, write_csv
from mococxr.films import SUFFIXES
from mococxr.predict.fitting import set_threads
from mococxr.predict.model import Model, load_model
from mococxr.predict.sources import Film, films_of, quarantined
from mococxr.pseudonyms import Key, discreet_errors

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
    model = load_model(Path(settings.model))
    key = None if settings.key is None else Key.open(settings.key)
    films = [film for path in settings.films for film in films_of(Path(path), key)]
    if not films:
        raise InputError("There is no film to score.", f"A folder is searched for {', '.join(SUFFIXES)}.")
    if key is not None:
        key.keep()
    with nullcontext() if key is None else discreet_errors():
        rows, lost = _scored(model, films, settings, key)
    out = Path(settings.out)
    schema = {"path": pl.String, "patient": pl.String, "study": pl.String, "score": pl.Float64}
    write_csv(out, pl.DataFrame(rows, schema=schema, orient="row"))
    _write_quarantine(out.with_name(f"{out.name}.quarantine.csv"), lost)
    journal.say(f"{len(rows):,} films scored for {model.about['target']}: {out}")
    if lost:
        journal.say(f"{len(lost):,} films could not be read: {out}.quarantine.csv says why.")
    return out


def _scored(
    model: Model, films: list[Film], settings: PredictSettings, key: Key | None
) -> tuple[list[tuple[str, str | None, str | None, float]], list[dict[str, str]]]:
    """`path, patient, study, score` of the films that can be read, and the list of the others."""
    device, reading = pick_device(settings.device), model.reading
    rows: list[tuple[str, str | None, str | None, float]] = []
    lost = []
    with journal.progress("predict", len(films)) as bar:
        for start in range(0, len(films), BLOCK):
            good, frames = [], []
            for film in films[start : start + BLOCK]:
                try:
                    pixels, named = film.read(reading, key)
                    frames.append(model.frame_of(pixels))
                    good.append(named)
                except FilmError as error:
                    lost.append(quarantined(film, error, key))
            scores = model.scores(frames, device)
            rows += [(f.path, f.patient, f.study, s) for f, s in zip(good, scores.tolist(), strict=True)]
            bar.advance(len(films[start : start + BLOCK]))
    return rows, lost


def _write_quarantine(path: Path, lost: list[dict[str, str]]) -> None:
    """The films that could not be read; where all could, a list left by an earlier run goes."""
    if lost:
        write_csv(path, pl.DataFrame(lost))
    else:
        path.unlink(missing_ok=True)
