"""The command `doctor`: what this machine has for the work, what is missing, and what to change."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from mococxr import console
from mococxr.images.dicom.codecs import decoders
from mococxr.settings import DoctorSettings
from mococxr.version import VERSION
from mococxr.workers import cores

State = Literal["good", "note", "change"]
GIGA = 1e9
LEAST_MEMORY, LEAST_DISK, LEAST_SHARED, LEAST_FILES = 4 * GIGA, 5 * GIGA, 64e6, 1024
"""Bytes of free memory, disk and shared memory, and open files, below which something is to be changed."""
EXTRAS = ("dicom", "imagenet-offline", "hub", "ray", "trackers")
"""Extras that users install."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
MARKS = {"good": "ok", "note": "-", "change": "!"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: of the thing.
        state: good; note: what is missing is not always needed; change: it should be changed.
        text: how it is.
        remedy: what to do; empty where nothing is to be done.
    """

    name: str
    state: State
    text: str
    remedy: str = ""


class Diagnosis(dict[str, Any]):
    """`version`, `checks` (`name, state, text, remedy`), `exit_status`: 3 where something should be changed."""

    @property
    def exit_status(self) -> int:
        """Of the command."""
        return int(self["exit_status"])


def run(settings: DoctorSettings) -> dict[str, Any]:
    """Look at the machine, and say what to change; returns a `Diagnosis`."""
    checks = [*_system(), *_cpu(), *_memory(settings.folder), *_packages(), *_gpu()]
    failed = [check for check in checks if check.state == "change"]
    for check in checks:
        console.result(console.wrapped(check.text, f"{MARKS[check.state]:<3}{check.name:<22} "))
        if check.remedy:
            console.result(console.wrapped(check.remedy, " " * 26))
    console.result(f"{len(failed)} to change." if failed else "Nothing needs to be changed.")
    return Diagnosis(version=VERSION, checks=[asdict(check) for check in checks], exit_status=3 if failed else 0)


def _system() -> Iterator[Check]:
    good = sys.version_info >= (3, 11)
    text = f"{platform.python_version()} ({sys.executable}), mococxr {VERSION}"
    yield Check("Python", "good" if good else "change", text, "" if good else "Take Python 3.11 or later.")
    posix = importlib.util.find_spec("fcntl") is not None
    yield Check(
        "system", "good" if posix else "change", f"{platform.system()} {platform.release()}, {platform.machine()}",
        "" if posix else "Run it inside WSL 2 or in a container.",
    )  # fmt: skip


def _cpu() -> Iterator[Check]:
    features = _features()
    known = f": {', '.join(features)}" if features else ""
    slow = bool(features) and "avx2" not in features
    yield Check("processor", "note" if slow else "good", f"{cores()} of {os.cpu_count()} cores{known}",
                "Without AVX2 networks take several times as long." if slow else "")  # fmt: skip
    if (quota := _quota()) is not None and quota < cores():
        yield Check("processor time", "change", f"a limit of {quota:g} cores, and {cores()} are seen",
                    f"Give --jobs {max(1, int(quota))}, or have the limit of the container raised.")  # fmt: skip
    stated = {name: os.environ[name] for name in THREADS if name in os.environ}
    high = [name for name, value in stated.items() if value.isdecimal() and int(value) > cores()]
    words = ", ".join(f"{name}={value}" for name, value in stated.items()) or "as libraries choose"
    yield Check("threads", "change" if high else "good", words, f"Unset {', '.join(high)}." if high else "")
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        busy = load > 1.5 * cores()
        yield Check("load", "note" if busy else "good", f"{load:.1f} processes at work",
                    "Others use the cores: everything takes longer; --jobs 1 disturbs least." if busy else "")  # fmt: skip


def _features() -> list[str]:
    """What the processor has of what networks use; empty where the system does not say."""
    file = Path("/proc/cpuinfo")
    flags = (
        set(re.findall(r"\w+", file.read_text(errors="replace").partition("flags")[2].partition("\n")[0]))
        if file.is_file()
        else set()
    )
    names = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
    return [name for name in names if name in flags]


def _quota() -> float | None:
    """Cores that a container may use; None where there is no limit."""
    file = Path("/sys/fs/cgroup/cpu.max")
    if not file.is_file():
        return None
    most, period = file.read_text().split()[:2]
    return None if most == "max" else int(most) / int(period)


def _memory(folder: Path) -> Iterator[Check]:
    free = _free_memory()
    if free is not None:
        short = free < LEAST_MEMORY
        yield Check("memory", "change" if short else "good", f"{free / GIGA:.1f} GB free",
                    "Close other programs, or give --jobs 1 and a smaller --batch." if short else "")  # fmt: skip
    for name, path in (("disk", folder), ("temporary files", Path(tempfile.gettempdir()))):
        space = shutil.disk_usage(path).free
        short = space < LEAST_DISK
        yield Check(name, "change" if short else "good", f"{space / GIGA:,.1f} GB free at {path}",
                    "Free some, or work on another disk (TMPDIR for temporary files)." if short else "")  # fmt: skip
    if (shared := Path("/dev/shm")).is_dir():
        size = shutil.disk_usage(shared).free
        short = size <= LEAST_SHARED
        yield Check("shared memory", "change" if short else "good", f"{size / GIGA:.2f} GB free",
                    "Start the container with --shm-size 1g." if short else "")  # fmt: skip
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    few = 0 <= limit < LEAST_FILES
    yield Check("open files", "change" if few else "good", "no limit" if limit < 0 else f"up to {limit:,}",
                "ulimit -n 4096" if few else "")  # fmt: skip


def _free_memory() -> float | None:
    """Bytes, within the limit of a container; None where the system does not say."""
    file = Path("/proc/meminfo")
    if not file.is_file():
        return None
    free = 1024.0 * int(re.search(r"MemAvailable:\s+(\d+)", file.read_text())[1])  # type: ignore[index]
    most, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if most.is_file() and used.is_file() and (limit := most.read_text().strip()).isdecimal():
        free = min(free, float(limit) - float(used.read_text()))
    return free


def _packages() -> Iterator[Check]:
    known = decoders()
    lacking = [kind for kind, installed in known.items() if not installed]
    text = f"{len(known) - len(lacking)} of {len(known)} kinds of compressed pixels: "
    text += ", ".join(f"{kind} (no decoder)" if kind in lacking else kind for kind in known)
    yield Check("DICOM", "note" if lacking else "good", text, "pip install 'mococxr[dicom]'" if lacking else "")
    for extra in EXTRAS:
        names = _of_extra(extra)
        absent = [name for name in names if not _is_installed(name)]
        text = f"without {', '.join(absent)}" if absent else "installed"
        remedy = f"Where you need it: pip install 'mococxr[{extra}]'" if absent else ""
        yield Check(f"extra {extra}", "note" if absent else "good", text, remedy)
    weights = importlib.util.find_spec("mococxr_weights") is not None
    yield Check("mococxr-lite0", "good" if weights else "note", "installed" if weights else "not installed",
                "" if weights else "For few images: pip install ./weights in a clone of MoCo-CXR")  # fmt: skip


def _of_extra(extra: str) -> list[str]:
    """The distributions of an extra."""
    try:
        stated = requires("mococxr") or []
    except PackageNotFoundError:  # run from its source, without being installed
        stated = []
    lines = [line for line in stated if re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", line)]
    return [re.match(r"[\w.-]+", line)[0] for line in lines]  # type: ignore[index]


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _gpu() -> Iterator[Check]:
    import torch

    text = f"PyTorch {torch.__version__}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Check("GPU", "good", f"{', '.join(names)} ({text})")
    elif torch.backends.mps.is_available():
        yield Check("GPU", "good", f"Apple's, --device mps ({text})")
    elif shutil.which("nvidia-smi") and os.path.exists("/dev/nvidia0"):
        yield Check("GPU", "change", f"one is there, and {text} does not see it",
                    "Install a PyTorch with CUDA (pytorch.org), or update the driver.")  # fmt: skip
    else:
        yield Check("GPU", "note", f"none: networks compute on the processor ({text})")
