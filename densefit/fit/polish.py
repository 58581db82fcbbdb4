"""Newton steps of identity and cameras over all frames of one or more long takes.

Each take sums the Schur complements of its windows (`windows.py`); after a step its motion is
solved again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from densefit.fit.inverse import Deviations
from densefit.fit.state import State
from densefit.fit.windows import LongSolution, Windows

Tensor = torch.Tensor

SETTLED, SETTLED_WITH_CAMERAS = 1e-4, 3e-5
"""m: mean movement of the landmarks by a step of identity after which no other is needed: another
would move them by a twentieth of it, by more where cameras move, too."""
ROUNDS = 3


def solve_together(
    takes: list[Windows], states: list[State], fresh: list[bool], rounds: int = ROUNDS
) -> list[LongSolution]:
    """Motion of all frames of one or more takes of one person, their cameras, and one identity.

    Args:
        states: starts; their identities are averaged.
        fresh: by take, whether its motion is no more than first poses.
    """
    modes = takes[0].modes
    seen = sum(take.seen for take in takes)
    if modes:
        weights = torch.tensor([take.seen / seen for take in takes], dtype=torch.float64)
        identity = torch.einsum("n,nk->k", weights, torch.stack([s.identity for s in states]))
        states = [replace(state, identity=identity) for state in states]
    states = [
        take.motion(state, new, 0.0, 0.6)
        for take, state, new in zip(takes, states, fresh, strict=True)
    ]
    index = _border_index(states, modes)
    total = modes + sum(state.cameras.unknowns for state in states)
    weight = takes[0].data.priors(np.zeros(1, int), seen).identity_weight
    covariance = torch.zeros(total, total, dtype=torch.float64)
    for turn in range(rounds if total else 0):
        matrix = torch.zeros(total, total, dtype=torch.float64)
        slope = torch.zeros(total, dtype=torch.float64)
        matrix.diagonal()[:modes] += weight
        slope[:modes] += weight * states[0].identity[:modes]
        for take, state, own in zip(takes, states, index, strict=True):
            part = take.reduced(state)
            matrix[own[:, None], own] += part.matrix
            slope[own] += part.slope
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        step = -covariance @ slope
        begun = 0.6 + 0.3 * turn / rounds
        states = [
            take.motion(take.moved(state, step[own]), False, begun, begun + 0.3 / rounds)
            for take, state, own in zip(takes, states, index, strict=True)
        ]
        if takes[0].movement(step[:modes]) < (SETTLED_WITH_CAMERAS if total > modes else SETTLED):
            break
    out = []
    for take, state, own in zip(takes, states, index, strict=True):
        border = covariance[own[:, None], own]
        frames = take.deviations(state, border)
        spread = Deviations(frames, border.diagonal().clamp_min(0).sqrt(), border)
        out.append(LongSolution(state, spread))
    return out


def _border_index(states: list[State], modes: int) -> list[Tensor]:
    """Where each take's border (identity, own cameras) stands among all unknowns."""
    out, at = [], modes
    for state in states:
        own = torch.arange(at, at + state.cameras.unknowns)
        out.append(torch.cat([torch.arange(modes), own]))
        at += state.cameras.unknowns
    return out
