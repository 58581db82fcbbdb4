"""Random batches of renders for the device that trains, which never waits for them.

A CPU stacks a batch in the time of a small part of a step. A GPU is much faster: its renders lie in
its own memory if there is room (see `ShardFolder`), else a thread stacks the next batch, in memory
that the GPU can read by itself, while it works on this one.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from densefit.train.dataset import Faces, ShardFolder
from densefit.train.random import Draws


class Feed:
    """Batches of random renders of a folder."""

    def __init__(self, store: ShardFolder, draws: Draws, batch: int) -> None:
        self._store, self._draws, self._batch = store, draws, batch
        self._ahead: Future[Faces] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def __call__(self) -> Faces:
        """The next batch, on the CPU or on the device that trains."""
        if self._draws.device.type == "cpu" or self._store.on_device:
            return self._store.batch(self._rows())
        self._thread = self._thread or ThreadPoolExecutor(1, "feed")
        now = self._ahead or self._thread.submit(self._pinned, self._rows())
        self._ahead = self._thread.submit(self._pinned, self._rows())
        return now.result().to(self._draws.device)

    def _rows(self) -> torch.Tensor:
        return self._draws.host.integers(0, len(self._store), self._batch)

    def _pinned(self, rows: torch.Tensor) -> Faces:
        return self._store.batch(rows).pinned()
