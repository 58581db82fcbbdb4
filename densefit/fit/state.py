"""What the solver moves: identity, the motion of the head, the cameras; and how a step moves it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from densefit.fit import so3
from densefit.fit.landmark_model import LandmarkModel, gaze_values

Tensor = torch.Tensor


@dataclass(frozen=True)
class FrameLayout:
    """Order of one frame's unknowns: free expressions, rotation, translation, neck, eyes."""

    free: int
    """Number of free expressions (44)."""

    @property
    def size(self) -> int:
        """Unknowns of a frame."""
        return self.free + 13

    @property
    def expression(self) -> slice:
        """Expressions that are not functions of the eye joints."""
        return slice(0, self.free)

    @property
    def rotation(self) -> slice:
        """A small rotation about the head's own axes: R exp(w)."""
        return slice(self.free, self.free + 3)

    @property
    def translation(self) -> slice:
        """World."""
        return slice(self.free + 3, self.free + 6)

    @property
    def neck(self) -> slice:
        """Axis-angle of the neck joint."""
        return slice(self.free + 6, self.free + 9)

    @property
    def eyes(self) -> slice:
        """Rotations about x and y of the left, then of the right eye; eyes do not roll."""
        return slice(self.free + 9, self.free + 13)


@dataclass(frozen=True)
class Motion:
    """T frames, float64."""

    expression: Tensor
    """(T, 52): eyeLook entries follow the eyes."""
    rotation: Tensor
    """(T, 3, 3): head to world."""
    translation: Tensor
    """(T, 3) metres, world."""
    neck: Tensor
    """(T, 3)."""
    eyes: Tensor
    """(T, 4): left x, left y, right x, right y."""

    def __len__(self) -> int:
        return len(self.translation)

    def take(self, index: Tensor | slice) -> Motion:
        """Some of the frames."""
        return Motion(
            self.expression[index],
            self.rotation[index],
            self.translation[index],
            self.neck[index],
            self.eyes[index],
        )

    def clone(self) -> Motion:
        """A copy with memory of its own."""
        return Motion(*(getattr(self, name).clone() for name in Motion.__dataclass_fields__))

    def put(self, index: slice, frames: Motion) -> None:
        """Write some of the frames, in place."""
        for name in Motion.__dataclass_fields__:
            getattr(self, name)[index] = getattr(frames, name)


def rest(rotation: Tensor, translation: Tensor) -> Motion:
    """A neutral head at given poses (T, 3, 3) and (T, 3)."""
    frames = len(rotation)
    zeros = torch.zeros(frames, 52, dtype=torch.float64, device=rotation.device)
    return Motion(zeros, rotation, translation, zeros[:, :3].clone(), zeros[:, :4].clone())


@dataclass(frozen=True)
class CameraState:
    """C pinhole cameras at a reference focal length of 1 in the units of the observations,
    float64."""

    rotation: Tensor
    """(C, 3, 3): world to camera."""
    translation: Tensor
    """(C, 3)."""
    log_focal: Tensor
    """(C,): log of focal length over its first guess."""
    free_focal: tuple[bool, ...]
    free_extrinsics: tuple[bool, ...]

    @property
    def unknowns(self) -> int:
        """Camera columns of the border: per camera rotation, translation, focal length where
        free."""
        return sum(self.free_focal) + 6 * sum(self.free_extrinsics)

    @property
    def matrices(self) -> Tensor:
        """(C, 3, 4) projection matrices."""
        scale = torch.ones_like(self.translation)
        scale[:, :2] = self.log_focal.exp()[:, None]
        return scale[:, :, None] * torch.cat([self.rotation, self.translation[:, :, None]], 2)

    def columns(self) -> list[tuple[slice | None, int | None]]:
        """Where each camera's extrinsics (six) and focal length stand among the camera columns."""
        out: list[tuple[slice | None, int | None]] = []
        at = 0
        for extrinsics, focal in zip(self.free_extrinsics, self.free_focal, strict=True):
            where = slice(at, at + 6) if extrinsics else None
            at += 6 if extrinsics else 0
            out.append((where, at if focal else None))
            at += 1 if focal else 0
        return out

    def fixed(self) -> CameraState:
        """The same cameras, nothing unknown."""
        none = (False,) * len(self.free_focal)
        return replace(self, free_focal=none, free_extrinsics=none)


@dataclass(frozen=True)
class State:
    """Everything the energy depends on."""

    identity: Tensor
    """(K,) float64."""
    motion: Motion
    cameras: CameraState


def move(
    model: LandmarkModel, state: State, frames: Tensor, identity: Tensor | None, cameras: Tensor
) -> State:
    """Take a step: frames (T, P) in the order of FrameLayout, identity (K,) or None, camera
    columns."""
    return State(
        identity=state.identity if identity is None else state.identity + identity,
        motion=move_frames(model, state.motion, frames),
        cameras=move_cameras(state.cameras, cameras),
    )


def move_frames(model: LandmarkModel, motion: Motion, step: Tensor) -> Motion:
    """Frames after a step (T, P). Expressions stay inside [0, 1]."""
    layout = FrameLayout(len(model.free))
    eyes = motion.eyes + step[:, layout.eyes]
    expression = motion.expression.clone()
    expression[:, model.free] = (expression[:, model.free] + step[:, layout.expression]).clamp(0, 1)
    expression[:, model.gaze] = gaze_values(model, eyes)[0]
    return Motion(
        expression=expression,
        rotation=motion.rotation @ so3.exp(step[:, layout.rotation]),
        translation=motion.translation + step[:, layout.translation],
        neck=motion.neck + step[:, layout.neck],
        eyes=eyes,
    )


def move_cameras(cameras: CameraState, step: Tensor) -> CameraState:
    """Cameras after a step: T' = exp(w) T, then a shift, in the camera's own frame."""
    if not cameras.unknowns:
        return cameras
    rotation, translation = cameras.rotation.clone(), cameras.translation.clone()
    log_focal = cameras.log_focal.clone()
    for c, (extrinsics, focal) in enumerate(cameras.columns()):
        if extrinsics is not None:
            turn = so3.exp(step[extrinsics][:3])
            rotation[c] = turn @ rotation[c]
            translation[c] = turn @ translation[c] + step[extrinsics][3:]
        if focal is not None:
            log_focal[c] = log_focal[c] + step[focal]
    return replace(cameras, rotation=rotation, translation=translation, log_focal=log_focal)
