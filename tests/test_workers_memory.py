"""Memory that is freed and taken again does not go back to the system in between."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

TOUCH = """
import resource, sys
from mococxr.workers import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytes(sys.argv[1][:1], "ascii") * (64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", TOUCH, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_pages_of_large_arrays_are_asked_for_once():
    pages = (64 << 20) // resource.getpagesize()
    assert faults("as it is") > 5 * pages
    assert faults("kept") < pages / 10
