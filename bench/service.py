"""`mococxr serve` under load: images a second, waiting times, memory, and what it refuses; on demand.

    python bench/service.py [--requests 2000] [--clients 32] [--cores 0 1] [--model MODEL]

The service runs in a process of its own, on the cores named, on a classifier of mococxr-lite0 at 96 px with random labels
(or MODEL). Clients are threads here, each with a connection that stays open: PNG, JPEG and DICOM of 1,024 x 900 px, mostly
one image a request, one in ten a form of three, and one in twenty a bad one (no image, a cut-off file, a decompression bomb,
a broken form, an empty body, a wrong token). Memory is the proportional set size of the service with its processes, before
and after, once a tenth of the requests has warmed it up. Then a body of 300 MB, a bomb, a request without a token, and
SIGTERM amid 16 requests. The bars: 20 images a second, 2 s at the 99th percentile, 50 MB more at the most, no 500.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from archive_images import grey_image, image

SIDE = (1024, 900)
TOKEN = "the-token-of-this-benchmark"
BARS = {"rate": 20.0, "p99": 2.0, "memory": 50.0}


def make_model(folder: Path) -> Path:
    """A classifier of the published encoder, on drawn images with random labels."""
    import polars as pl

    import mococxr

    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    rows = []
    for i in range(200):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), grey_image(rng, 256, 224))
        rows.append({"path": f"{i}.png", "patient": f"P{i}", "Finding": i % 2})
    pl.DataFrame(rows).write_csv(folder / "images" / "labels.csv")
    mococxr.prepare(folder / "images", out=folder / "store", size=256, label="Finding", jobs=1)
    mococxr.fit(
        folder / "store", encoder="mococxr-lite0@96", target="Finding", out=folder / "model", device="cpu", jobs=1
    )
    return folder / "model"


def good_images() -> list[bytes]:
    """A few images in each of three formats."""
    rng = np.random.default_rng(1)
    images = []
    for i in range(4):
        grey = grey_image(rng, *SIDE)
        pixels = np.clip(grey + rng.normal(0, 3, grey.shape), 0, 255).astype(np.uint8)
        images += [bytes(cv2.imencode(kind, pixels)[1]) for kind in (".png", ".jpg")]
        file = io.BytesIO()
        image(grey, patient=f"P{i}", study=f"1.2.{i}", sop=f"1.3.{i}").save_as(file, enforce_file_format=True)
        images.append(file.getvalue())
    return images


def bomb() -> bytes:
    """A PNG of few bytes that says it has 1.6 billion pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(40_001 * 1000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class Sent:
    """A request, and how it has to be answered."""

    body: bytes
    images: int
    status: int
    kind: str = "application/octet-stream"
    token: str = TOKEN


def form(images: list[bytes]) -> Sent:
    parts = [b'--b\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n' + data for data in images]
    return Sent(b"\r\n".join(parts) + b"\r\n--b--\r\n", len(images), 200, "multipart/form-data; boundary=b")


def requests(count: int, seed: int) -> list[Sent]:
    """A mix, always the same for a seed."""
    good, random = good_images(), Random(seed)
    whole = form(good[:3])
    bad = [
        Sent(b"not an image at all", 0, 422), Sent(good[0][: len(good[0]) // 2], 0, 422), Sent(bomb(), 0, 422),
        Sent(whole.body[:-30], 0, 400, whole.kind), Sent(b"", 0, 400), Sent(good[0], 0, 401, token="x" * 27),
    ]  # fmt: skip
    mix = []
    for i in range(count):
        if i % 20 == 19:
            mix.append(bad[(i // 20) % len(bad)])
        elif i % 10 == 4:
            mix.append(form(random.sample(good, 3)))
        else:
            mix.append(Sent(random.choice(good), 1, 200))
    return mix


@dataclass(frozen=True)
class Answered:
    sent: Sent
    status: int
    seconds: float


class Client(threading.local):
    """A connection of each thread."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def send(self, sent: Sent) -> Answered:
        begun = time.perf_counter()
        headers = {"Content-Type": sent.kind, "Authorization": f"Bearer {sent.token}"}
        try:
            self.connection.request("POST", "/predict", sent.body, headers)
            response = self.connection.getresponse()
            response.read()
        except http.client.RemoteDisconnected:  # it had closed the connection while it was idle
            self.connection.close()
            return self.send(sent)
        return Answered(sent, response.status, time.perf_counter() - begun)


class Service:
    """`mococxr serve` in a process of its own."""

    def __init__(self, model: Path, cores: list[int], log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "mococxr", "serve", str(model), "--port", "0", "--jobs", str(len(cores))]
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
        variables = {name: value for name, value in os.environ.items() if name not in threads}
        self.process = subprocess.Popen(
            command, stderr=log.open("wb"), env=variables | {"MOCOCXR_TOKEN": TOKEN},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
        self.port = self._wait()

    def _wait(self) -> int:
        for _ in range(1200):
            time.sleep(0.1)
            named = re.search(r"http://127\.0\.0\.1:(\d+)", self.log.read_text())
            if named and self._answers(int(named[1])):
                return int(named[1])
            assert self.process.poll() is None, self.log.read_text()
        raise TimeoutError("the service did not start")

    def _answers(self, port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def processes(self) -> list[int]:
        """Its own number and those of its children."""
        every = [self.process.pid]
        for parent in every:
            tasks = Path(f"/proc/{parent}/task")
            every += [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        return every

    def memory(self) -> float:
        """Proportional set size of all its processes, MB."""
        kilobytes = 0
        for process in self.processes():
            rolled = Path(f"/proc/{process}/smaps_rollup").read_text()
            kilobytes += int(re.search(r"^Pss:\s+(\d+)", rolled, re.M)[1])  # type: ignore[index]
        return kilobytes / 1000

    def seconds(self) -> float:
        """Processor time of all its processes."""
        ticks = 0
        for process in self.processes():
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def load(service: Service, mix: list[Sent], clients: int) -> dict[str, Any]:
    """Send all of it, and what came of it."""
    client = Client(service.port)
    memory, peak, over = service.memory(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.5):
            peak = max(peak, service.memory())

    watching = threading.Thread(target=watch)
    watching.start()
    used, begun = service.seconds(), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(client.send, mix))
    wall, used = time.perf_counter() - begun, service.seconds() - used
    over.set()
    watching.join()
    images = sum(answer.sent.images for answer in answers if answer.status == 200)
    waits = sorted(answer.seconds for answer in answers if answer.status == 200)
    return {
        "requests": len(mix), "clients": clients, "images": images, "seconds": round(wall, 1),
        "images_per_s": round(images / wall, 1), "processor_ms_per_image": round(1000 * used / images, 1),
        "images_per_core_s": round(images / used, 1),
        "p50": round(statistics.median(waits), 3), "p99": round(waits[int(0.99 * len(waits))], 3),
        "statuses": dict(sorted(Counter(answer.status for answer in answers).items())),
        "otherwise": sum(answer.status != answer.sent.status for answer in answers),
        "memory_mb": round(memory), "memory_more_mb": round(service.memory() - memory, 1),
        "memory_peak_more_mb": round(peak - memory, 1),
    }  # fmt: skip


def refusals(service: Service) -> dict[str, int]:
    """Status of what has to be refused; a body of 300 MB is announced, and sent without saying so."""
    client = Client(service.port)
    large = bytes(300_000_000)
    answers = {"bomb": client.send(Sent(bomb(), 0, 422)).status, "300 MB": client.send(Sent(large, 0, 413)).status}
    client.connection.close()
    chunks = (large[:1_000_000] for _ in range(300))
    client.connection.request("POST", "/predict", chunks, {"Authorization": f"Bearer {TOKEN}"}, encode_chunked=True)
    answers["300 MB, unannounced"] = client.connection.getresponse().status
    client.connection.close()
    client.connection.request("POST", "/predict", b"")
    answers["no token"] = client.connection.getresponse().status
    client.connection.close()
    return answers


def stop(service: Service) -> dict[str, Any]:
    """SIGTERM while requests wait: all that were taken in are answered."""
    client, mix = Client(service.port), [form(good_images()[:3]) for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(client.send, sent) for sent in mix]
        time.sleep(0.15)
        service.process.terminate()
        statuses = Counter(
            "not connected" if isinstance(future.exception(), OSError) else str(future.result().status)
            for future in waiting
        )
    return {"statuses": dict(statuses), "exit_status": service.process.wait(60)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--cores", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--model", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = asked.model or make_model(Path(scratch))
        service = Service(model, asked.cores, Path(scratch) / "log")
        try:
            load(service, requests(asked.requests // 10, 1), asked.clients)
            facts = load(service, requests(asked.requests, 2), asked.clients)
            facts["refused"] = refusals(service)
            facts["stop"] = stop(service)
        finally:
            service.process.kill()
            facts_of_log = (Path(scratch) / "log").read_text()
    facts["unexpected_in_log"] = facts_of_log.count("unexpected")
    met = {
        "rate": facts["images_per_s"] >= BARS["rate"], "p99": facts["p99"] <= BARS["p99"],
        "memory": facts["memory_more_mb"] <= BARS["memory"], "no 500": 500 not in facts["statuses"],
    }  # fmt: skip
    print(json.dumps(facts | {"met": met}, indent=2))
    return int(not all(met.values()))


if __name__ == "__main__":
    sys.exit(main())
