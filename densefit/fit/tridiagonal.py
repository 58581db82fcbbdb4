"""Cholesky factor of a block-tridiagonal matrix and what follows from it, linear in the blocks.

A = [D_1 O_1; O_1^T D_2 O_2; ...] = F F^T with F block lower bidiagonal: diagonal blocks L_t and
sub-diagonal blocks W_t^T, where W_t = L_t^-1 O_t and L_t+1 L_t+1^T = D_t+1 - W_t^T W_t; here
O_t = -w_t link. On the CPU the whole matrix is one banded matrix for LAPACK, which spares a call
for each block; elsewhere blocks are factored one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

from densefit.fit import blas

Tensor = torch.Tensor


@dataclass(frozen=True)
class Factor:
    """Blocks of the factor of a matrix with T blocks of size P, float64."""

    lower: Tensor
    """(T, P, P): L_t; what stands above the diagonal means nothing."""
    coupling: Tensor
    """(T - 1, P, P): W_t, zero where two neighbours are not coupled."""
    linked: list[bool]
    """T - 1."""
    band: Tensor | None = None
    """(T P, 2 P): columns of the factor from the diagonal down, on the CPU."""

    @cached_property
    def inverse(self) -> Tensor:
        """(T, P, P): L_t^-1. Many right sides at once are products with it, faster than solving."""
        return _inverse_lower(self.lower)


class NotPositiveDefinite(ArithmeticError):
    """The matrix has no Cholesky factor: damp more."""


def factorize(
    diagonal: Tensor, link: Tensor, weights: Tensor, added: Tensor | None = None
) -> Factor:
    """Factor the matrix with diagonal blocks (T, P, P) and off-diagonal blocks -w_t link.

    Args:
        link: (P, P) symmetric. weights: (T - 1,). added: (T, P) to add to the matrix's diagonal.
    """
    if diagonal.device.type != "cpu":
        return factorize_blocks(diagonal, link, weights, added)
    band = _band_factor(diagonal, link, weights, added)
    lower, below = _blocks(band, diagonal.shape[1])
    return Factor(lower.mT, below[:-1], (weights != 0).tolist(), band)


def factorize_blocks(
    diagonal: Tensor, link: Tensor, weights: Tensor, added: Tensor | None = None
) -> Factor:
    """As `factorize`, block by block, on any device."""
    linked = (weights != 0).tolist()
    if added is not None:
        diagonal = diagonal + torch.diag_embed(added)
    lower = torch.empty_like(diagonal)
    coupling = diagonal.new_zeros(len(weights), *link.shape)
    block = diagonal[0]
    for t in range(len(diagonal)):
        own, info = torch.linalg.cholesky_ex(block)
        if int(info):
            raise NotPositiveDefinite
        lower[t] = own
        if t + 1 == len(diagonal):
            break
        block = diagonal[t + 1]
        if linked[t]:
            torch.linalg.solve_triangular(own, -weights[t] * link, upper=False, out=coupling[t])
            block = torch.addmm(block, coupling[t].mT, coupling[t], alpha=-1)
    return Factor(lower, coupling, linked)


def _band_factor(diagonal: Tensor, link: Tensor, weights: Tensor, added: Tensor | None) -> Tensor:
    """The factor in LAPACK's lower banded storage (T P, 2 P): row j holds column j from its
    diagonal down."""
    count, size = diagonal.shape[:2]
    band = torch.empty(count * size, 2 * size, dtype=torch.float64)
    own, below = _blocks(band, size)
    # Entries left of the diagonal of `own` lie in the row above's last ones: zero, or written next.
    # So all is written but what lies below the last block, and the last row's end of each.
    band[-size:] = 0
    band.view(count, size, 2 * size)[:, -1, size + 1 :] = 0
    torch.mul(diagonal, torch.ones_like(link).triu(), out=own)
    torch.mul(link, -weights[:, None, None], out=below[:-1])
    if added is not None:
        band[:, 0] += added.reshape(-1)
    try:
        with blas.one_thread():
            out = cholesky_banded(band.numpy().T, overwrite_ab=True, lower=True, check_finite=False)
    except LinAlgError as error:
        raise NotPositiveDefinite from error
    return torch.from_numpy(out.T)


def _blocks(band: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Views (T, P, P) of banded storage: the diagonal blocks and those below them, transposed."""
    count, step = len(band) // size, 2 * size - 1
    shape, stride = (count, size, size), (2 * size * size, step, 1)
    return band.as_strided(shape, stride), band.as_strided(shape, stride, size)


def solve(factor: Factor, right: Tensor) -> Tensor:
    """A^-1 b for b (T, P)."""
    if factor.band is None:
        return backward(factor, forward(factor, right[..., None]))[..., 0]
    band = factor.band.numpy().T
    with blas.one_thread():
        out = cho_solve_banded((band, True), right.reshape(-1).numpy(), check_finite=False)
    return torch.from_numpy(out).reshape(right.shape)


def forward(factor: Factor, right: Tensor) -> Tensor:
    """F^-1 b for b (T, P, m), in b's precision."""
    inverse, coupling = factor.inverse.to(right.dtype), factor.coupling.to(right.dtype)
    out = inverse @ right
    carry = (inverse[1:] @ coupling.mT).neg_()
    for t, linked in enumerate(factor.linked):
        if linked:
            out[t + 1].addmm_(carry[t], out[t])
    return out


def backward(factor: Factor, right: Tensor) -> Tensor:
    """F^-T b for b (T, P, m), in b's precision."""
    inverse, coupling = factor.inverse.to(right.dtype).mT, factor.coupling.to(right.dtype)
    out = inverse @ right
    carry = (inverse[:-1] @ coupling).neg_()
    for t in reversed(range(len(carry))):
        if factor.linked[t]:
            out[t].addmm_(carry[t], out[t + 1])
    return out


def inverse_diagonal(factor: Factor) -> Tensor:
    """Diagonals (T, P) of the diagonal blocks of the inverse of the factored matrix.

    From the last block up the inverse's blocks are S_t = L_t^-T (1 + W_t S_t+1 W_t^T) L_t^-1
    (Takahashi, Fagan, Chin 1973; of a Kalman filter's, the smoother of Rauch, Tung and Striebel).
    """
    out = factor.inverse.mT @ factor.inverse
    carries = (factor.inverse[:-1].mT @ factor.coupling).unbind()
    blocks = out.unbind()
    for t in reversed(range(len(carries))):
        if factor.linked[t]:
            blocks[t].addmm_(carries[t] @ blocks[t + 1], carries[t].mT)
    return out.diagonal(dim1=1, dim2=2).clone()


def _inverse_lower(lower: Tensor) -> Tensor:
    unit = torch.eye(lower.shape[1], dtype=lower.dtype, device=lower.device).expand(lower.shape)
    return torch.linalg.solve_triangular(lower, unit, upper=False)
