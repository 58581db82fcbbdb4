"""All terms of the energy but the landmarks: quadratic priors and smoothness in time.

Each is quadratic in the step (rotations to first order), so that its matrices are made once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from densefit.fit import so3
from densefit.fit.camera_prior import CameraPrior
from densefit.fit.landmark_model import LandmarkModel
from densefit.fit.options import FitOptions
from densefit.fit.state import FrameLayout, Motion
from densefit.head.model import BLINKS, EXPRESSION_NAMES

Tensor = torch.Tensor
TINY_SHAPE = 1e-9
"""m^2 on the diagonal of the expressions' Gram matrix: shapes that move no vertex stay defined."""


@dataclass(frozen=True)
class Told:
    """What the deformations cost that the landmarks of one camera tell (see `distance.py`)."""

    expression: float
    """Of a frame, in the mean."""
    identity: float
    """Of the take, before the prior grows with its frames."""

    def share(self, frames: int, options: FitOptions) -> float:
        """n of E_distance, of one of so many frames; identity's part grows as its prior does."""
        growth = max(1.0, frames / options.identity_frames)
        return options.distance_weight * (self.expression + self.identity * growth / frames)


@dataclass(frozen=True)
class Outward:
    """E_distance = - sum_t share_t log |translation_t - viewpoint| (see `distance.py`)."""

    share: Tensor
    """(T,)."""
    viewpoint: Tensor
    """(3,) metres, world."""


@dataclass(frozen=True)
class Priors:
    """Precision matrices, float64."""

    frame: Tensor
    """(P, P): of one frame's expression, neck and eyes about zero."""
    rest: Tensor
    """(P,): slope of the cost of an expression, which is linear from rest on."""
    link: Tensor
    """(P, P): of the change between neighbouring frames, times their distance in seconds."""
    link_weights: Tensor
    """(T - 1,): 1/seconds, zero where neighbours are not linked."""
    identity_weight: float
    cameras: CameraPrior
    contact_sd: float = math.inf
    """Depth (m) of an intersection that costs one half; inf: no such term."""
    outward: Outward | None = None
    """Where one camera alone sees the head."""


def expression_deviations(deviations: Mapping[str, float]) -> list[float]:
    """s_e of the 52 expressions from a table by name, with or without Left/Right."""
    plain = [name.removesuffix("Left").removesuffix("Right") for name in EXPRESSION_NAMES]
    # jawLeft, mouthRight and their like are shapes of their own: the full name comes first.
    return [
        deviations.get(n, deviations.get(p, 0.25))
        for n, p in zip(EXPRESSION_NAMES, plain, strict=True)
    ]


def expression_precision(options: FitOptions) -> Tensor:
    """(52, 52): sum (psi_e / s_e)^2 + sum over pairs ((psi_left - psi_right) / s_asymmetry)^2."""
    sd = torch.tensor(expression_deviations(options.expression_sd), dtype=torch.float64)
    precision = torch.diag(sd**-2)
    pull = options.asymmetry_sd**-2 if math.isfinite(options.asymmetry_sd) else 0.0
    for i, name in enumerate(EXPRESSION_NAMES):
        twin = name.removesuffix("Left") + "Right"
        if (
            not name.endswith("Left")
            or name in ("jawLeft", "mouthLeft")
            or twin not in EXPRESSION_NAMES
        ):
            continue
        j = EXPRESSION_NAMES.index(twin)
        precision[[i, j], [i, j]] += pull
        precision[[i, j], [j, i]] -= pull
    return options.expression_weight * precision


def expression_slopes(options: FitOptions) -> Tensor:
    """(52,): the part of the cost of an expression that is linear from rest on."""
    sd = torch.tensor(expression_deviations(options.expression_sd), dtype=torch.float64)
    return options.expression_weight * options.expression_rest / sd


def expression_rates(options: FitOptions) -> Tensor:
    """(52,): deviation of an expression's change in a second, per sqrt(s)."""
    rates = torch.full((len(EXPRESSION_NAMES),), options.expression_rate, dtype=torch.float64)
    rates[list(BLINKS)] = options.blink_rate
    return rates


def eye_precision(options: FitOptions) -> Tensor:
    """(4, 4) of (left x, left y, right x, right y): a common direction, and small differences."""
    precision = torch.zeros(4, 4, dtype=torch.float64)
    for left, right, difference in (
        (0, 2, options.eye_vertical_sd),
        (1, 3, options.eye_vergence_sd),
    ):
        mean, apart = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
        mean[left] = mean[right] = 0.5
        apart[left], apart[right] = 1.0, -1.0
        precision += (
            torch.outer(mean, mean) / options.eye_sd**2 + torch.outer(apart, apart) / difference**2
        )
    return precision


def link_weights(
    time: Tensor, independent: bool, max_gap: float, shot: Tensor | None = None
) -> Tensor:
    """1/dt between neighbouring frames (T - 1,), zero across gaps and for frames without order.

    Args:
        shot: (T,) number of the shot each frame belongs to; zero between shots too.
    """
    dt = time[1:] - time[:-1]
    linked = (dt <= max_gap * (1 + 1e-6)) & (dt > 0)
    if shot is not None:
        linked &= shot[1:] == shot[:-1]
    return torch.where(linked, 1 / dt.clamp_min(1e-6), torch.zeros_like(dt)) * (
        0.0 if independent else 1.0
    )


def make_priors(
    model: LandmarkModel,
    options: FitOptions,
    time: Tensor,
    seen_frames: int,
    cameras: CameraPrior,
    shot: Tensor | None = None,
) -> Priors:
    """Precisions of all terms.

    Args:
        time: (T,) s. seen_frames: frames with landmarks, for the growth of the identity prior.
        shot: (T,) numbers of the shots between cuts.
        cameras: of one frame; like identity's it grows with the frames.
    """
    layout = FrameLayout(len(model.free))
    device = time.device
    frame = torch.zeros(layout.size, layout.size, dtype=torch.float64, device=device)
    pick = model.free.cpu()
    frame[layout.expression, layout.expression] = expression_precision(options)[pick][:, pick].to(
        device
    )
    eye = torch.eye(3, dtype=torch.float64, device=device)
    frame[layout.neck, layout.neck] = eye / options.neck_sd**2
    frame[layout.eyes, layout.eyes] = eye_precision(options).to(device)
    rest = torch.zeros(layout.size, dtype=torch.float64, device=device)
    rest[layout.expression] = expression_slopes(options)[pick].to(device)
    link = torch.zeros_like(frame)
    gram = model.vertex_gram[model.free][:, model.free]
    gram = gram + TINY_SHAPE * torch.eye(len(gram), dtype=torch.float64, device=device)
    single = torch.diag(expression_rates(options)[pick] ** -2).to(device)
    link[layout.expression, layout.expression] = gram / options.shape_rate**2 + single
    link[layout.rotation, layout.rotation] = eye / options.rotation_rate**2
    link[layout.translation, layout.translation] = eye / options.translation_rate**2
    link[layout.neck, layout.neck] = eye / options.neck_rate**2
    link[layout.eyes, layout.eyes] = (
        torch.eye(4, dtype=torch.float64, device=device) / options.eye_rate**2
    )
    growth = max(1.0, seen_frames / options.identity_frames)
    return Priors(
        frame=frame,
        rest=rest,
        link=options.temporal_weight * link,
        link_weights=link_weights(time, options.independent_frames, options.max_gap, shot),
        identity_weight=options.identity_weight * growth,
        cameras=cameras.narrowed(growth),
        contact_sd=options.contact_sd,
    )


def frame_values(model: LandmarkModel, motion: Motion) -> Tensor:
    """(T, P): the unknowns of each frame as the priors see them; zero for rotation and
    translation."""
    frames = len(motion)
    zero = torch.zeros(frames, 6, dtype=torch.float64, device=motion.neck.device)
    return torch.cat([motion.expression[:, model.free], zero, motion.neck, motion.eyes], 1)


def frame_changes(model: LandmarkModel, motion: Motion) -> Tensor:
    """(T - 1, P): change from each frame to the next; of the rotation, log(R_t^T R_t+1)."""
    layout = FrameLayout(len(model.free))
    values = frame_values(model, motion)
    change = values[1:] - values[:-1]
    change[:, layout.rotation] = so3.log(motion.rotation[:-1].mT @ motion.rotation[1:])
    change[:, layout.translation] = motion.translation[1:] - motion.translation[:-1]
    return change


def motion_prior(model: LandmarkModel, priors: Priors, motion: Motion) -> tuple[Tensor, Tensor]:
    """Cost and its gradient (T, P) of E_expression + E_joints + E_temporal (+ E_distance).

    For e = log(R_a^T R_b), the gradient of |e|^2 / 2 by small rotations of b and a is e and -e
    exactly: e is an eigenvector of the Jacobian of the logarithm.
    """
    values = frame_values(model, motion)
    gradient = values @ priors.frame
    cost = 0.5 * (values * gradient).sum() + (values @ priors.rest).sum()
    gradient = gradient + priors.rest
    if len(motion) > 1:
        change = frame_changes(model, motion)
        pull = (change @ priors.link) * priors.link_weights[:, None]
        gradient = gradient + _on_both(pull)
        cost = cost + 0.5 * (change * pull).sum()
    if priors.outward is not None:
        layout = FrameLayout(len(model.free))
        more, slope = outward_term(priors.outward, motion)
        cost = cost + more
        gradient[:, layout.translation] += slope
    return cost, gradient


def linked(priors: Priors, step: Tensor) -> Tensor:
    """(T, P): second derivative of E_temporal times a step (T, P)."""
    return _on_both(((step[1:] - step[:-1]) @ priors.link) * priors.link_weights[:, None])


def _on_both(pull: Tensor) -> Tensor:
    """What pulls (T - 1, P) on changes between frames are on the frames, (T, P)."""
    out = pull.new_zeros(len(pull) + 1, pull.shape[1])
    out[1:] += pull
    out[:-1] -= pull
    return out


def outward_term(outward: Outward, motion: Motion) -> tuple[Tensor, Tensor]:
    """E_distance, and its gradient (T, 3) by the translations; its curvature, n / d^2, is next to
    nothing beside the landmarks'."""
    away = motion.translation - outward.viewpoint
    squared = away.square().sum(1).clamp_min(1e-12)
    cost = -0.5 * (outward.share * squared.log()).sum()
    return cost, -(outward.share / squared)[:, None] * away


def motion_prior_diagonal(priors: Priors, frames: int, blocks: Tensor | None = None) -> Tensor:
    """(T, P, P): diagonal blocks of the second derivative of `motion_prior`.

    Args:
        blocks: (T, P, P) of other terms to add.
    """
    total = torch.zeros(frames, dtype=torch.float64, device=priors.frame.device)
    total[1:] += priors.link_weights
    total[:-1] += priors.link_weights
    # Passes over so much memory count: no sum is laid down for the next one to read.
    if blocks is None:
        return (total[:, None, None] * priors.link).add_(priors.frame)
    return torch.addcmul(blocks, total[:, None, None], priors.link).add_(priors.frame)
