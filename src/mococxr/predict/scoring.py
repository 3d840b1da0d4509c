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
from mococxr.pseudonyms import LOOKUP, Key, discreet_errors

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
    with nullcontext() if key is None else discreet_errors():
        good, scores, bad = _scored(model, films, settings, key)
    if key is not None:
        _keep(key, [*good, *(film for film, _ in bad)])
    out = Path(settings.out)
    schema = {"path": pl.String, "patient": pl.String, "study": pl.String, "score": pl.Float64}
    rows = [(f.path, f.patient, f.study, score) for f, score in zip(good, scores, strict=True)]
    lost = [{"path": film.path, "reason": str(error)} for film, error in bad]
    write_csv(out, pl.DataFrame(rows, schema=schema, orient="row"))
    _write_quarantine(out.with_name(f"{out.name}.quarantine.csv"), lost)
    journal.say(f"{len(rows):,} films scored for {model.about['target']}: {out}")
    if lost:
        films_lost = "1 film" if len(lost) == 1 else f"{len(lost):,} films"
        journal.say(f"{films_lost} could not be read: {out}.quarantine.csv says why.")
    return out


def _scored(
    model: Model, films: list[Film], settings: PredictSettings, key: Key | None
) -> tuple[list[Film], list[float], list[tuple[Film, FilmError]]]:
    """The films that can be read as they are to be named, their scores, and the others with their reasons."""
    device, reading = pick_device(settings.device), model.reading
    read: list[Film] = []
    scored: list[float] = []
    lost = []
    with journal.progress("predict", len(films)) as bar:
        for start in range(0, len(films), BLOCK):
            frames = []
            for film in films[start : start + BLOCK]:
                try:
                    pixels, named = film.read(reading, key)
                    frames.append(model.frame_of(pixels))
                    read.append(named)
                except FilmError as error:
                    lost.append((quarantined(film, key), error))
            scored += model.scores(frames, device).tolist()
            bar.advance(len(films[start : start + BLOCK]))
    return read, scored, lost


def _keep(key: Key, films: list[Film]) -> None:
    """Write the key, if it is new, and what the pseudonyms stand for."""
    if not key.kept:
        journal.warn(
            f"There was no key {key.path}: it was made; its pseudonyms are in no other table or store."
        )
    key.keep()
    rows = [row for film in films if (row := film.resolved()) is not None]
    key.record(pl.DataFrame(rows, schema=dict.fromkeys(LOOKUP, pl.String), orient="row"))
    journal.say(f"{key.lookup} resolves the pseudonyms.")


def _write_quarantine(path: Path, lost: list[dict[str, str]]) -> None:
    """The films that could not be read; where all could, a list left by an earlier run goes."""
    if lost:
        write_csv(path, pl.DataFrame(lost))
    else:
        path.unlink(missing_ok=True)
