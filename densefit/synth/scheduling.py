"""SVT-AV1, run by root, makes the thread that opens it a real-time one, and so all that this thread
starts from then on. Threads that wait for one another awake, as torch's do, then keep each other
from the cores: on two of them, for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_policy() -> Iterator[None]:
    """The calling thread is scheduled afterwards as it was before."""
    if not hasattr(os, "sched_getscheduler"):  # Linux only, as is what the encoder does.
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, priority)
