"""Weights that were asked for by name: from the cache where they lie there, else from the network, checked by hash.

Nothing waits for a network that is not there: one short look, then the message says which file to put where.
"""

from __future__ import annotations

import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mococxr.errors import InputError
from mococxr.files import atomic, sha256_file

PATIENCE = 5.0
"""Seconds that a server has to answer at all."""


def hub_file(repository: str, names: Sequence[str]) -> Path:
    """The first of these files that a repository of the Hugging Face hub has, in the hub's own cache.

    Args:
        repository: `OWNER/NAME` or `OWNER/NAME@REVISION`; or a folder on disk that holds such files.
        names: files by preference; what lies in the cache already comes before what must be fetched.

    Raises:
        InputError: none is there, or it is damaged, or there is no network; it says which file to put where.
    """
    if Path(repository).is_dir():
        return _in_folder(Path(repository), names)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    name, _, revision = repository.partition("@")
    try:
        for file in names:
            found = try_to_load_from_cache(name, file, revision=revision or None)
            if isinstance(found, str):
                return _whole(Path(found))
        _check_network(name, names[0])
        for file in names:
            try:
                return _whole(Path(hf_hub_download(name, file, revision=revision or None)))
            except EntryNotFoundError:
                continue
    except HFValidationError as error:
        raise InputError(
            f"The hub has no repository {name!r}.", "Write hf:OWNER/NAME, or hf:FOLDER."
        ) from error
    except InputError:
        raise
    except Exception as error:  # the hub's client raises many kinds: refused, gone, gated, cut off
        raise InputError(
            f"Cannot get {names[0]} of {name} ({type(error).__name__}).", _by_hand(name, names[0])
        ) from error
    raise InputError(f"{name} has none of {', '.join(names)}.", "Name another repository, or a weights file.")


def _in_folder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"{folder} has none of {', '.join(names)}.",
        "Name a folder with config.json, model.safetensors and, for transformers, preprocessor_config.json.",
    )


def _by_hand(repository: str, file: str) -> str:
    from huggingface_hub import constants

    return (
        f"Where there is network, get {constants.ENDPOINT}/{repository}/resolve/main/{file} and the other files "
        f"of that repository; put them in a folder here and name it: hf:FOLDER (or fill {constants.HF_HUB_CACHE})."
    )


def _check_network(repository: str, file: str) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
        raise InputError(
            f"{file} of {repository} is not in the cache, and there is no network.",
            _by_hand(repository, file),
        )


def _whole(path: Path) -> Path:
    """The hub names large files by their SHA-256: a file that has another one is damaged."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and sha256_file(blob) != blob.name:
        raise InputError(
            f"{blob} is damaged: its bytes are not those of its name.", "Delete it and run again."
        )
    return path


def url_file(url: str, folder: Path) -> Path:
    """The file of a web address, fetched once into a folder; a name that ends in `-HASH` is checked.

    Raises:
        InputError: it is not there and cannot be fetched, or it is damaged.
    """
    path = folder / urlsplit(url).path.rsplit("/", 1)[-1]
    if not path.is_file():
        if not reachable(url):
            raise InputError(f"{path.name} is not here, and there is no network.", f"Put {url} at {path}.")
        try:
            _download(url, path)
        except OSError as error:
            raise InputError(f"Cannot get {url} ({error}).", f"Put it at {path}.") from error
    told = re.search(r"-([0-9a-f]{8,64})\.", path.name)
    if told and not sha256_file(path).startswith(told[1]):
        raise InputError(
            f"{path} is damaged: its bytes are not those of its name.", "Delete it and run again."
        )
    return path


def _download(url: str, path: Path) -> None:
    with (
        urllib.request.urlopen(url, timeout=60) as answer,
        atomic(path) as temporary,
        temporary.open("wb") as file,
    ):
        while block := answer.read(1 << 20):
            file.write(block)


def reachable(url: str) -> bool:
    """Whether the server of an address answers at all, whatever it says, within `PATIENCE`."""
    site = "://".join(urlsplit(url)[:2])
    try:
        urllib.request.urlopen(urllib.request.Request(site, method="HEAD"), timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    return True
