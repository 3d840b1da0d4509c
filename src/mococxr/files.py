"""Files written whole or not at all, and read with an error that names them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mococxr import console
from mococxr.errors import InputError, RunError, Shown

if TYPE_CHECKING:
    import polars as pl


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No room on the disk, none left in the quota, over the largest file allowed."""


@contextmanager
def atomic(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`, on failure it is gone.

    Args:
        path: the file to be.
        mode: its permissions; until it is in place only its owner may read it.

    Raises:
        InputError: the folder cannot be written to, or `path` is one.
        RunError: the disk is full.
    """
    path = Path(path)
    check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # beside the file: a rename is atomic within one file system only
        # hidden, so that no search takes it for a file
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise InputError(
            "Cannot write {path}: {reason}.",
            "Name another place, or free this one.",
            path=Shown(path),
            reason=Shown(error.strerror),
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.chmod(mode)  # mkstemp makes it for its owner alone
        os.replace(temporary, path)
    except Exception as error:
        if not _no_room(error):
            raise
        raise RunError(
            f"No room left on the disk to write {path}.\n  Free some and run the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Refuse, before the work is done, a place where no file can be written.

    Raises:
        InputError: `path` is a folder, or the folder that it would lie in is none or is closed.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError("{path} is a folder, not a file.", "Name a file in it, or another place.", path=Shown(path))
    above = next((parent for parent in path.parents if parent.exists()), Path())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "may not be written to" if above.is_dir() else "is not a folder"
        raise InputError(
            "Cannot write {path}: {above} {why}.",
            "Name another place, or free this one.",
            path=Shown(path),
            above=Shown(above),
            why=Shown(why),
        )


def claim(out: Path, marker: str = "", what: str = "", way_out: str = "Name another --out.") -> None:
    """Refuse, before the work is done, an output folder that holds something else.

    Args:
        marker: the file by which an earlier result of the same command is known; without one nothing may be there.
        what: such a result in words, e.g. `a store`.

    Raises:
        InputError: the folder cannot be written to, or holds something else.
    """
    out = Path(out)
    check_place(out / (marker or "settings.yaml"))
    # the lock may be the asking run's own
    if out.is_dir() and {path.name for path in out.iterdir()} - {LOCK} and not (marker and (out / marker).is_file()):
        problem = "{out} is not {what}, and is not empty." if what else "{out} is not empty."
        raise InputError(problem, way_out, out=Shown(out), what=Shown(what))


LOCK = ".lock"
"""The file in an output folder that is locked while a run works there."""


def lock(path: Path, busy: InputError | None = None) -> BinaryIO:
    """Hold a lock until the file that is returned is closed, or until this process ends, however it ends.

    Args:
        path: a file of its own for the lock, made where it is not there.
        busy: raised where another process holds it; None waits for it.
    """
    import fcntl

    # a file that names a process would outlive one that was killed; and NFS locks only what is open for writing
    mode = os.O_RDONLY if path.is_file() and not os.access(path, os.W_OK) else os.O_RDWR | os.O_CREAT
    handle = os.fdopen(os.open(path, mode, 0o644), "rb")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
    except BlockingIOError:
        handle.close()
        assert busy is not None
        raise busy from None
    except OSError as error:
        console.warn(f"{path.parent} is on a disk without locks ({error.strerror}): let no other run work there.")
    return handle


def _no_room(error: Exception) -> bool:
    """Whether a library's error means a full disk; PyTorch says only that less was written than it gave."""
    text = str(error)
    worded = any(f"os error {number})" in text for number in _FULL) or "unexpected pos" in text
    return worded or (isinstance(error, OSError) and error.errno in _FULL)


def flush_to_disk(path: Path) -> None:
    """Force the bytes of a file out, or of a folder the names, so that a power cut finds them."""
    handle = os.open(path, os.O_RDONLY)  # whoever wrote it has closed it
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write `data` to `path` whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented, keys in the order given. NaN is refused: JSON has none."""
    atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: the file is absent or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "Cannot read {path}: {reason}.", "Check the path.", path=path, reason=Shown(error.strerror)
        ) from error
    except (ValueError, RecursionError) as error:  # the second where it is nested too deep
        raise InputError(
            "{path} is not JSON: {reason}.", "Make the folder again, or restore the file.", path=path, reason=error
        ) from error


def write_csv(path: Path, frame: pl.DataFrame) -> None:
    """Write a table as CSV; numbers keep full precision."""
    with atomic(path) as temporary:
        frame.write_csv(temporary)


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a table as Parquet."""
    with atomic(path) as temporary:
        frame.write_parquet(temporary, statistics=True)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
