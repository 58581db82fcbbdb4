"""Synthetic faces in memory: shards of renders without background, read from a folder.

A shard is an npz with `rgba (N, 4, S, S) uint8` (straight alpha, no background),
`landmarks (N, 703, 2) float32` px (pixel centres at integers), `visible (N, 703) bool` and
`landmarks_version`. New shards may appear in the folder while training runs.
"""

from __future__ import annotations

import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from densefit.errors import InputError

DEVICE_SHARE = 0.5
"""of a GPU's memory that renders may take; the rest is for the training itself"""
HELD_OUT_FRACTION = 1 / 32
"""the last images of every shard are never trained on"""


@dataclass(frozen=True)
class Faces:
    """A batch of renders.

    rgba: (B, S, S, 4) uint8, premultiplied by alpha; landmarks: (B, 703, 2) float32, units of the
    picture (-1 left or upper edge, +1 right or lower edge); visible: (B, 703) bool.
    """

    rgba: Tensor
    landmarks: Tensor
    visible: Tensor

    def to(self, device: torch.device) -> Faces:
        """On another device; from pinned memory that goes on beside what it has to do."""
        return Faces(*(t.to(device, non_blocking=True) for t in self._tensors))

    def pinned(self) -> Faces:
        """In memory that a GPU can read by itself."""
        return Faces(*(t.pin_memory() for t in self._tensors))

    @property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.rgba, self.landmarks, self.visible


class ShardFolder:
    """All shards of a folder, kept as uint8 in memory, or in a GPU's where they fit."""

    def __init__(
        self,
        folder: Path,
        landmarks_version: str,
        limit: int | None = None,
        least_size: int | None = None,
        held_out: float = HELD_OUT_FRACTION,
        device: torch.device | str = "cpu",
    ) -> None:
        """Read what is there.

        landmarks_version: shards of another version are an error, because their labels would mean
        other points. limit: stop after about so many images (for tests and quick looks).
        least_size: pictures at least twice as large are averaged down by a whole factor to no less
        than so many pixels a side, which saves memory and keeps small crops free of aliasing.
        held_out: share of each shard, its last images, that is not trained on.
        device: where batches are wanted; see `on_device`.
        Raises InputError when there is no shard or one of another version.
        """
        self._held_out_share = held_out
        self.folder = Path(folder)
        self.landmarks_version = landmarks_version
        self.limit = limit
        self.least_size = least_size
        self._known: set[str] = set()
        self._device = torch.device(device)
        self._rgba: list[Tensor] = []
        self._landmarks: list[Tensor] = []
        self._visible: list[Tensor] = []
        self._train = np.zeros((0, 2), np.int64)
        self._held_out = np.zeros((0, 2), np.int64)
        self.rescan()
        if not len(self):
            raise InputError(
                f"{self.folder}: no shards of synthetic faces; make some with"
                " `densefit synth --format shards`"
            )

    def __len__(self) -> int:
        """Number of images to train on."""
        return len(self._train)

    @property
    def held_out(self) -> int:
        """Number of images kept aside."""
        return len(self._held_out)

    def rescan(self) -> int:
        """Read shards that have appeared since the last look; returns how many."""
        new = [p for p in sorted(self.folder.glob("**/*.npz")) if str(p) not in self._known]
        read = 0
        for path in new:
            if self.limit is not None and len(self) + self.held_out >= self.limit:
                break
            read += self._read(path)
        if read and self._device.type != "cpu":
            self._place()
        return read

    @property
    def on_device(self) -> bool:
        """Batches come where they are wanted, all renders having found room there."""
        return all(rgba.device.type == self._device.type for rgba in self._rgba)

    def _place(self) -> None:
        """All shards to the device, or all in memory: a batch is of many of them."""
        size = sum(rgba.nbytes for rgba in self._rgba)
        there = sum(rgba.nbytes for rgba in self._rgba if rgba.device.type != "cpu")
        free, total = torch.cuda.mem_get_info(self._device)
        fits = size <= DEVICE_SHARE * total and size - there <= free
        for some in (self._rgba, self._landmarks, self._visible):
            some[:] = [tensor.to(self._device if fits else "cpu") for tensor in some]

    def _read(self, path: Path) -> bool:
        try:
            with np.load(path, allow_pickle=False) as shard:
                if "rgba" not in shard or "landmarks" not in shard:
                    self._known.add(str(path))  # something else, for example a table of labels
                    return False
                version = str(shard["landmarks_version"])
                rgba, landmarks = shard["rgba"], shard["landmarks"].astype(np.float32)
                visible = shard["visible"].astype(bool)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            # A shard that is still being written becomes readable later; say so and go on.
            print(f"skipped for now: {path}: {error}", file=sys.stderr, flush=True)
            return False
        if version != self.landmarks_version:
            raise InputError(
                f"{path}: rendered with landmarks {version[:12]}, but the head model has"
                f" {self.landmarks_version[:12]}; render the shards again"
            )
        self._known.add(str(path))
        size = rgba.shape[-1]
        rgba = _premultiplied(rgba)
        if self.least_size is not None and size >= 2 * self.least_size:
            factors = range(size // self.least_size, 0, -1)
            rgba = _averaged_down(rgba, next(f for f in factors if size % f == 0))
        index = len(self._rgba)
        self._rgba.append(torch.from_numpy(rgba))
        self._landmarks.append(torch.from_numpy((landmarks + 0.5) * (2.0 / size) - 1.0))
        self._visible.append(torch.from_numpy(visible))
        usable = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
        rows = np.stack([np.full(len(usable), index), usable], 1)
        kept = max(1, round(len(rows) * self._held_out_share))
        self._train = np.concatenate([self._train, rows[:-kept]])
        self._held_out = np.concatenate([self._held_out, rows[-kept:]])
        return True

    def batch(self, indices: np.ndarray | Tensor, held_out: bool = False) -> Faces:
        """Images by number (0 .. len - 1, or 0 .. held_out - 1), wherever shards are kept."""
        rows = (self._held_out if held_out else self._train)[np.asarray(indices)].tolist()
        parts = (self._rgba, self._landmarks, self._visible)
        return Faces(*(_gathered(part, rows) for part in parts))

    def labels(self, indices: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Only landmarks (B, 703, 2) and visible (B, 703) of training images by number."""
        rows = self._train[np.asarray(indices)].tolist()
        return _gathered(self._landmarks, rows), _gathered(self._visible, rows)


def _gathered(shards: list[Tensor], rows: list[list[int]]) -> Tensor:
    """Images by shard and place in it; on a GPU one copy, for slices of tensors cost nothing."""
    return torch.stack([shards[shard][place] for shard, place in rows])


def _averaged_down(rgba: np.ndarray, factor: int) -> np.ndarray:
    """(N, S, S, 4) uint8 -> (N, S / factor, S / factor, 4)."""
    size = rgba.shape[1] // factor
    cells = rgba.reshape(len(rgba), size, factor, size, factor, 4)
    return np.stack([(c.mean((1, 3)) + 0.5).astype(np.uint8) for c in cells])


def _premultiplied(rgba: np.ndarray) -> np.ndarray:
    """(N, 4, S, S) uint8 straight alpha -> (N, S, S, 4) uint8 premultiplied.

    Interpolating straight colours would draw the invisible ones in at the outline.
    """
    out = np.empty((len(rgba), *rgba.shape[2:], 4), np.uint8)
    for target, source in zip(out, rgba, strict=True):
        alpha = source[3:].astype(np.uint16)
        target[..., :3] = ((source[:3] * alpha + 127) // 255).transpose(1, 2, 0)
        target[..., 3] = source[3]
    return out
