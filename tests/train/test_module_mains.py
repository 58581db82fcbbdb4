"""`python -m densefit.train`, `.mix`, `densefit.synth.render_shards` and `.pack`: what they
refuse, in one line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from densefit.cli import main as densefit
from densefit.errors import InputError, Terminated
from densefit.landmarks.weights import CLOSEUP_WEIGHTS, LANDMARK_WEIGHTS
from densefit.module_main import exit_code, termination_raised
from densefit.synth.pack import main as pack
from densefit.synth.render_shards import main as render
from densefit.train.__main__ import main as train
from densefit.train.mix import main as mix

Main = Callable[[list[str]], int]


@pytest.mark.parametrize(
    ("main", "arguments", "said"),
    [
        (train, ["--data", "EMPTY", "--out", "EMPTY/out"], "no shards"),
        (mix, ["nowhere.safetensors", str(LANDMARK_WEIGHTS), "-o", "EMPTY/out"], "nowhere"),
        (mix, [str(LANDMARK_WEIGHTS), str(CLOSEUP_WEIGHTS), "-o", "EMPTY/out"], "kind closeup"),
        (mix, ["TEXT", str(LANDMARK_WEIGHTS), "-o", "EMPTY/out"], "not a readable file"),
        (render, ["--out", "EMPTY/out", "--environments", "EMPTY"], "no .hdr"),
        (render, ["--out", "EMPTY/out", "--environments", "nowhere"], "no such folder"),
        (render, ["--out", "EMPTY/out", "--model", "TEXT"], "check --model"),
        (render, ["--out", "TEXT"], "TEXT"),
        (pack, ["EMPTY", "-o", "EMPTY/out"], "no pictures"),
    ],
)
def test_wrong_inputs_are_told_in_one_line(
    main: Main, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    text = tmp_path / "README.md"
    text.write_text("# densefit turns ordinary video into heads")
    places = {"EMPTY": str(tmp_path / "empty"), "TEXT": str(text)}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    assert main(arguments) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and places.get(said, said) in lines[0]


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (train, ["--data", "x", "--out", "x", "--batch", "0"]),
        (train, ["--data", "x", "--out", "x", "--minutes", "nan"]),
        (train, ["--data", "x", "--out", "x", "--device", "gpu"]),
        (mix, ["x", "y", "-o", "z", "--share", "1.5"]),
        (render, ["--out", "x", "--batch", "0"]),
        (render, ["--out", "x", "--count", "-3"]),
        (render, ["--out", "x", "--seed", str(2**63)]),
    ],
)
def test_numbers_out_of_range_are_usage_errors(main: Main, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (train, ["--data", "x", "--out", "OUT"]),
        (render, ["--out", "OUT"]),
        (densefit, ["train", "--data", "x", "--out", "OUT"]),
        (densefit, ["synth", "--out", "OUT"]),
        (densefit, ["synth", "--format", "shards", "--out", "OUT"]),
    ],
)
def test_a_gpu_that_is_not_there(
    main: Main, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
    assert main([*arguments, "--device", "cuda"]) == 3
    assert "use --device cpu" in capsys.readouterr().err


def test_termination_is_raised_and_ends_with_its_code() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), termination_raised():
        os.kill(os.getpid(), signal.SIGTERM)
    assert exit_code(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def raises(error: BaseException) -> Callable[[], None]:
        def work() -> None:
            raise error

        return work

    assert exit_code(lambda: None) == 0
    assert exit_code(raises(InputError("so"))) == 3
    assert exit_code(raises(ModuleNotFoundError("x", name="scipy"))) == 3
    assert exit_code(raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "error: so\nerror: the package 'scipy' is not installed\n"
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 / 0)
