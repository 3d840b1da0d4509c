"""R's pROC as an oracle: a script is run in R, and every number that it prints comes back."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest


@cache
def missing() -> str | None:
    """Why pROC cannot be asked, or None."""
    if shutil.which("Rscript") is None:
        return "Rscript is not installed (apt-get install r-cran-proc)"
    asked = subprocess.run(["Rscript", "-e", "library(pROC)"], capture_output=True, check=False, timeout=120)
    return None if asked.returncode == 0 else "R has no pROC (apt-get install r-cran-proc)"


def ask(tables: dict[str, np.ndarray], script: str, folder: Path) -> np.ndarray:
    """Run `script`, where each table is a matrix of its name and `say(x)` prints the numbers to give back."""
    if reason := missing():
        pytest.skip(reason)
    lines = ["suppressMessages(library(pROC))", 'say <- function(x) cat(sprintf("%.17g\\n", as.numeric(x)), sep="")']
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        np.savetxt(path, table, delimiter=",", fmt="%.17g")
        lines.append(f'{name} <- as.matrix(read.csv("{path}", header=FALSE))')
    (folder / "ask.R").write_text("\n".join([*lines, script]))
    done = subprocess.run(["Rscript", str(folder / "ask.R")], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return np.array([float(line) for line in done.stdout.split()])
