"""The package as users get it: a wheel that is small and holds every file of the package, and starts without the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import setuptools.build_meta as build; print(build.build_wheel('out'), build.build_sdist('out'))"


@pytest.mark.slow
def test_the_wheel_is_small_and_whole_and_starts_without_the_sources(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "src/mococxr", tree / "src/mococxr", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    subprocess.run([sys.executable, "-c", BUILD], cwd=tree, check=True, capture_output=True)
    (wheel,) = (tree / "out").glob("*.whl")
    assert wheel.stat().st_size < 1_500_000
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = (file for file in (tree / "src/mococxr").rglob("*") if file.is_file())
    assert {str(file.relative_to(tree / "src")) for file in files} <= packed

    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    where = "import mococxr; print(mococxr.__file__)"
    for command, says in {("-c", where): str(tmp_path / "installed"), ("-m", "mococxr", "--help"): "prepare"}.items():
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        assert says in done.stdout
