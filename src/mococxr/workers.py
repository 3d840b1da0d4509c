"""Processes for work on many files: started fresh, one thread each, and gone when their parent is."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from mococxr.errors import RunError

KEPT_BYTES = 256 << 20
"""Free memory up to which a decoding process keeps it."""
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)


def cores() -> int:
    """The cores this process may use, where the system says; else those there are."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def pool(jobs: int) -> ProcessPoolExecutor:
    """Fresh processes that answer.

    Raises:
        RunError: they cannot be started.
    """
    context = multiprocessing.get_context("spawn")
    made = ProcessPoolExecutor(jobs, mp_context=context, initializer=begin)
    try:
        made.submit(os.getpid).result()
    except (BrokenProcessPool, OSError) as error:
        made.shutdown()
        raise RunError(
            f"Decoding processes cannot be started: {error}\n"
            '  In a Python script, put the work under `if __name__ == "__main__":`.'
        ) from error
    return made


def begin() -> None:
    """In a new process: quiet, Ctrl-C is the parent's business, and no life without the parent."""
    settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()


def leave_with_parent() -> None:
    """In a new process: stop when the parent is gone; one killed outright cannot stop its children."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def settle() -> None:
    """One thread, memory that is kept, and no word of a library's: its warnings may quote an image's header."""
    import cv2

    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    keep_memory(KEPT_BYTES)


def keep_memory(most: int = -1) -> None:
    """Let glibc keep what this process frees, up to `most` bytes, or all: for work that frees and takes the same again.

    Giving the pages of each image or tensor back and getting them again, cleared, costs up to a fifth. With another C
    library nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_TRIM_THRESHOLD, most)
    mallopt(_MMAP_MAX, 0)


@contextmanager
def opencv_on_one_thread() -> Iterator[None]:
    """For the time OpenCV works on the thread that calls it, in all of this process; afterwards as before.

    Its own threads stay awake for some milliseconds after each view, on cores that the next step then lacks: 4 to 6 %
    of a step of ResNet-18 at 64 px on two cores.
    """
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _leave_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
