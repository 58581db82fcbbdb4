"""Every way a command can end has its exit code and a message for a person."""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import densefit
from calibration import CalibrationError
from densefit.cli import main
from densefit.errors import DensefitError, InputError, QualityError, UsageError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"densefit {densefit.__version__}\n"


def commands() -> list[str]:
    """As a user types them, those of groups and the groups too."""
    from densefit.cli.app import COMMANDS, GROUPS

    grouped = {group: importlib.import_module(module) for group, module in GROUPS.items()}
    return [
        *COMMANDS,
        *GROUPS,
        *(f"{group} {name}" for group in grouped for name in grouped[group].COMMANDS),
    ]


@pytest.mark.parametrize("command", commands())
def test_help_of_every_command_shows_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--help"]) == 0
    assert f"Example: densefit {command} " in capsys.readouterr().out + " "


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("predict", "fit-rig", "export", "demo", "doctor", "synth", "train", "rig"):
        assert re.search(rf"^  {command} ", out, re.MULTILINE), command


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["--no-such-option"],
        ["rig", "convert"],
        ["rig", "convert", "a", "b", "--units", "inch"],
        ["fit-rig", "take.yaml", "-o", "out", "--every", "0"],
        ["fit-rig", "take.yaml", "-o", "out", "--start", "5x"],
        ["fit-rig", "take.yaml", "-o", "out", "--end", "-1"],
        ["fit-rig", "take.yaml", "-o", "out", "--face", "track 0"],
        ["fit-rig", "take.yaml", "-o", "out", "--device", "tpu"],
        ["fit-rig", "take.yaml", "-o", "out", "--threads", "0"],
        ["fit-rig", "take.yaml"],
        ["predict", "take.yaml", "-o", ""],
        ["synth", "-o", "out", "--size", "32"],
        ["export", "out", "--subdivide", "4"],
        ["export", "out", "-f", "glb,usd"],
    ],
)
def test_usage_errors_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DensefitError("what"), 1),
        (UsageError("what"), 2),
        (InputError("what"), 3),
        (QualityError("what"), 4),
        (CalibrationError("what"), 3),
        (OSError(errno.ENOSPC, "No space left on device", "what"), 3),
        (PermissionError(errno.EACCES, "Permission denied", "what"), 3),
        (ModuleNotFoundError("No module named 'what'", name="what"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_deliberate_errors(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr("densefit.cli.app.run", fail)
    assert main([]) == code
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "Traceback" not in message
    if code != 130:
        assert message.startswith("error: ")
        assert "what" in message


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("what"),
        ModuleNotFoundError("No module named 'densefit.what'", name="densefit.what"),
    ],
)
def test_our_own_faults_name_a_log_with_the_traceback(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr("densefit.cli.app.run", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main([]) == 1
    (log,) = tmp_path.iterdir()
    assert str(log) in capsys.readouterr().err
    text = log.read_text()
    assert "Traceback" in text
    assert "what" in text
    assert densefit.__version__ in text


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(densefit.__file__).parent.parent)},
        check=False,
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from densefit.cli import main; main(['--help']);"
        "print(*[m for m in ('torch', 'cv2', 'open3d', 'av', 'scipy', 'matplotlib')"
        " if m in sys.modules], file=sys.stderr)"
    )
    result = run_python(code)
    assert result.returncode == 0
    assert result.stderr.strip() == ""


def test_ctrl_c_ends_with_130_and_leaves_no_half_files(tmp_path: Path) -> None:
    """A real process, a real signal, in the middle of writing."""
    code = """
import sys, time
from pathlib import Path
import densefit.cli.app
from densefit.cli import main
from densefit.files import atomic_path

def work(arguments):
    with atomic_path(Path(sys.argv[1]) / "result.npz") as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        time.sleep(60)

densefit.cli.app.run = work
sys.exit(main([]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(densefit.__file__).parent.parent)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_module_and_console_script_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_python(
        "import runpy, sys; sys.argv[1:] = ['--version'];"
        "runpy.run_module('densefit', run_name='__main__')"
    )
    assert result.returncode == 0
    assert result.stdout.startswith("densefit ")


def test_a_folder_where_a_file_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "board.pdf").mkdir()
    arguments = ["calibrate", "board", "chessboard:9x6:25mm", "--overwrite"]
    assert main([*arguments, "-o", str(tmp_path / "board.pdf")]) == 3
    assert "board.pdf is a folder; name a file" in capsys.readouterr().err
    (tmp_path / "board.pdf").rmdir()
    assert main([*arguments, "-o", str(tmp_path)]) == 3


def test_long_and_hostile_values_in_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file's contents neither fill the terminal nor speak to it; file and remedy stay."""

    def refuse(*_: object, **__: object) -> None:
        raise InputError(f"rig.yaml: '\x1b[2J{'x' * 10**6}' is no camera; give one")

    monkeypatch.setattr("densefit.capture.load_take", refuse)
    assert main(["inspect", "a.mp4"]) == 3
    err = capsys.readouterr().err
    assert len(err) < 1100 and "\x1b" not in err
    assert err.startswith("error: rig.yaml: '\\x1b[2Jxxx") and err.endswith("; give one\n")


def test_ctrl_c_in_a_command_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the test before, through the parser, which has its own idea of what Ctrl-C means."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("densefit.capture.load_take", interrupted)
    assert main(["inspect", "a.mp4"]) == 130
    assert "the same command continues" in capsys.readouterr().err
    for command in ("predict", "fit-rig"):
        assert main([command, "a.mp4", "-o", "out", "--overwrite"]) == 130
        assert "the same command without --overwrite continues" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
def test_a_reader_who_goes_away_is_no_error() -> None:
    """`densefit doctor --json | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "densefit", "doctor", "--no-self-test", "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(densefit.__file__).parent.parent)},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_threads_wait_asleep_unless_told_otherwise(
    given: dict[str, str], expected: str | None
) -> None:
    """Before torch and its threads are there."""
    code = (
        "import os, sys; from densefit.cli import wait_asleep; wait_asleep(); "
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    plain = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    out = subprocess.run(
        [sys.executable, "-c", code], env=plain | given, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == [str(expected), "False"]


@pytest.mark.parametrize("command", ["rig check", "rig convert", "export"])
def test_what_cannot_be_read_is_bad_input(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not bad usage, whoever finds out first."""
    file = tmp_path / "rig.yaml"
    file.write_text("")
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may read everything
    more = [str(tmp_path / "new.yaml")] if command == "rig convert" else []
    assert main([*command.split(), str(file), *more]) == 3
