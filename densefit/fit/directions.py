"""The directions in which identity and cameras are uncertain, and which of them frames notice."""

from __future__ import annotations

import torch

Tensor = torch.Tensor
UNNOTICED = 1e-3
"""Part of a variance that the directions which are left out may add up to."""


def square_root(covariance: Tensor) -> Tensor:
    """S with S S^T = covariance."""
    if not len(covariance):
        return covariance
    scale = covariance.diagonal().clamp_min(1e-300).sqrt()
    values, vectors = torch.linalg.eigh(covariance / torch.outer(scale, scale))
    return scale[:, None] * vectors * values.clamp_min(0).sqrt()


def noticed(half: Tensor, explained: Tensor, frames: int) -> Tensor:
    """The directions (N, m) of a root (N, N) of the border's covariance that frames notice.

    A direction s moves a take by s^T X^T A^-1 X s in squares of its own deviations. What the
    directions left out add to the variance of an unknown is, by Cauchy and Schwarz, no larger part
    of it than their sum over frames.
    """
    squares, turn = torch.linalg.eigh(half.T @ explained @ half)
    kept = squares.clamp_min(0).cumsum(0) > UNNOTICED * frames
    kept[-1] = True
    return half @ turn[:, kept]
