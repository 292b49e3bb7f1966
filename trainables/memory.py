"""Memory of a worker process: kept while a trial trains, given back between trials, watched, used up."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

# from malloc.h of glibc
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MOST = 2**31 - 1
TOP_PAD = 256 * 2**20
"""Bytes by which the heap grows at a time."""
_NO_ROOM = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",  # of what torch does not allocate itself
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def keep_freed_memory() -> None:
    """Have this process keep what it frees, for the next step of the same sizes.

    By default glibc hands every large tensor back to the system, which clears the same pages again at the
    next step: a tenth to a quarter of a small network's time on a CPU. Nothing on other systems.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, _MOST)
        libc.mallopt(_TOP_PAD, TOP_PAD)


def give_back_freed_memory() -> None:
    """Hand what is free back to the system, in milliseconds. Nothing on other systems."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def own_bytes() -> int:
    """Memory that this process holds and shares with nobody; 0 where the system does not tell.

    What is shared, such as the data set in the object store, does not count.
    """
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory of the device, or of the machine, did not suffice."""
    no_room = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return no_room or any(words in str(error) for words in _NO_ROOM)


@cache
def _glibc() -> Any:
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
