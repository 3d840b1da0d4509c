"""The command `annotate`: a list of images -> a page on this machine -> labels in the history of the store."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from contextlib import nullcontext
from pathlib import Path

from mococxr import console, files, web
from mococxr.annotation.desk import Desk, Session, checked_reader
from mococxr.annotation.label_studio import write_tasks
from mococxr.annotation.pictures import Pictures
from mococxr.annotation.worklist import Worklist, items_of, unlabelled
from mococxr.errors import InputError
from mococxr.labelling.state import describe
from mococxr.labelling.table import check_new, read_list
from mococxr.privacy import redacted_errors
from mococxr.settings import AnnotateSettings
from mococxr.store import Store

LOCK = ".annotate.lock"


def run(settings: AnnotateSettings) -> Store:
    """Serve the page until Ctrl-C, or write its list as tasks for another tool.

    Returns:
        The store with the labels that it then has.

    Raises:
        InputError: bad settings, a bad list, a port in use, or another server of this store; nothing was written.
    """
    desk = _desk(settings)
    if settings.tasks is not None:
        write_tasks(list(desk.worklist.items.values()), desk.pictures, settings.target, settings.tasks)
        return desk.pictures.store
    busy = InputError(f"A page of {settings.store} is served already.", "Join it there, under another name.")
    before = Store.open(settings.store).label_events
    with files.lock(settings.store / LOCK, busy), web.listening(web.LOCAL, settings.port) as listener:
        _serve(desk, listener, settings.browser)
    store = Store.open(settings.store)
    console.say(f"Stopped. Label events: {store.label_events - before:,} new, {store.label_events:,} in all.")
    console.result(describe(store, [name for name in settings.target if name in store.labels]))
    return store


def _desk(settings: AnnotateSettings) -> Desk:
    """The list, its answers so far and its images, all checked."""
    store = Store.open(settings.store)
    files.check_place(store.path / LOCK)
    for name in settings.target:
        check_new(name, store, "--target")
    if settings.reader is not None:
        checked_reader(settings.reader)
    with redacted_errors() if store.manifest.get("pseudonyms") else nullcontext():  # a list may name a patient
        listed = read_list(settings.next, store) if settings.next else unlabelled(store, settings.target, settings.seed)
    if not len(listed):
        raise InputError("No image lacks these labels.", "Name the images by --next LIST to look at them again.")
    items = items_of(store, listed)
    pictures = Pictures(store, settings.source, _lookup(settings.store, settings.key))
    with_file = sum(pictures.has_file(item.row) for item in items)
    if settings.source is not None and not with_file:
        raise InputError(
            f"No image of the list lies in {settings.source}.",
            "Name the folder that the paths of the index start from.",
        )
    console.say(f"{len(items):,} images to label, {with_file:,} of them shown from their files, the others as stored.")
    return Desk(Worklist(store.path, items, settings.target), pictures, settings.reader)


def _lookup(store: Path, key: Path | None) -> Path:
    """The table of pseudonyms beside the key; `prepare` puts both beside the store.

    Raises:
        InputError: a key was named that has no table.
    """
    named = key or store.resolve().with_name(f"{store.resolve().name}.key")
    table = named.with_name(f"{named.name}.lookup.csv")
    if key is not None and not table.is_file():
        raise InputError(f"There is no table of pseudonyms at {table}.", "Name the key that `prepare` was given.")
    return table


def _serve(desk: Desk, listener: socket.socket, browser: bool) -> None:
    """Answer requests until Ctrl-C."""
    from mococxr.annotation.server import application

    port, token = listener.getsockname()[1], secrets.token_urlsafe(32)
    app = application(desk, web.Sessions(token, f"mococxr-{port}", Session))
    address = f"http://{web.LOCAL}:{port}/enter?token={token}"
    console.say(f"Open this address on this machine; others may not have it. Ctrl-C ends the server.\n  {address}")
    if browser:
        threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()  # some wait for the browser
    web.serve(app, listener, grace=3, lifespan="off")
