"""glibc allocator settings: keep freed memory in the process instead of returning it to the kernel page by page.

Feature maps are blocks of many megabytes. glibc maps each from the kernel and unmaps it when it is freed, so that every
map of every layer is memory that is touched for the first time: in narrow networks that takes longer than the
arithmetic. Blocks that stay in the process's heap are touched once.
"""

import ctypes
import os

KEEP_MEMORY = "FUSION_LIGHTNING_KEEP_MEMORY"
"""Environment variable; ``0`` leaves the allocator as it is."""

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Numbers of mallopt's parameters, from glibc's malloc.h."""
_PAD = 64 << 20
"""Bytes by which the heap grows beyond what is asked for."""


def keep_freed_memory() -> bool:
    """Let this process, and the data workers it forks, keep the memory they free; done on glibc only.

    The most a process ever used then stays with it until it ends.

    Returns:
        Whether it was done: not without glibc, nor where the environment says ``FUSION_LIGHTNING_KEEP_MEMORY=0`` or
        sets glibc's allocator itself (``MALLOC_…``, ``GLIBC_TUNABLES``).
    """
    if os.environ.get(KEEP_MEMORY) == "0" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    if any(name in os.environ.get("GLIBC_TUNABLES", "") for name in ("mmap_max", "mmap_threshold", "trim_threshold")):
        return False
    if not _is_glibc():
        return False
    libc = ctypes.CDLL(None)
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: _PAD}
    taken = [libc.mallopt(name, value) for name, value in settings.items()]
    return taken == [1] * len(settings)


def _is_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, ValueError):
        return False
