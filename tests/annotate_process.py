"""The page's server in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def start(store: Path, *flags: str) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-m", "mococxr", "annotate", str(store), "--no-browser", "--target", "Effusion", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
    assert process.stderr is not None
    for line in process.stderr:
        if "token=" in line:
            return process, line.strip()
    raise AssertionError(f"the server did not start: {process.wait()}")
