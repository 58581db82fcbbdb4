"""Keep freed memory in the process instead of handing it back to the system after every tensor."""

from __future__ import annotations

import sys


def keep_freed_memory() -> None:
    """Tell glibc to reuse large freed blocks; a no-op on other systems.

    By default every tensor above a fraction of a megabyte comes fresh from the system, page fault
    by page fault, and goes back when it is freed. Where page faults are dear (virtual machines)
    that took more than half of the time of training and prediction.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    mmap_threshold, trim_threshold, max_mmaps = -3, -1, -4
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 32 * 1024 * 1024)
        libc.mallopt(max_mmaps, 0)
