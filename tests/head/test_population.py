"""The prior's population: the covariance that modes get, and the choice of one Gaussian."""

from __future__ import annotations

import numpy as np

from densefit.head.build.ict import IctModel, population
from densefit.head.build.population import held_out_likelihood, with_statistics_of_people


def small_ict(modes: int = 6) -> IctModel:
    empty = np.zeros((0, 3))
    return IctModel(empty, np.zeros((modes, 1, 3), np.float32), empty, empty, {})


def test_modes_take_over_the_covariance_of_the_people() -> None:
    ict = small_ict()
    fields = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
    modes = with_statistics_of_people(fields, ict, 500).reshape(6, -1)
    people = population(ict, 500)
    shapes = (people - people.mean(0)) @ fields.reshape(6, -1)
    np.testing.assert_allclose(modes.T @ modes, shapes.T @ shapes / 500, rtol=1e-3, atol=1e-4)
    # Clipping takes away a little variance; even and odd seeds are different people.
    assert 0.8 < np.var(people) < 1.0
    others = population(ict, 50, even_seeds=False)
    assert not (others[:, None] == people[None]).all(2).any()


def test_mixture_is_likelier_only_where_there_are_clusters() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(600, 4)), rng.normal(size=(300, 4))
    assert held_out_likelihood(one, other, 1) > held_out_likelihood(one, other, 2)
    exact = -0.5 * (other**2).sum(1).mean() - 2 * np.log(2 * np.pi)
    assert abs(held_out_likelihood(one, other, 1) - exact) < 0.1
    shift = np.array([6.0, 0, 0, 0])
    one[::2] += shift
    other[::2] += shift
    assert held_out_likelihood(one, other, 2) > held_out_likelihood(one, other, 1) + 0.3
