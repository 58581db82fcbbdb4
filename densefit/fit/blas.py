"""Threads of the BLAS that scipy brings.

torch's thread count does not reach it, and it starts as many threads as there are cores. A banded
factorization works on pieces of a hundred columns, which gain nothing from a second thread: the
threads wait for one another at every piece, on a busy machine for twenty times as long as the work
takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from scipy.linalg import lapack

NAMES = ("scipy_openblas_{}_num_threads", "openblas_{}_num_threads")
SUFFIXES = ("", "64_")


@contextmanager
def one_thread() -> Iterator[None]:
    """With one thread of scipy's BLAS. Other libraries than OpenBLAS are left as they are."""
    found = _thread_count()
    if found is None:
        yield
        return
    count, use = found
    before = count()
    use(1)
    try:
        yield
    finally:
        use(before)


@cache
def _thread_count() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """OpenBLAS's functions that tell and set its number of threads, where scipy uses it."""
    file = getattr(getattr(lapack, "_flapack", None), "__file__", None)
    try:
        # Symbols are looked up in what the module was linked against, too.
        library = ctypes.CDLL(file) if file else None
    except OSError:
        return None
    for name in (name + suffix for name in NAMES for suffix in SUFFIXES):
        getter = getattr(library, name.format("get"), None)
        setter = getattr(library, name.format("set"), None)
        if getter is not None and setter is not None:
            getter.restype, getter.argtypes = ctypes.c_int, []
            setter.restype, setter.argtypes = None, [ctypes.c_int]
            return getter, setter
    return None
