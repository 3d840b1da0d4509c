"""Every figure of the table in docs/benchmarks.md, each script in a process of its own: `make bench`.

    python bench/all.py [--rounds 5] [--only views step] [--no-write]

Rows are printed as they come. The table goes between the markers of docs/benchmarks.md with the date and the machine;
with `--only` it is printed and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from mococxr.workers import cores
from ratio import HEAD, Row

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- table: written by bench/all.py -->", "<!-- end of the table -->"
SCRIPTS = ("views", "bootstrap", "evaluate", "lightly_beside", "step", "ranks", "linear_study", "large")
SHOWN = ("torch", "torchvision", "opencv-python-headless", "lightly", "albumentations", "kornia", "scikit-learn")


def measure(script: str, rounds: int) -> list[Row]:
    """The rows of a script, which it also prints as they come; a row that says so where it leaves none."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    free = {name: value for name, value in os.environ.items() if name not in threads}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / f"{script}.py"), f"--rounds={rounds}", f"--json={file}"]
        code = subprocess.run(command, env=free).returncode
        rows = [Row(**one) for one in json.loads(file.read_text())] if file.is_file() else []
    return rows or [Row.missing(script, f"failed: exit status {code}")]


def machine() -> str:
    """Date, processor, cores and the versions of what is compared."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    about = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    versions = []
    for name in SHOWN:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    processor = about.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in about:  # a name such as AMD EPYC stands for several generations
        processor += f" (family {about['cpu family']}, model {about.get('model')})"
    return (
        f"{time.strftime('%Y-%m-%d')}, {cores()} cores of {processor}, Python {platform.python_version()}, "
        f"{', '.join(versions)}."
    )


def table(rows: list[Row], rounds: int) -> str:
    lines = "\n".join(row.line() for row in rows)
    return f"Medians of {rounds} rounds. {machine()}\n\n{HEAD}\n{lines}"


def write(page: Path, text: str) -> None:
    """Put the table between the markers of a page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=None)
    parser.add_argument("--no-write", action="store_true", help="print the table and leave the page as it is")
    asked = parser.parse_args()
    begun = time.perf_counter()
    rows = [row for script in asked.only or SCRIPTS for row in measure(script, asked.rounds)]
    text = table(rows, asked.rounds)
    print(f"\n{text}\n\n{(time.perf_counter() - begun) / 60:.1f} minutes")
    if not asked.only and not asked.no_write:
        write(PAGE, text)
    return int(any(row.met == "no" or row.met.startswith("failed") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
