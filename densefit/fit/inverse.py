"""The inverse of the whole matrix at the minimum, by its parts.

With A the frames' block-tridiagonal matrix, X the cross blocks, Y = A^-1 X and S the Schur
complement of the border,

    H^-1 = [ A^-1 + Y S^-1 Y^T   -Y S^-1 ]
           [   -S^-1 Y^T           S^-1  ].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from densefit.fit import tridiagonal
from densefit.fit.linearization import Linearization
from densefit.fit.newton_step import damped, damping_of
from densefit.fit.priors import Priors
from densefit.fit.products import products, symmetric_products

Tensor = torch.Tensor
DAMPING = (0.0, 1e-6, 1e-4, 1e-2, 1.0)
"""Where rounding leaves a direction without curvature, a little damping bounds its deviation."""


@dataclass(frozen=True)
class Deviations:
    """Posterior standard deviations of all unknowns (Laplace's approximation, bounds ignored)."""

    frames: Tensor
    """(T, P)."""
    border: Tensor
    """(N,)."""
    border_covariance: Tensor
    """(N, N)."""


@dataclass(frozen=True)
class ScoreCovariance:
    """M of H^-1 M H^-1 in the blocks of a Linearization; between frames it has priors' links."""

    diagonal: Tensor
    """(T, P, P)."""
    cross: Tensor
    """(T, P, N)."""
    border: Tensor
    """(N, N)."""
    shared_frames: Tensor
    """(T, P, r): M has R R^T beside its blocks, with these rows R, and those of the border."""
    shared_border: Tensor
    """(N, r)."""


@dataclass(frozen=True)
class Inverse:
    """What the inverse is made of."""

    system: Linearization
    priors: Priors
    added: Tensor
    """(T, P), to the diagonal of A."""
    factor: tridiagonal.Factor
    """Of A."""
    follow: Tensor
    """(T, P, N): Y, in the precision of X."""
    lower: Tensor
    """(N, N): Cholesky factor of S."""

    @staticmethod
    def of(system: Linearization, priors: Priors, stiffness: Tensor | None = None) -> Inverse:
        """Of a system with so much (T, P) added to the diagonal of A.

        Raises NotPositiveDefinite where not even strong damping helps.
        """
        for damping in DAMPING:
            try:
                return _inverse(system, priors, stiffness, damping)
            except tridiagonal.NotPositiveDefinite:
                continue
        raise tridiagonal.NotPositiveDefinite

    @property
    def response(self) -> Tensor:
        """(T, P, N): what a step of the border's unknowns by themselves takes from the frames."""
        dolly = self.system.dolly
        return self.follow if dolly is None else dolly.unmixed(self.follow)

    def columns(self, frames: Tensor, border: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse times some columns, frames (T, P, m) and border (N, m), float64."""
        factor, cross = self.factor, self.system.cross.double()
        alone = tridiagonal.backward(factor, tridiagonal.forward(factor, frames))
        if not len(border):
            return alone, border
        left = border - torch.einsum("tpn,tpm->nm", cross, alone)
        steps = torch.cholesky_solve(left, self.lower)
        follow = tridiagonal.forward(factor, cross @ steps)
        return alone - tridiagonal.backward(factor, follow), steps

    def deviations(self) -> Deviations:
        """Square roots of the diagonal."""
        variance = tridiagonal.inverse_diagonal(self.factor)
        if not len(self.lower):
            none = variance.new_zeros(0)
            return Deviations(variance.clamp_min(0).sqrt(), none, none[:, None])
        covariance = torch.cholesky_inverse(self.lower)
        unit = torch.eye(len(self.lower), dtype=torch.float64, device=self.lower.device)
        root = torch.linalg.solve_triangular(self.lower, unit, upper=False).T
        inherited = (self.response @ root.to(self.follow.dtype)).square().sum(2)
        return Deviations(
            (variance + inherited).clamp_min(0).sqrt(),
            covariance.diagonal().clamp_min(0).sqrt(),
            covariance,
        )

    def sandwich(self, score: ScoreCovariance, step: float) -> tuple[Tensor, Tensor]:
        """Of H^-1 M H^-1, without what frames share, the diagonal (T, P) of the frames and the
        block (N, N) of the border.

        Args:
            step: as `_alone`'s.
        """
        frames, follow, dtype = self._alone(score, step), self.follow, self.follow.dtype
        if not len(self.lower):
            return frames, score.border
        cross = score.cross.to(dtype)
        pulled = self._scattered(score, follow)
        mixed = products(follow, cross)
        matrix = score.border - mixed - mixed.T + products(follow, pulled)
        inverse = torch.cholesky_inverse(self.lower)
        border = inverse @ (0.5 * (matrix + matrix.T)) @ inverse
        alone = tridiagonal.forward(self.factor, pulled - cross)
        alone = tridiagonal.backward(self.factor, alone)
        response = self.response
        rows = 2 * (alone @ inverse.to(dtype)) + response @ border.to(dtype)
        return frames + (rows * response).sum(2), border

    def _alone(self, score: ScoreCovariance, step: float) -> Tensor:
        """Diagonal (T, P) of A^-1 M A^-1: minus the derivative by e of that of (A + e M)^-1, from
        two more factorizations.

        Args:
            step: e, made smaller where A - e M is no longer positive definite.
        """

        def moved(e: float) -> Tensor:
            diagonal, link = self.system.diagonal + e * score.diagonal, (1 + e) * self.priors.link
            weights = self.priors.link_weights
            factor = tridiagonal.factorize(diagonal, link, weights, self.added)
            return tridiagonal.inverse_diagonal(factor)

        for e in (step, 0.1 * step, 0.01 * step):
            try:
                return (moved(-e) - moved(e)) / (2 * e)
            except tridiagonal.NotPositiveDefinite:
                continue
        raise tridiagonal.NotPositiveDefinite

    def _scattered(self, score: ScoreCovariance, columns: Tensor) -> Tensor:
        """M of the frames times columns (T, P, N), in their precision."""
        dtype = columns.dtype
        out = score.diagonal.to(dtype) @ columns
        linked = self.priors.link.to(dtype) @ columns
        weights = self.priors.link_weights.to(dtype)[:, None, None]
        out[:-1] -= weights * linked[1:]
        out[1:] -= weights * linked[:-1]
        return out


def _inverse(
    system: Linearization, priors: Priors, stiffness: Tensor | None, damping: float
) -> Inverse:
    added = damping_of(system.diagonal.diagonal(dim1=1, dim2=2), damping)
    if stiffness is not None:
        added = added + stiffness
    factor = tridiagonal.factorize(system.diagonal, priors.link, priors.link_weights, added)
    cross = system.cross
    if not cross.shape[2]:
        return Inverse(system, priors, added, factor, cross, system.border)
    whitened = tridiagonal.forward(factor, cross)
    schur = damped(system.border, damping) - symmetric_products(whitened, whitened)
    lower, info = torch.linalg.cholesky_ex(schur)
    if int(info):
        raise tridiagonal.NotPositiveDefinite
    follow = tridiagonal.backward(factor, whitened)
    return Inverse(system, priors, added, factor, follow, lower)


def deviations(system: Linearization, priors: Priors) -> Deviations:
    """Standard deviations at the minimum."""
    return Inverse.of(system, priors).deviations()
