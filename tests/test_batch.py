"""Many takes: failures are told and do not stop the rest; names; threads; a table and JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from densefit import batch
from densefit.batch import BatchOptions, run_batch
from densefit.capture.take import take_name
from densefit.cli import main
from densefit.cli.flags import FitFlags, PredictFlags, as_arguments
from densefit.errors import UsageError

REPORT = {"frames": 10, "valid_frames": 9, "residual_px": {"left": 1.25, "back": None}}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for the processes: a take fails if its path says so."""
    seen: list[list[str]] = []

    def run(_: Any, command: list[str]) -> tuple[int, str, str]:
        seen.append(command)
        take = command[command.index("fit-rig") + 1]
        if "crash" in take:
            return -11, "", "half a word"
        if "bad" in take:
            return 3, "", "warning: w\nerror: a.mp4: gone; x\n"
        return 0, json.dumps(REPORT), ""

    monkeypatch.setattr(batch._Processes, "run", run)
    return seen


def test_failures_do_not_stop_the_rest(commands: list[list[str]], tmp_path: Path) -> None:
    takes = [tmp_path / name / "take.yaml" for name in ("one", "bad", "crash", "two")]
    options = BatchOptions(("--every", "2"), jobs=2, threads=3)
    results = run_batch(takes, tmp_path / "out", options)
    assert [(r.name, r.exit_code) for r in results] == [
        ("one", 0), ("bad", 3), ("crash", -11), ("two", 0),
    ]  # fmt: skip
    assert results[1].message == "a.mp4: gone; x"
    assert results[2].message == "killed by signal 11"
    assert results[0].report == REPORT
    assert len(commands) == 4
    (one,) = (c for c in commands if "one" in c[4])
    assert one[1:3] == ["-m", "densefit"] and one[-2:] == ["--every", "2"]
    assert one[one.index("--threads") + 1] == "3"
    assert one[one.index("--log-json") + 1] == str(tmp_path / "out" / "one" / "log.jsonl")


def test_the_command(
    commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    takes = [str(tmp_path / name / "take.yaml") for name in ("one", "bad")]
    out = ["-o", str(tmp_path / "out")]
    assert main(["batch", *takes, *out, "--no-overlay", "--quality", "fast"]) == 5
    captured = capsys.readouterr()
    assert "9 of 10" in captured.out and "1.25" in captured.out and "gone" in captured.out
    assert "error: 1 of 2 takes failed: bad" in captured.err
    assert commands[0][-3:] == ["--quality", "fast", "--no-overlay"]
    del commands[:]
    clock = ["--sync", "clap", "--fps", "24.0", "--sequence", "--strict"]
    assert main(["batch", takes[0], *out, *clock]) == 0
    assert commands[0][-6:] == clock
    capsys.readouterr()
    assert main(["batch", takes[0], *out, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["report"] == REPORT


def test_a_real_take_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real process: its error reaches the table, its events the log."""
    take = tmp_path / "mine" / "take.yaml"
    take.parent.mkdir()
    take.write_text("cameras: {left: gone.mp4}\n")
    assert main(["batch", str(take.parent), "-o", str(tmp_path / "out"), "--json"]) == 5
    (result,) = json.loads(capsys.readouterr().out)
    assert result["exit_code"] == 3 and "gone.mp4: no such file" in result["message"]
    lines = (tmp_path / "out" / "mine" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["exit_code"] == 3


# A batch whose takes never end, and write down which processes they are.
ENDLESS = """
import sys
from densefit.cli import main
sys.executable = sys.argv[1]
sys.exit(main(["batch", "one.yaml", "two.yaml", "three.yaml", "-o", sys.argv[2], "--jobs", "2"]))
"""
STAND_IN = """#!/bin/sh
touch "$0.$$"
exec sleep 600
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals and a shell")
@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_no_take_outlives_the_batch(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    """A signal to the batch alone ends the takes that run, and no further ones begin."""
    stand_in = tmp_path / "take"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    command = [sys.executable, "-c", ENDLESS, str(stand_in), str(tmp_path / "out")]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while len(begun := list(tmp_path.glob("take.*"))) < 2:
        assert parent.poll() is None, parent.communicate()[1]
        time.sleep(0.05)
    parent.send_signal(sent)
    errors = parent.communicate(timeout=60)[1]
    assert parent.returncode == code
    assert "Traceback" not in errors
    assert sorted(tmp_path.glob("take.*")) == sorted(begun)
    for file in begun:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.suffix[1:]), 0)


def test_two_takes_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="second take of the name 'a'"):
        run_batch([tmp_path / "a/take.yaml", tmp_path / "b/a.yaml"], tmp_path, BatchOptions())


def test_names(tmp_path: Path) -> None:
    assert take_name(tmp_path) == tmp_path.name
    assert take_name(tmp_path / "take.yaml") == tmp_path.name
    assert take_name(tmp_path / "walk.yaml") == "walk"
    # Of recordings that are takes by themselves, the folder would be everybody's name.
    assert take_name(tmp_path / "a.mp4") == "a"
    assert take_name(tmp_path / "b b.jpg") == "b_b"


def test_videos_that_lie_in_one_folder(commands: list[list[str]], tmp_path: Path) -> None:
    videos = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    results = run_batch(videos, tmp_path / "out", BatchOptions())
    assert [r.name for r in results] == ["a", "b"]
    outs = {command[command.index("-o") + 1] for command in commands}
    assert outs == {str(tmp_path / "out" / name) for name in "ab"}


def test_options_travel_as_they_were_given() -> None:
    assert as_arguments(PredictFlags()) == as_arguments(FitFlags()) == []
    flags = FitFlags(identity=Path("x"), overlay=False, max_residual_px=2.0)
    assert as_arguments(flags) == [
        "--identity",
        str(Path.cwd() / "x"),
        "--no-overlay",
        "--max-residual-px",
        "2.0",
    ]


def test_without_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    command = ["batch", str(tmp_path), "-o", str(tmp_path / "out"), "--ray", "auto"]
    assert main(command) == 3
    assert "densefit[cluster]" in capsys.readouterr().err
