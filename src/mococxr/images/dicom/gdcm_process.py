"""GDCM in a process of its own: on damaged data it ends the process it runs in (an uncaught C++ exception).

Frames go there and samples come back by pipes. The process is started with the first frame that needs it, serves all
later ones, is replaced when it dies, and ends with the process that started it.
"""

from __future__ import annotations

import atexit
import os
import select
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

from mococxr.errors import ImageError
from mococxr.images.raster import caught_stderr, last_line
from mococxr.images.streams import DAMAGED

CRASHED = "the decoder crashed on it"
_SECONDS = 120.0
"""What a frame may take."""
_MEMORY = 8 << 30
"""Bytes of address space of the process."""
_REQUEST = struct.Struct("<6I16s")
_ANSWER = struct.Struct("<?Q")
_guard = threading.Lock()
_server: tuple[int, subprocess.Popen[bytes]] | None = None


def decode(
    frame: bytes, rows: int, columns: int, samples: int, precision: int, lossless: bool, photometric: str
) -> bytes:
    """The samples of a JPEG stream, little endian, 8 or 16 bits each by `precision`.

    Args:
        lossless: JPEG lossless; else JPEG of 12 bits.
        photometric: the photometric interpretation to decode it under.

    Raises:
        ImageError: the decoder refused the data, said that they are damaged, took too long or crashed.
    """
    request = _REQUEST.pack(len(frame), rows, columns, samples, precision, lossless, photometric.encode())
    with _guard:  # one request at a time: answers have no name
        server = _running()
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write(request)
            server.stdin.write(frame)
            server.stdin.flush()
            deadline = time.monotonic() + _SECONDS
            good, length = _ANSWER.unpack(_read(server.stdout, _ANSWER.size, deadline))
            body = _read(server.stdout, length, deadline)
        except (EOFError, OSError) as error:
            _stop()
            raise ImageError(CRASHED) from error
        except TimeoutError as error:
            _stop()
            raise ImageError(f"the decoder took more than {_SECONDS:.0f} seconds") from error
    if not good:
        raise ImageError(body.decode())
    return body


def _read(stream: IO[bytes], size: int, deadline: float) -> bytes:
    """Exactly `size` bytes of a pipe before the deadline."""
    parts = bytearray()
    while len(parts) < size:
        if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(stream.fileno(), min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _running() -> subprocess.Popen[bytes]:
    """The server of this process (a fork has its own)."""
    global _server
    # A fork must not share its parent's pipes.
    if _server is None or _server[0] != os.getpid() or _server[1].poll() is not None:
        _stop()
        command = [sys.executable, "-c", "from mococxr.images.dicom.gdcm_process import serve; serve()"]
        # bufsize=0: `select` does not see what a buffer of Python's holds.
        started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        _server = os.getpid(), started
    return _server[1]


@atexit.register
def _stop() -> None:
    """End the server of this process, if it has one."""
    global _server
    if _server is not None and _server[0] == os.getpid():  # the parent's is not for its fork to end
        process = _server[1]
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
    _server = None


def serve() -> None:
    """Decode what comes by standard input until it ends."""
    with suppress(ImportError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(_REQUEST.size)) == _REQUEST.size:
        size, rows, columns, samples, precision, lossless, name = _REQUEST.unpack(head)
        kind = name.rstrip(b"\0").decode()
        try:
            answer = True, _gdcm(source.read(size), rows, columns, samples, precision, lossless, kind)
        except ImageError as error:
            answer = False, str(error).encode()
        sink.write(_ANSWER.pack(answer[0], len(answer[1])) + answer[1])
        sink.flush()


def _gdcm(
    frame: bytes, rows: int, columns: int, samples: int, precision: int, lossless: int, photometric: str
) -> bytes:
    """One frame by GDCM."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    # Lossless process 14; extended, 12 bits.
    syntax = "1.2.840.10008.1.2.4.57" if lossless else "1.2.840.10008.1.2.4.51"
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    bits = 8 if precision <= 8 else 16
    image.SetPixelFormat(gdcm.PixelFormat(samples, bits, precision, precision - 1, 0))
    with caught_stderr() as messages:
        try:
            raw: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM's bytes come as text with escapes
        except Exception as error:  # what a wrapped C++ library raises is not specified
            raise ImageError(DAMAGED) from error
    message = "".join(messages)
    if "orrupt" in message or "remature" in message:
        raise ImageError(f"{DAMAGED}: {last_line(message)}")
    return raw
