"""What a network sees wrongly in all pictures of a person: solved for beside identity.

Landmark errors of one take go together (see `noise.py`): a nose seen a little too long is so in
every frame and from every camera. To the fit that looks like shape, and no number of frames or
cameras averages it out. Where it looks unlike people, though, the priors can tell the two apart:
the landmarks' rest positions get displacements

    d = s G z,    z ~ N(0, I),

s a landmark's sigma as a length, G as measured on renders that no network was trained on, and z is
solved for with identity: generalised least squares (Aitken) with the errors' measured covariance
instead of independent errors with larger sigmas. The head that comes out is identity's alone.

To the solver they are modes of identity that move landmarks only: not the joints, nor anything that
could touch teeth or eyes. G is known in the head frame: an eye that turns takes its landmarks
along, but not what they are seen beside them.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from densefit.fit.landmark_model import Eye, LandmarkModel
from densefit.fit.landmark_term import NEAREST
from densefit.fit.linearization import Planes
from densefit.fit.state import CameraState, Motion

Tensor = torch.Tensor


def bias_lengths(
    planes: Planes, points: Tensor, motion: Motion, cameras: CameraState, level: Tensor
) -> Tensor:
    """(L,) float64: standard deviation of a landmark's errors, metres across the view, median over
    the frames; zero where no camera ever sees it.

    Args:
        planes: of T frames. points: (3, L) of the head at rest.
        level: (C,) standard deviation of the errors over the sigma of `planes`.
    """
    turn = cameras.rotation[:, 2] @ motion.rotation
    depth = torch.einsum("tca,al->tcl", turn, points.double())
    shift = motion.translation @ cameras.rotation[:, 2].T + cameras.translation[:, 2]
    depth = (depth + shift[..., None]).clamp_min(NEAREST)
    pixels = (cameras.log_focal.exp() / level)[:, None] / depth
    length = mean_length(planes.precision.double() * pixels.square())
    return torch.where(length > 0, length, torch.nan).nanmedian(0).values.nan_to_num(0.0)


def mean_length(information: Tensor) -> Tensor:
    """(t, L): deviation of which the inverse square is the mean of 1/m^2 (t, C, L) over the cameras
    that see a landmark; zero where none does."""
    seen = (information > 0).sum(1)
    mean = information.sum(1) / seen.clamp_min(1)
    return torch.where(seen > 0, mean.clamp_min(1e-30).rsqrt(), torch.zeros_like(mean))


def with_bias(
    model: LandmarkModel, factor: Tensor, lengths: Tensor, prior_weight: float
) -> LandmarkModel:
    """The head's landmarks with r more modes, those of the bias.

    Args:
        factor: (L, 3, r) G. lengths: (L,) s.
        prior_weight: identity_weight, which all modes share: the columns are scaled by its root.
    """
    columns = factor * (lengths * prior_weight**0.5)[:, None, None]
    columns = columns.permute(2, 1, 0).to(model.dtype)
    rank = len(columns)

    def longer(basis: Tensor) -> Tensor:
        return torch.cat([basis, basis.new_zeros(rank, *basis.shape[1:])])

    def beside(eye: Eye) -> Eye:
        return replace(eye, basis=torch.cat([eye.basis, columns[..., eye.index].flatten(1)]))

    return replace(
        model,
        bias=rank,
        identity=torch.cat([model.identity, columns.flatten(1)]),
        neck_basis=longer(model.neck_basis),
        eyes=(beside(model.eyes[0]), beside(model.eyes[1])),
        contacts=replace(model.contacts, identity=longer(model.contacts.identity)),
    )
