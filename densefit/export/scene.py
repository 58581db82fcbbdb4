"""What every exporter gets: the fit, the head, the cameras, and which frames to write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from densefit.errors import InputError, UsageError
from densefit.export.orientation import Z_FROM_Y, world_to_up
from densefit.export.resample import nearest_frames, resample
from densefit.export.surface import Surface, surface_of
from densefit.export.texture_layout import laid_out_for_texture
from densefit.fit_file import FitFile, posed_frames, read_fit
from densefit.head.rotation import rotation_matrix

if TYPE_CHECKING:
    from calibration import Camera, Rig
    from densefit.head.model import HeadModel

UNITS = {"m": 1.0, "cm": 100.0}
MAX_SUBDIVIDE = 3  # 64 times the triangles
CHUNK = 32  # frames at a time: 32 x 6000 vertices in float64 stay below 5 MB, inside the cache


@dataclass(frozen=True)
class ExportOptions:
    """Choices that all formats share."""

    frames: str | None = None
    """Recorded master frames as `a:b` (b excluded, either may be missing, negative counts from the
    end), or the number of one frame."""
    fps: float | None = None
    """Frames per second to resample to, timing kept; default: the take's own frames. Independent
    photos have no time: there it says how many are shown a second."""
    up: str = "world"
    """What is up: `y`, `z`, or `world`: the rig's axes, in formats that have a rule of their own
    (glb, usd, bvh, nerfstudio: y; blender: z) that one."""
    unit: str = "m"
    """Unit of lengths, `m` or `cm`."""
    subdivide: int = 0
    """Levels of Catmull-Clark refinement."""
    stabilize: bool = False
    """Take the head's motion out: the world becomes the head frame."""
    texture: bool = False
    """Bake a colour map from the cameras, for glb, usd and obj."""


@dataclass(frozen=True)
class ExportScene:
    """A checked fit with its head model.

    `fit` is what is written: as read, or resampled by `fps` and stilled by `stabilize`. What shows
    the recordings again uses `recorded` and `recorded_frames`, and `moments` to go over from one
    to the other.
    """

    fit: FitFile
    head: HeadModel
    rig: Rig | None
    frames: np.ndarray  # (N,) int64: frames of `fit` to export, in order
    options: ExportOptions
    as_read: FitFile | None = None  # where `fit` is not
    chosen: np.ndarray | None = None  # frames of `as_read`, where `frames` are others

    @property
    def fps(self) -> float:
        return self.options.fps or self.fit.fps

    @property
    def posed_frames(self) -> np.ndarray:
        """(M,) int64: the frames among `frames` that have a head."""
        return self.frames[self.fit.posed[self.frames]]

    @property
    def recorded(self) -> FitFile:
        """The fit as read: with its head motion and its own frames."""
        return self.fit if self.as_read is None else self.as_read

    @property
    def recorded_frames(self) -> np.ndarray:
        """Of `recorded`: those that `--frames` chose."""
        return self.frames if self.chosen is None else self.chosen

    @cached_property
    def moments(self) -> np.ndarray:
        """(N,) int64: the recorded frame nearest to each of `frames`."""
        if self.chosen is None:
            return self.frames
        return nearest_frames(self.recorded, self.chosen, self.fit.time[self.frames])

    @cached_property
    def surface(self) -> Surface:
        """The triangles that are written."""
        return surface_of(self.head, self.options.subdivide)

    @cached_property
    def colour_map(self) -> np.ndarray:
        """(S, S, 3) uint8 sRGB: what `texture` bakes, once for all formats; v = 1 at the top."""
        from densefit.export.texture import bake_texture

        return bake_texture(self)

    @property
    def out(self) -> Path:
        """The folder that holds the fit."""
        return self.fit.path.parent

    @property
    def scale(self) -> float:
        """Units of `unit` in a metre."""
        return UNITS[self.options.unit]

    @property
    def cameras(self) -> dict[str, Camera]:
        """The cameras whose lens and place are known; none where they would move with the head."""
        if self.rig is None or self.options.stabilize:
            return {}
        known = self.rig.cameras.items()
        return {n: c for n, c in known if c.K is not None and c.T_camera_world is not None}

    def seconds(self, frames: np.ndarray) -> np.ndarray:
        """(N,) float64, s: when `frames` are shown; the first exported frame is at zero."""
        if self.options.fps:  # exactly on its grid
            return (frames - self.frames[0]) / self.options.fps
        return self.fit.time[frames] - self.fit.time[self.frames[0]]

    def meshes(self, frames: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield frames (n,) and vertices (n, V, 3) float32 in the axes and the unit asked for."""
        turn = (self.export_from_world * self.scale).astype(np.float32)
        for numbers, vertices in iterate_vertices(self.fit, self.head, frames):
            yield numbers, self.surface.refine(vertices) @ turn.T

    @property
    def export_from_world(self) -> np.ndarray:
        """(3, 3) float64: rotation from world axes to those asked for with `up`."""
        return self.axes(self.options.up)

    def up_of(self, rule: str) -> str:
        """`y` or `z`: what is up in a format whose rule is `rule`, unless `up` says otherwise."""
        return rule if self.options.up == "world" else self.options.up

    def axes(self, up: str) -> np.ndarray:
        """(3, 3) float64: rotation from the world of `fit` to axes in which `up` is up."""
        if self.options.stabilize:  # the world is the head frame: y is up, the face looks along z
            return Z_FROM_Y if up == "z" else np.eye(3)
        return world_to_up(up, self.rig, self.fit.meta.get("up"))

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
        raise UsageError(f"--fps {options.fps:g}: give more than 0 and less than 100000")
    if options.unit not in UNITS:
        raise UsageError(f"--unit {options.unit}: give {' or '.join(UNITS)}")
    if not 0 <= options.subdivide <= MAX_SUBDIVIDE:
        raise UsageError(f"--subdivide {options.subdivide}: give 0 to {MAX_SUBDIVIDE}")
    recorded = fit = read_fit(out, head)
    chosen = frames = parse_frames(options.frames, fit.n_frames)
    if options.fps is not None and not fit.meta.get("independent_frames"):
        fit = resample(fit, chosen, options.fps)
        frames = np.arange(fit.n_frames)
    if options.stabilize:
        fit = without_head_motion(fit)
    rig_path = fit.path.with_name("rig.yaml")
    rig = read_rig(rig_path) if rig_path.is_file() else None
    shown = laid_out_for_texture(head) if options.texture else head
    scene = ExportScene(fit, shown, rig, frames, options, recorded, chosen)
    if not len(scene.posed_frames):
        which = f"frames {options.frames}" if options.frames else "no frame"
        raise InputError(
            f"{fit.path}: {which} {'have no' if options.frames else 'has a'} head; nothing to "
            f"export"
        )
    return scene


def without_head_motion(fit: FitFile) -> FitFile:
    """The same take with the head at the origin in every frame that has one; the neck still turns
    against it."""
    still = np.where(fit.posed[:, None], 0.0, np.nan) * np.ones(3)
    return replace(fit, rotation=still, translation=still.copy())


def parse_frames(text: str | None, n_frames: int) -> np.ndarray:
    """`a:b` -> (N,) int64 frame numbers, `5` -> that frame alone; None means all.

    Raises:
        UsageError: neither, or no such frame.
    """
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
            f"--frames {text}: expected a:b within 0:{n_frames}, such as 0:{n_frames}, or one frame"
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
