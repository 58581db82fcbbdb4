"""Torch in a few threads side by side, each with its own share of torch's threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class SideBySide:
    """Runs independent pieces of work in `sides` threads.

    One piece over all of torch's threads waits at every layer until the slowest has done its part;
    pieces beside one another wait once, at the end. Where other programs use the machine too, that
    is several times as fast.
    """

    def __init__(self, sides: int, each: int) -> None:
        """sides: threads of ours; each: of torch, in each of them."""
        self._pool = ThreadPoolExecutor(sides, "densefit")
        ours = torch.get_num_threads()
        ready = threading.Barrier(sides + 1)

        def begin() -> None:
            # Holds for this thread, and for all that use torch for the first time later on; asked
            # for it, torch takes this thread for one that has.
            torch.set_num_threads(each)
            torch.get_num_threads()
            ready.wait()

        for _ in range(sides):  # none can take two of them
            self._pool.submit(begin)
        ready.wait()
        torch.set_num_threads(ours)

    def map(self, work: Callable[[T], R], pieces: Sequence[T]) -> list[R]:
        """The results in order; the first exception, if there is one."""
        return list(self._pool.map(work, pieces))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
