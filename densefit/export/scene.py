"""What every exporter gets: the fit, the head, the cameras, and which frames to write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from densefit.errors import InputError, UsageError
from densefit.export.orientation import world_to_up
from densefit.fit_file import FitFile, posed_frames, read_fit
from densefit.head.rotation import rotation_matrix

if TYPE_CHECKING:
    from calibration import Rig
    from densefit.head.model import HeadModel

CHUNK = 32  # frames at a time: 32 x 6000 vertices in float64 stay below 5 MB, inside the cache


@dataclass(frozen=True)
class ExportOptions:
    """Choices that all formats share."""

    frames: str | None = None
    """Master frames as `a:b` (b excluded, either may be missing, negative counts from the end)."""
    fps: float | None = None
    """Frames per second to state and to time keys with; default: the take's own times."""
    up: str = "world"
    """Axes of ply, obj and npz: `world` (the rig's), or turned so that up is `y` or `z`."""


@dataclass(frozen=True)
class ExportScene:
    """A checked fit with its head model."""

    fit: FitFile
    head: HeadModel
    rig: Rig | None
    frames: np.ndarray  # (N,) int64: master frames to export, in order
    options: ExportOptions

    @property
    def fps(self) -> float:
        return self.options.fps or self.fit.fps

    @property
    def posed_frames(self) -> np.ndarray:
        """(M,) int64: the frames among `frames` that have a head."""
        return self.frames[self.fit.posed[self.frames]]

    @property
    def export_from_world(self) -> np.ndarray:
        """(3, 3) float64: rotation from world axes to those asked for with `up`."""
        return world_to_up(self.options.up, self.rig, self.fit.meta.get("up"))

    def expression(self, frames: np.ndarray) -> np.ndarray:
        """(N, 52) float64 of `frames`; eyeLook as the model makes it from the eye joints."""
        return self.head.with_gaze(self.fit.expression[frames], self.fit.joints[frames])

    def joint_centres(self) -> np.ndarray:
        """(4, 3) float64, metres, head frame: the person's joints at rest."""
        return self.head.joint_positions(self.fit.identity).astype(np.float64)

    def neutral(self) -> np.ndarray:
        """(V, 3) float64, metres, head frame: the person at rest."""
        return neutral_vertices(self.fit, self.head)


def load_scene(out: Path, head: HeadModel, options: ExportOptions) -> ExportScene:
    """Read out/fit.npz, meta.json and rig.yaml.

    Raises:
        InputError: no fit, a damaged one, or one without a single frame that has a head.
        UsageError: frames that do not exist, or a frame rate that is not positive.
    """
    from calibration import read_rig

    if options.fps is not None and not 0 < options.fps < 100_000:
        raise UsageError(f"--fps {options.fps}: must be positive")
    fit = read_fit(out, head)
    rig_path = fit.path.with_name("rig.yaml")
    rig = read_rig(rig_path) if rig_path.is_file() else None
    frames = parse_frames(options.frames, fit.n_frames)
    scene = ExportScene(fit, head, rig, frames, options)
    if not len(scene.posed_frames):
        which = f"frames {options.frames}" if options.frames else "no frame"
        raise InputError(
            f"{fit.path}: {which} {'have no' if options.frames else 'has a'} head; nothing to "
            f"export"
        )
    return scene


def parse_frames(text: str | None, n_frames: int) -> np.ndarray:
    """`a:b` -> (N,) int64 frame numbers; None means all."""
    everything = np.arange(n_frames)
    if text is None:
        return everything
    parts = text.split(":")
    try:
        if len(parts) == 1:
            chosen = everything[[int(parts[0])]]
        else:
            start, end = (int(part) if part else None for part in parts)
            chosen = everything[start:end]
    except (ValueError, IndexError) as error:
        raise UsageError(
            f"--frames {text}: expected a:b within 0:{n_frames}, such as 0:{n_frames}"
        ) from error
    if not len(chosen):
        raise UsageError(f"--frames {text}: selects nothing of the {n_frames} frames 0:{n_frames}")
    return chosen


class HeadMotion(Protocol):
    """What meshes are made from: FitFile, FitResult, or anything with these arrays."""

    @property
    def identity(self) -> np.ndarray: ...
    @property
    def expression(self) -> np.ndarray: ...
    @property
    def rotation(self) -> np.ndarray: ...
    @property
    def translation(self) -> np.ndarray: ...
    @property
    def joints(self) -> np.ndarray: ...


def neutral_vertices(fit: HeadMotion, head: HeadModel) -> np.ndarray:
    """(V, 3) float64, metres, head frame: the fitted identity at rest."""
    return head.neutral(fit.identity).astype(np.float64)


def iterate_vertices(
    fit: HeadMotion, head: HeadModel, frames: np.ndarray | None = None, chunk: int = CHUNK
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Head meshes in world coordinates, a chunk at a time, so that long takes need no memory.

    Args:
        frames: (N,) frame numbers; default all.
    Yields:
        frames (n,) int64 and vertices (n, V, 3) float32, metres, world; NaN where the frame has
        no head.
    """
    frames = np.arange(len(fit.rotation)) if frames is None else frames
    posed = posed_frames(fit.expression, fit.rotation, fit.translation, fit.joints)
    for first in range(0, len(frames), chunk):
        numbers = frames[first : first + chunk]
        vertices = np.full((len(numbers), len(head.template), 3), np.nan, np.float32)
        has_head = posed[numbers]
        if has_head.any():
            vertices[has_head] = _posed_vertices(fit, head, numbers[has_head])
        yield numbers, vertices


def frame_vertices(
    fit: HeadMotion, head: HeadModel, frames: np.ndarray | None = None
) -> np.ndarray:
    """(N, V, 3) float32, metres, world: `iterate_vertices` in one array, for short takes."""
    chunks = [vertices for _, vertices in iterate_vertices(fit, head, frames)]
    return np.concatenate(chunks) if chunks else np.zeros((0, len(head.template), 3), np.float32)


def _posed_vertices(fit: HeadMotion, head: HeadModel, frames: np.ndarray) -> np.ndarray:
    local = head.vertices(fit.identity, fit.expression[frames], fit.joints[frames]).astype(
        np.float64
    )
    rotation = rotation_matrix(fit.rotation[frames])
    return local @ rotation.swapaxes(1, 2) + fit.translation[frames][:, None]
