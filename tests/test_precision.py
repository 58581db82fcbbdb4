"""The trial that chooses the arithmetic, and the threads that it runs in."""

from __future__ import annotations

import pytest
import torch

from densefit import precision
from densefit.errors import InputError
from densefit.precision import dtype_name, fastest_dtype, inference_dtype
from densefit.side_by_side import SideBySide

CPU = torch.device("cpu")


@pytest.mark.parametrize("faster", [torch.float32, torch.bfloat16, torch.int8])
def test_the_fastest_is_chosen_once(monkeypatch: pytest.MonkeyPatch, faster: torch.dtype) -> None:
    trials = []

    def convolution(dtype: torch.dtype) -> object:
        trials.append(dtype)
        return lambda: dtype

    monkeypatch.setattr(precision, "_convolution", convolution)
    monkeypatch.setattr(precision, "_seconds", lambda work: 1.0 if work() == faster else 1.5)
    monkeypatch.setattr(precision, "available", lambda: True)
    fastest_dtype.cache_clear()
    try:
        assert inference_dtype("auto", CPU) == faster
        assert inference_dtype("auto", CPU) == faster
        assert sorted(map(str, trials)) == ["torch.bfloat16", "torch.float32", "torch.int8"]
        if faster != torch.int8:
            assert fastest_dtype(CPU) == faster, "training has no int8 to choose"
    finally:
        fastest_dtype.cache_clear()


def test_a_real_trial_leaves_the_threads_as_they_are() -> None:
    before = torch.get_num_threads()
    fastest_dtype.cache_clear()
    assert fastest_dtype(CPU) in (torch.float32, torch.bfloat16)
    assert torch.get_num_threads() == before


def test_what_is_much_slower_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.dtype] = []
    seconds = {torch.float32: 1.2, torch.bfloat16: 10.0, torch.int8: 1.0}

    def timed(dtype: torch.dtype) -> float:
        calls.append(dtype)
        return seconds[dtype]

    monkeypatch.setattr(precision, "_convolution", lambda dtype: lambda: dtype)
    monkeypatch.setattr(precision, "_seconds", lambda work: timed(work()))
    assert precision._trial(tuple(seconds)) == torch.int8
    assert calls.count(torch.bfloat16) == 1 and calls.count(torch.float32) > 1


def test_int8_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "available", lambda: True)
    monkeypatch.setattr(precision, "fastest_dtype", lambda device, dtypes: dtypes[-1])
    assert inference_dtype("auto", CPU) == torch.int8
    assert inference_dtype("auto", CPU, ranges=False) == torch.bfloat16
    with pytest.raises(InputError, match="weights.*earlier version.*--precision float32"):
        inference_dtype("int8", CPU, ranges=False)
    with pytest.raises(InputError, match="int8 on cuda.*--precision float32"):
        inference_dtype("int8", torch.device("cuda"))
    monkeypatch.setattr(precision, "available", lambda: False)
    assert inference_dtype("auto", CPU) == torch.bfloat16
    with pytest.raises(InputError, match="no int8 kernels"):
        inference_dtype("int8", CPU)


def test_what_was_begun_in_int8_goes_on_on_the_cpu() -> None:
    with pytest.raises(InputError, match="--device cpu.*--overwrite"):
        inference_dtype("int8", torch.device("cuda"))


def test_emulated_bfloat16_is_not_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A T4 supports it, if emulation counts."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    fastest_dtype.cache_clear()
    try:
        assert fastest_dtype(torch.device("cuda")) == torch.float32
    finally:
        fastest_dtype.cache_clear()


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
