"""Commands and Python blocks of pages without the seconds that every new process spends on importing PyTorch.

A server imports the libraries once and forks for each command. `mococxr` and `python` on the runner's PATH are small clients
of it: same folder, same environment, same standard streams, same exit status. A process that a block starts in any other way
is a process like any other.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import stat
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

CLIENT = """#!{python} -ISs
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
words = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(words).to_bytes(8, "big")], [0, 1, 2])
server.sendall(words)
sys.exit(int(server.recv(16) or 1))
"""
LIBRARIES = [
    "accelerate",
    "cv2",
    "matplotlib.backends.backend_svg",
    "onnxruntime",
    "polars",
    "pyarrow.parquet",
    "pydicom",
]
LIBRARIES += ["scipy.stats", "sklearn.linear_model", "timm", "torch", "torchvision", "mococxr.cli", "mococxr.features"]


def write_clients(folder: Path, address: Path) -> None:
    """The programs `mococxr` and `python` in a folder for PATH."""
    folder.mkdir(parents=True)
    for name in ("mococxr", "python"):
        file = folder / name
        file.write_text(CLIENT.format(python=sys.executable, address=str(address)), encoding="utf-8")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)


def serve(address: Path, config_of: Callable[[str], Path | None]) -> NoReturn:
    """Answer clients until this process is ended.

    Args:
        address: of the socket; it is there once the libraries are imported.
        config_of: command -> the file of settings that it takes where its line names none.
    """
    from mococxr.commands import ENTRIES, THEN

    for name in [*LIBRARIES, *(entry.partition(":")[0] for entry in (*ENTRIES.values(), *THEN.values()))]:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a child: it says its status itself
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address.with_suffix(".new")))
    listener.listen(16)
    address.with_suffix(".new").rename(address)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            status = 1
            with contextlib.suppress(BaseException):
                status = _answer(connection, config_of)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            connection.sendall(str(status).encode())
            os._exit(0)
        connection.close()


def _answer(connection: socket.socket, config_of: Callable[[str], Path | None]) -> int:
    """Become the process that a client stands for, and do what it says; its exit status."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    words = b""
    while len(words) < int.from_bytes(size, "big"):
        words += connection.recv(1 << 16)
    arguments, folder, environment = json.loads(words)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    sys.modules["__main__"] = types.ModuleType("__main__")  # as in a notebook: worker processes import none
    program, *rest = arguments
    sys.argv = [program, *rest]
    try:
        if Path(program).name == "mococxr":
            _command(rest, config_of)
        else:
            _python(rest)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _end_with(connection: socket.socket) -> None:
    """End this process when its client is gone, as one that ran too long is."""
    if connection.recv(1) == b"":
        os._exit(1)


def _command(words: list[str], config_of: Callable[[str], Path | None]) -> None:
    from mococxr import cli

    config = config_of(words[0]) if words else None
    if config and not {"--config", "--help", "--resume"} & set(words):
        words = [*words, "--config", str(config)]
    cli.main(words)


def _python(words: list[str]) -> None:
    """`python FILE` and `python -c CODE`; anything else is left to a real interpreter."""
    if words[0] == "-c":
        exec(compile(words[1], "<block>", "exec"), vars(sys.modules["__main__"]))
    elif words[0].endswith(".block.py"):  # of a page: no module that a worker process could import
        code = compile(Path(words[0]).read_text(encoding="utf-8"), words[0], "exec")
        exec(code, vars(sys.modules["__main__"]))
    elif words[0].endswith(".py"):
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
    else:
        os.execv(sys.executable, [sys.executable, *words])
