"""Memory that tests may take."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

GROWTH_MB = 500
"""how much the process may grow over all of a test's cases"""


@contextmanager
def modest_memory() -> Iterator[None]:
    """AssertionError when the process's peak grows by more within."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < GROWTH_MB, f"memory grew by {grown:.0f} MB"
