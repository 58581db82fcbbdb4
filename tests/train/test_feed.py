"""Batches for a GPU, which tests have none of: the CPU under another name takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from densefit.train import dataset
from densefit.train.dataset import Faces, ShardFolder
from densefit.train.feed import Feed
from densefit.train.random import Draws


class Elsewhere:
    """What a GPU's generator and tensors say where they are."""

    type = "cuda"


def gpu_draws(seed: int) -> Draws:
    draws = Draws(seed)
    draws.host = Draws(seed)
    draws.device = Elsewhere()  # type: ignore[assignment]
    return draws


def test_a_cpu_sees_the_renders_that_its_seed_draws(shards: Path) -> None:
    store, draws = ShardFolder(shards, "flat"), Draws(4)
    rows = Draws(4).integers(0, len(store), 8)
    batch = Feed(store, draws, 8)()
    assert torch.equal(batch.rgba, store.batch(rows).rgba)
    assert draws.host is draws, "one generator, so that checkpoints of before go on as they would"


def test_batches_are_made_ahead_where_renders_do_not_fit(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every batch comes once and in its order, though the next is made beside it."""
    monkeypatch.setattr(Faces, "pinned", lambda self: self)
    monkeypatch.setattr(Faces, "to", lambda self, device: self)
    monkeypatch.setattr(ShardFolder, "on_device", property(lambda self: False))
    store = ShardFolder(shards, "flat")
    feed, same = Feed(store, gpu_draws(4), 8), Draws(4)
    for _ in range(4):
        rows = same.integers(0, len(store), 8)
        assert torch.equal(feed().landmarks, store.batch(rows).landmarks)


@pytest.mark.parametrize("free", [10**9, 10**3])
def test_renders_lie_on_the_gpu_where_they_fit(
    shards: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    moved = []

    def to(tensor: torch.Tensor, device: object) -> torch.Tensor:
        moved.append(device)
        return tensor

    store = ShardFolder(shards, "flat")
    store._device = Elsewhere()  # type: ignore[assignment]
    monkeypatch.setattr(torch.Tensor, "to", to)
    store._place()
    assert set(moved) == {store._device if free == 10**9 else "cpu"}
    assert dataset.DEVICE_SHARE < 1
