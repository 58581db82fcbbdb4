"""Options in groups, and the ones that every command has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from densefit.cli import main
from densefit.cli.flags import as_command
from densefit.errors import QualityError
from densefit.fit_outputs import FitRigReport, check_residuals


@dataclass(frozen=True)
class Group:
    files: Annotated[list[Path], typer.Argument()]
    size: Annotated[int, typer.Option("--size")] = 3


def run(*arguments: str) -> tuple[object, ...]:
    seen: list[tuple[object, ...]] = []

    def command(group: Group, out: Annotated[Path, typer.Option("--out")], flag: bool = False):  # type: ignore[no-untyped-def]
        seen.append((group, out, flag))

    app = typer.Typer()
    app.command()(as_command(command, "try"))
    app(list(arguments), standalone_mode=False)
    return seen[0]


def test_groups_are_spread_and_put_together_again() -> None:
    assert run("a", "b", "--out", "o") == (Group([Path("a"), Path("b")], 3), Path("o"), False)
    assert run("a", "--out", "o", "--size", "4", "--flag", "-q") == (
        Group([Path("a")], 4), Path("o"), True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "out", "--fps", "nan"],
        ["fit-rig", "a.mp4", "-o", "b", "--max-residual-px", "nan"],
    ],
)
def test_not_a_number_is_refused(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_verbose_and_quiet_contradict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "x.mp4", "-v", "-q"]) == 2
    assert "contradict" in capsys.readouterr().err


def test_log_and_json_progress_tell_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    missing = tmp_path / "none.mp4"
    assert main(["inspect", str(missing), "--progress", "json", "--log-json", str(log)]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    for text in (captured.err, log.read_text()):
        events = [json.loads(line) for line in text.splitlines()]
        assert [e["event"] for e in events] == ["start", "message", "end"]
        assert events[0]["command"] == "inspect"
        assert events[1]["level"] == "error" and str(missing) in events[1]["text"]
        assert events[2]["exit_code"] == 3 and events[2]["peak_mb"] > 10


def test_a_full_log_does_not_end_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    assert main(["inspect", "none.mp4", "--log-json", "/dev/full"]) == 3
    err = capsys.readouterr().err
    assert err.count("log ends here") == 1 and "none.mp4: no such file" in err


def test_quality_gate() -> None:
    report = FitRigReport(Path("fit.npz"), Path("rig.yaml"), Path("neutral.ply"))
    report.residual_px = {"left": 1.0, "right": 2.5, "back": None}
    check_residuals(report, None)
    check_residuals(report, 2.6)
    with pytest.raises(QualityError, match=r"right 2\.50"):
        check_residuals(report, 2.0)
