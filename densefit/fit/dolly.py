"""Dolly zoom: the unknown focal length of a camera that is alone takes the heads along.

A longer lens shows next to the same picture of a head that is farther away by as much. Told by the
focal length alone, nearly all that its pictures say is about that, and what is left once the heads'
distances have been eliminated is a matter of the last digits of a float32. So the unknown is the
move that film makers call a dolly zoom: log focal length by a, and every head's depth times exp(a).
A landmark at depth z of a head at depth Z then moves by x (1 - Z / z) instead of x, a tenth of it
and seen as easily in float32 as in float64; steps are longer for the same reason, as damping goes
by an unknown's own curvature.

With D how far the heads move, the blocks of Linearization are those of T' H T and T' g, T = [I D;
0 1]. The Schur complement and its inverse, the covariance of the border, are what they would be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from densefit.fit.geometry import Posed
from densefit.fit.landmark_model import LandmarkModel
from densefit.fit.priors import Priors, linked
from densefit.fit.state import CameraState, FrameLayout, Motion, State, move

Tensor = torch.Tensor


@dataclass(frozen=True)
class Dolly:
    """T heads before one camera of unknown focal length, the last unknown of the border."""

    depth: Tensor
    """(T,) metres: of the middle of a head's landmarks."""
    axis: Tensor
    """(3,): the way the camera looks, world."""
    layout: FrameLayout

    @staticmethod
    def of(model: LandmarkModel, state: State) -> Dolly | None:
        """None where the focal length is known, or the head's place is told by more than it."""
        cameras, motion = state.cameras, state.motion
        if not alone(cameras):
            return None
        axis = cameras.rotation[0, 2]
        middle = motion.rotation @ model.template.double().mean(1) + motion.translation
        depth = middle @ axis + cameras.translation[0, 2]
        return Dolly(depth, axis, FrameLayout(len(model.free)))

    @property
    def shift(self) -> Tensor:
        """D (T, P): how far the unknowns of the heads go with the log focal length."""
        out = self.depth.new_zeros(len(self.depth), self.layout.size)
        out[:, self.layout.translation] = self.depth[:, None] * self.axis
        return out

    def relief(self, part: slice, inverse_depth: Tensor) -> Tensor:
        """1 - Z / z (t, L) of some frames' landmarks at 1 / z (t, L)."""
        return 1 - self.depth[part, None].to(inverse_depth.dtype) * inverse_depth

    def column(self, part: slice, posed: Posed, inverse_depth: Tensor) -> Tensor:
        """(t, 3, L): moves of some frames' landmarks, head frame, that look like the unknown's."""
        nearer = (
            self.depth[part, None].to(inverse_depth.dtype)
            - inverse_depth.clamp_min(1e-9).reciprocal()
        )
        axis = posed.head_rotation.mT @ self.axis.to(inverse_depth.dtype)
        return axis[..., None] * nearer[:, None]

    def prior_columns(self, priors: Priors) -> tuple[Tensor, Tensor]:
        """What the links between frames add to the cross blocks' last column, (T, P), and to the
        border's last diagonal entry: heads that keep their distance feel nothing of them."""
        pull = linked(priors, self.shift)
        return pull, (pull * self.shift).sum()

    def unmixed(self, columns: Tensor) -> Tensor:
        """Y (T, P, N) = A^-1 X of the focal length by itself, from that of the move."""
        out = columns.clone()
        out[..., -1] -= self.shift.to(columns.dtype)
        return out


def alone(cameras: CameraState) -> bool:
    """One camera, of which nothing but the focal length is unknown."""
    return cameras.free_focal == (True,) and cameras.free_extrinsics == (False,)


def carried(model: LandmarkModel, state: State, cameras: Tensor) -> Motion:
    """Where the heads are after a step of the cameras' unknowns."""
    dolly, motion = Dolly.of(model, state), state.motion
    if dolly is None:
        return motion
    away = (dolly.depth * torch.expm1(cameras[-1]))[:, None] * dolly.axis
    return replace(motion, translation=motion.translation + away)


def move_together(
    model: LandmarkModel, state: State, frames: Tensor, identity: Tensor | None, cameras: Tensor
) -> State:
    """A step of a Linearization's unknowns: `state.move`, and heads go with a focal length."""
    before = replace(state, motion=carried(model, state, cameras))
    return move(model, before, frames, identity, cameras)
