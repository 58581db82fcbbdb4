"""The trial that chooses between float32 and bfloat16, and the threads that it runs in."""

from __future__ import annotations

import pytest
import torch

from densefit import precision
from densefit.precision import dtype_name, fastest_dtype, inference_dtype
from densefit.side_by_side import SideBySide

CPU = torch.device("cpu")


@pytest.mark.parametrize("faster", [torch.float32, torch.bfloat16])
def test_the_faster_is_chosen_once(monkeypatch: pytest.MonkeyPatch, faster: torch.dtype) -> None:
    trials = []

    def convolution(dtype: torch.dtype) -> object:
        trials.append(dtype)
        return lambda: dtype

    monkeypatch.setattr(precision, "_convolution", convolution)
    monkeypatch.setattr(precision, "_seconds", lambda work: 1.0 if work() == faster else 1.5)
    fastest_dtype.cache_clear()
    try:
        assert fastest_dtype(CPU) == faster
        assert inference_dtype("auto", CPU) == faster
        assert sorted(map(str, trials)) == ["torch.bfloat16", "torch.float32"]
    finally:
        fastest_dtype.cache_clear()


def test_a_real_trial_leaves_the_threads_as_they_are() -> None:
    before = torch.get_num_threads()
    fastest_dtype.cache_clear()
    assert fastest_dtype(CPU) in (torch.float32, torch.bfloat16)
    assert torch.get_num_threads() == before


def test_what_is_asked_for_is_taken() -> None:
    assert inference_dtype("float32", CPU) == torch.float32
    assert inference_dtype("bfloat16", CPU) == torch.bfloat16
    assert inference_dtype("auto", torch.device("cuda")) == torch.float32
    assert dtype_name(torch.bfloat16) == "bfloat16"


def test_pieces_side_by_side_come_back_in_order() -> None:
    before = torch.get_num_threads()
    aside = SideBySide(2, 1)
    assert torch.get_num_threads() == before
    assert aside.map(lambda piece: (piece, torch.get_num_threads()), range(6)) == [
        (i, 1) for i in range(6)
    ]
    with pytest.raises(ZeroDivisionError):
        aside.map(lambda piece: 1 / piece, [1, 0, 2])
    aside.close()
