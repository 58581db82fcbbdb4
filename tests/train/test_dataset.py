"""Shards in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from densefit.errors import InputError
from densefit.train.dataset import ShardFolder


def test_training_and_held_out_images_do_not_mix(shards: Path) -> None:
    store = ShardFolder(shards, "flat")
    assert len(store) + store.held_out == 96 and store.held_out >= 2
    train = store.batch(np.arange(len(store))).landmarks.numpy()
    held = store.batch(np.arange(store.held_out), held_out=True).landmarks.numpy()
    assert not any((train == one).all((1, 2)).any() for one in held)
    assert store.batch(np.arange(3)).rgba.shape == (3, 96, 96, 4)


def test_new_shards_are_read_and_unfinished_ones_later(tmp_path: Path, shards: Path) -> None:
    shutil.copy(shards / "0000.npz", tmp_path / "0000.npz")
    store = ShardFolder(tmp_path, "flat")
    before = len(store)
    half = (shards / "0001.npz").read_bytes()
    (tmp_path / "0001.npz").write_bytes(half[: len(half) // 2])
    assert store.rescan() == 0 and len(store) == before
    (tmp_path / "0001.npz").write_bytes(half)
    assert store.rescan() == 1 and len(store) > before
    assert store.rescan() == 0


def test_wrong_version_and_empty_folder(tmp_path: Path, make_shard: Callable[..., None]) -> None:
    with pytest.raises(InputError, match="no shards"):
        ShardFolder(tmp_path, "flat")
    make_shard(tmp_path / "a.npz", 4, 0, version="older")
    with pytest.raises(InputError, match="rendered with landmarks older"):
        ShardFolder(tmp_path, "flat")
