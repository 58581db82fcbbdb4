"""The prior's population: people of ICT-FaceKit from even seeds (odd seeds are kept for tests).

Their coefficients are clipped at 2.2 standard deviations, as the model's authors advise, so that
their covariance is not quite the identity. A Gaussian mixture was tried as well; on people of odd
seeds it is no likelier than one Gaussian with full covariance, which is what ships.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from densefit.head.build.ict import IctModel, population

Array = np.ndarray[Any, np.dtype[Any]]

PEOPLE = 8000


def with_statistics_of_people(fields: Array, ict: IctModel, number: int = PEOPLE) -> Array:
    """Modes (100, V, 3) per standard deviation of the even-seed people, from the model's own.

    Args:
        fields: (100, V, 3) the model's modes, carried over by registration.
    """
    factor = np.linalg.cholesky(np.cov(population(ict, number).T, bias=True))
    return np.tensordot(factor.T.astype(np.float32), fields, 1)


def held_out_likelihood(train: Array, test: Array, components: int, seed: int = 0) -> float:
    """Mean log-likelihood per person of (M, K) test coefficients under a Gaussian mixture.

    Expectation maximisation with full covariances, each shrunk a little towards that of everybody.

    Args:
        train: (N, K) coefficients that the mixture is fitted to.
        components: 1 is a single Gaussian.
    """
    rng = np.random.default_rng(seed)
    everybody = np.cov(train.T, bias=True)
    means = train[rng.choice(len(train), components, replace=False)] * (components > 1)
    means = means + train.mean(0) * (components == 1)
    covariances = np.stack([everybody] * components)
    weights = np.full(components, 1 / components)
    for _ in range(1 if components == 1 else 30):
        score = _log_densities(train, means, covariances) + np.log(weights)
        share = np.exp(score - _log_sum(score)[:, None])
        total = share.sum(0) + 1e-9
        weights, means = total / total.sum(), (share.T @ train) / total[:, None]
        for k in range(components):
            gap = train - means[k]
            own = (share[:, k, None] * gap).T @ gap / total[k]
            covariances[k] = 0.95 * own + 0.05 * everybody
    return float(_log_sum(_log_densities(test, means, covariances) + np.log(weights)).mean())


def _log_densities(points: Array, means: Array, covariances: Array) -> Array:
    """(N, components)."""
    out = []
    for mean, covariance in zip(means, covariances, strict=True):
        factor = np.linalg.cholesky(covariance)
        whitened = np.linalg.solve(factor, (points - mean).T)
        constant = np.log(np.diag(factor)).sum() + 0.5 * len(mean) * np.log(2 * np.pi)
        out.append(-0.5 * (whitened**2).sum(0) - constant)
    return np.stack(out, 1)


def _log_sum(score: Array) -> Array:
    top = score.max(1)
    return np.asarray(top + np.log(np.exp(score - top[:, None]).sum(1)))
