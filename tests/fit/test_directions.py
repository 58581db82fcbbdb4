"""Deviations of a long take follow the directions of identity that frames notice."""

import torch

from densefit.fit.directions import UNNOTICED, noticed


def test_directions_left_out_change_no_variance():
    g = torch.Generator().manual_seed(1)
    frames, unknowns, modes = 6, 4, 9
    cross = torch.randn(frames, unknowns, modes, generator=g, dtype=torch.float64)
    cross = cross * 10.0 ** -torch.arange(modes)  # ever less to be seen
    half = torch.randn(modes, modes, generator=g, dtype=torch.float64)
    root = torch.randn(frames, unknowns, unknowns, generator=g, dtype=torch.float64)
    inverse = torch.linalg.inv(root @ root.mT + torch.eye(unknowns))
    explained = torch.einsum("tpn,tpq,tqm->nm", cross, inverse, cross)
    few = noticed(half, explained, frames)
    assert 0 < few.shape[1] < modes

    def variance(columns):
        own = inverse.diagonal(dim1=1, dim2=2)
        return own + (inverse @ cross @ columns).square().sum(2)

    lost = 1 - variance(few) / variance(half)
    assert -1e-12 < float(lost.min()) and float(lost.max()) < frames * UNNOTICED
