"""Processes for work on many files: started fresh, one thread each, and gone when their parent is."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from mococxr.errors import RunError

KEPT_BYTES = 256 << 20
"""Free memory up to which a decoding process keeps it."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


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
    """One thread, memory that is kept, and no word of a library's: its warnings may quote a film's header."""
    import cv2

    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    _keep_memory()


def _keep_memory() -> None:
    """Let glibc keep what films free: giving each film's pages back and getting them again costs up to a fifth."""
    try:
        for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(option, KEPT_BYTES)
    except (AttributeError, OSError, TypeError):
        return  # another C library


def _leave_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
