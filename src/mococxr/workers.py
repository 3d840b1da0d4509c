"""Processes for work on many files: started fresh, one thread each, and gone when their parent is."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from mococxr.errors import RunError

KEPT_BYTES = 256 << 20
"""Free memory up to which a decoding process keeps it."""
CRASHED = "the decoder crashed on it"
"""Why a file is left out whose process died, also when it had one to itself."""
IMAGE_SECONDS = 180.0
"""What an image may take to be read and decoded: eight times what the largest that are read take on one slow core."""
TOO_SLOW = "reading and decoding it took too long"
"""Why a file is left out whose process was ended by a `Deadline`."""
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def cores() -> int:
    """The cores this process may use, where the system says; else those there are."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def surviving_map(
    work: Callable[[Item], Answer],
    items: Iterable[Item],
    jobs: int,
    *,
    ordered: bool = False,
    died: Callable[[Item], Answer] | None = None,
    setup: Callable[[], object] | None = None,
) -> Generator[tuple[int, Answer]]:
    """`(i, work(item))` of each item, by `jobs` processes; a process that dies costs no item but the one it died of.

    Items in work when a process dies (a crash in native code, no memory) are done again, each in a process of its
    own; only one whose process dies then as well is blamed. So `work` may be done twice.

    Args:
        work: a function that can be pickled, as can the items and the answers.
        ordered: answers come in the order of the items, else as they are ready.
        died: gives the answer of an item that was blamed; None ends the run.
        setup: called in each new process.

    Raises:
        RunError: processes cannot be started, or one died and `died` is None.
    """
    waiting = deque(enumerate(items))
    while waiting:
        running: dict[Future[Answer], tuple[int, Item]] = {}
        with process_pool(min(jobs, len(waiting)), setup) as pool:
            try:
                while waiting or running:
                    # twice as many, so that no process waits for the parent's next word
                    while waiting and len(running) < 2 * jobs:
                        running[pool.submit(work, waiting[0][1])] = waiting[0]
                        waiting.popleft()
                    ended = [next(iter(running))] if ordered else wait(running, None, FIRST_COMPLETED).done
                    for future in ended:
                        answer = future.result()
                        yield running.pop(future)[0], answer
            except BrokenProcessPool:
                pass  # any of `running` may be the cause: each is tried alone below
            finally:
                pool.shutdown(cancel_futures=True)
        for number, item in running.values():
            yield number, _alone(work, item, died or _give_up, setup)


def _alone(
    work: Callable[[Item], Answer], item: Item, died: Callable[[Item], Answer], setup: Callable[[], object] | None
) -> Answer:
    with process_pool(1, setup) as pool:
        try:
            return pool.submit(work, item).result()
        except BrokenProcessPool:
            pass
    return died(item)


def _give_up(_: object) -> NoReturn:
    raise RunError(
        "A worker process died twice on the same task.\n"
        "  Memory may be short: run the same command again with --jobs 1; what is done is kept."
    )


@dataclass(frozen=True)
class Deadline:
    """A limit of time for each of several items that one process works on in turn.

    Native code that hangs cannot be stopped, so the whole process ends. The log names the item; whoever does the work again
    reads it there, and leaves the item out.

    Args:
        log: a file that need not be there, on a file system that every process sees.
        seconds: for each item.
    """

    log: Path
    seconds: float = IMAGE_SECONDS

    @contextmanager
    def over(self, number: int) -> Iterator[None]:
        """End this process where the block, about the item of this number, takes longer."""
        with open(self.log, "ab", buffering=0) as log:
            log.write(b"%d\n" % number)  # unbuffered, so that it is there when the process ends
            # a thread of C: one of Python would wait for native code that does not let go of the interpreter
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=log)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()

    def exceeded(self) -> set[int]:
        """The numbers of the items on which a process was ended."""
        numbers, latest = set(), None
        for line in self.log.read_text(errors="replace").splitlines() if self.log.exists() else ():
            if line.isdecimal():
                latest = int(line)
            elif line.startswith("Timeout") and latest is not None:  # faulthandler's first word
                numbers.add(latest)
        return numbers


def process_pool(jobs: int, setup: Callable[[], object] | None = None) -> ProcessPoolExecutor:
    """Fresh processes that answer.

    Raises:
        RunError: they cannot be started.
    """
    context = multiprocessing.get_context("spawn")  # a fork copies locks that threads of polars or OpenCV may hold
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_init_worker, initargs=(setup,))
    # Python forbids a daemon children, since they would outlive it: these end with their parent
    state = getattr(multiprocessing.current_process(), "_config", {})
    daemon = state.pop("daemon", None)
    try:
        for _ in range(jobs):  # start them all now: CPython does not see one die that it started after its last look
            pool.submit(os.getpid)
        pool.submit(os.getpid).result()
    except (BrokenProcessPool, OSError) as error:
        pool.shutdown()
        raise RunError(
            f"Worker processes cannot be started: {error}\n"
            '  In a Python script, put the work under `if __name__ == "__main__":`.'
        ) from error
    finally:
        if daemon is not None:
            state["daemon"] = daemon
    return pool


def _init_worker(setup: Callable[[], object] | None) -> None:
    """In a new process: quiet, deaf to Ctrl-C (the parent stops it), and gone when the parent is."""
    configure_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:  # a parent killed outright cannot stop its children
        threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    if setup is not None:
        setup()


def _exit_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)  # sys.exit would end this thread alone


def configure_process() -> None:
    """One thread, memory that is kept, and no log line of a library: its warnings may quote an image's header."""
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
    except (AttributeError, OSError, TypeError):  # musl and macOS have no mallopt
        return
    mallopt(_TRIM_THRESHOLD, most)  # bytes at the end of the heap that are kept; -1 keeps all
    mallopt(_MMAP_MAX, 0)  # blocks got by mmap go back to the system at each free, whatever the threshold


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
