"""Fuzzing of `mococxr serve`, on demand: a service in a process of its own is sent changed requests by sockets.

    python fuzz/service.py [SECONDS] [--seed N]

Images of every format with changed bytes, forms whose framing is changed, and requests whose head is: method, path, headers,
lengths that lie, bodies that stop. A status of 500, no answer within a minute, a service that ends, or a name that was
planted in what is sent and stands in the log is a finding, which leaves the request in `fuzz/found/`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
import mococxr
from images import FOUND, SEEDS, change
from small_store import HOW, make_store

TOKEN, PLANTED = "the-token-of-this-fuzzing", b"Zaphod"
CLIENTS = 4
SECONDS = 60.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PATHS = (
    "/predict",
    "/predict",
    "/predict",
    "/health",
    "/model",
    "/metrics",
    "/docs",
    "/enter?token=x",
    "/",
    "/page.js",
    "/..",
    "//",
)
METHODS = ("POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "DELETE", "post", "Zaphod")
HEADERS = (
    "Content-Length: 99999999999999999999", "Content-Length: -1", "Content-Length: 4", "Transfer-Encoding: chunked",
    "Content-Type: multipart/form-data", "Content-Type: multipart/form-data; boundary=",
    "Content-Type: multipart/x; boundary=b",
    f"Content-Type: multipart/form-data; boundary={'b' * 300}", "Content-Type: \xe4",
    "Content-Type: text/html; charset=\xff",
    "Expect: 100-continue", "Host: zaphod.example", "Cookie: session=Zaphod; a", "Authorization: Bearer", "Range: bytes=0-",
    "Authorization: Bearer Zaphod", "Accept: text/html", "Connection: close", "Upgrade: websocket", "Origin: null",
    "X: " + "y" * 9000,
)  # fmt: skip


def form(parts: list[bytes], random: Random) -> tuple[bytes, str]:
    """A form of these files, whose framing is changed at times, and its content type."""
    boundary = random.choice((b"b", b"--", b"a b", b"0" * 70))
    lines = []
    for part in parts:
        name = random.choice(
            (b'name="image"; filename="Zaphod.dcm"', b'name="a"', b"filename=x", b'name="' + b"n" * 300, b"")
        )
        lines.append(b"--" + boundary + b"\r\nContent-Disposition: form-data; " + name + b"\r\n\r\n" + part + b"\r\n")
    body = b"".join(lines) + b"--" + boundary + random.choice((b"--\r\n", b"--", b"\r\n", b""))
    if random.random() < 0.4:
        at = random.randrange(len(body))
        body = (
            body[:at]
            + random.choice((b"\r\n", b"--" + boundary, b"", b"\0", body[at : at + 50]))
            + body[at + random.choice((0, 1, 9)) :]
        )
    return body, f"multipart/form-data; boundary={boundary.decode()}"


def request(pool: list[bytes], random: Random) -> bytes:
    """A whole request as it goes over the wire."""
    image = change(random.choice(pool), pool, random)
    method, path, kind, body = "POST", "/predict", "application/octet-stream", image
    if random.random() < 0.35:
        others = [change(random.choice(pool), pool, random) for _ in range(random.choice((0, 1, 2, 5, 40)))]
        body, kind = form([image, *others], random)
    if random.random() < 0.2:
        method, path = random.choice(METHODS), random.choice(PATHS)
    if random.random() < 0.05:
        path += "?Zaphod=" + "%00" * random.randrange(9)
    headers = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": kind,
        "Content-Length": str(len(body)),
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        lines.insert(random.randrange(1, len(lines) + 1), random.choice(HEADERS))
    if random.random() < 0.1:
        del lines[random.randrange(len(lines))]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if random.random() < 0.05:
        head = change(head, pool, random)
    return head + (body[: random.randrange(len(body) + 1)] if random.random() < 0.05 else body)


def send(port: int, data: bytes) -> str:
    """The status of the answer, `closed` or `silent`; where none comes, the client hangs up after a moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        answer = b""
        with suppress(ConnectionError):
            connection.sendall(data)
            connection.settimeout(0.5)
            with suppress(TimeoutError):
                answer = connection.recv(1 << 16)
            if not answer.removeprefix(CONTINUE):
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(SECONDS)
                try:
                    answer += connection.recv(1 << 16)
                except TimeoutError:
                    return "silent"
    answer = answer.removeprefix(CONTINUE)
    status = re.match(rb"HTTP/1\.1 (\d+)", answer)
    return status[1].decode() if status else "closed"


class Service:
    """The command in a process of its own."""

    def __init__(self, model: Path, log: Path) -> None:
        self.log = log
        command = [
            sys.executable,
            "-m",
            "mococxr",
            "serve",
            str(model),
            "--port",
            "0",
            "--jobs",
            "2",
            "--max-body",
            "2",
        ]
        self.process = subprocess.Popen(
            [*command, "--timeout", "20", "--queue", "40"],
            stderr=log.open("wb"),
            env=os.environ | {"MOCOCXR_TOKEN": TOKEN},
        )
        while not (named := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.1)
        self.port = int(named[1])
        assert send(self.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") == "200"

    def faults(self) -> list[str]:
        """What is wrong with it by itself."""
        text = self.log.read_bytes()
        found = ["it ended"] if self.process.poll() is not None else []
        return found + [
            word for word, mark in (("a name in the log", PLANTED), ("unexpected", b"unexpected")) if mark in text
        ]


def work(service: Service, until: float, seed: int) -> tuple[Counter[str], int]:
    """Send until the time is over; statuses, and the number of findings."""
    random, statuses, findings = Random(seed), Counter[str](), 0
    while time.time() < until and service.process.poll() is None:
        data = request(SEEDS, random)
        try:
            status = send(service.port, data)
        except OSError as error:
            status = type(error).__name__
        statuses[status] += 1
        if not re.fullmatch(r"200|4\d\d|503|closed", status) or service.faults():
            findings += 1
            name = hashlib.sha256(data).hexdigest()[:12]
            (FOUND / f"request-{name}").write_bytes(data)
            print(f"request-{name}: {status} {' '.join(service.faults())}", flush=True)  # noqa: T201
            if service.faults():
                break
    return statuses, findings


def main() -> int:
    """Fuzz for the seconds asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", nargs="?", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), patients=12)
        model = mococxr.fit(store.path, target="Finding", out=Path(folder) / "model", encoder="random", **HOW)
        service = Service(model, Path(folder) / "log")
        try:
            until = time.time() + asked.seconds
            with ThreadPoolExecutor(CLIENTS) as pool:
                parts = list(pool.map(lambda part: work(service, until, asked.seed * CLIENTS + part), range(CLIENTS)))
            ends = send(service.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        finally:
            service.process.terminate()
            status = service.process.wait(60)
            (FOUND / "service.log").write_bytes(service.log.read_bytes())
    statuses, findings = sum((part for part, _ in parts), Counter[str]()), sum(found for _, found in parts)
    print(f"{statuses.total():,} requests, {dict(statuses.most_common())}, {findings} findings")  # noqa: T201
    print(f"then healthy: {ends}; ended by SIGTERM with status {status}")  # noqa: T201
    return int(findings > 0 or ends != "200" or status != 0)


if __name__ == "__main__":
    sys.exit(main())
