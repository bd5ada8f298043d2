"""Freed memory is kept, unless somebody says otherwise."""

import contextlib
import os
import subprocess
import sys

import pytest

GLIBC = False
with contextlib.suppress(ValueError, AttributeError):
    GLIBC = bool(os.confstr("CS_GNU_LIBC_VERSION"))

FAULTS = """
import resource
import fusion_lightning.main as door
door.main(["--version"])
size = 64 << 20
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * size
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(min(faults() for _ in range(3)))
"""


def _faults(**environment: str) -> int:
    """Pages that a block of 64 MB touches for the first time when a block of that size was freed before."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=kept | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(not GLIBC, reason="other allocators are left alone")
def test_a_command_keeps_freed_memory_unless_told_otherwise() -> None:
    pages = (64 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert _faults() < pages / 100
    for environment in ({"FUSION_LIGHTNING_KEEP_MEMORY": "0"}, {"MALLOC_MMAP_MAX_": "65536"}):
        assert _faults(**environment) > pages / 2
