"""Progress and messages: plain lines, live bars, JSON lines on stderr and in a log file."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from densefit import progress_sinks
from densefit.errors import InputError
from densefit.progress import (
    DETAIL,
    WARNING,
    ReportOptions,
    close,
    configure,
    detail,
    error,
    event,
    info,
    progress,
    warn,
)


@pytest.fixture(autouse=True)
def plain_again():  # type: ignore[no-untyped-def]
    yield
    close()


def work() -> None:
    with progress(4, "predict left", unit="frames") as bar:
        bar.note("lost 1")
        bar.advance(3)
        with progress(None, "predict right") as other:
            other.advance()
        bar.advance()


def test_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_sinks, "SECONDS_BETWEEN_LINES", 0.0)
    work()
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0].startswith("predict left: 3/4 frames")
    assert "left" in lines[0] and "lost 1" in lines[0]
    assert lines[1].startswith("predict right: 1 frames")
    assert lines[-1].startswith("predict left: 4/4 frames")


def test_messages(capsys: pytest.CaptureFixture[str]) -> None:
    info("one")
    warn("two")
    detail("three")
    error("four")
    assert capsys.readouterr().err == "one\nwarning: two\nerror: four\n"


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure(ReportOptions("plain", WARNING))
    info("one")
    warn("two")
    work()
    assert capsys.readouterr().err == "warning: two\n"
    configure(ReportOptions("plain", DETAIL))
    detail("three")
    assert capsys.readouterr().err == "three\n"


def test_json_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_sinks, "SECONDS_BETWEEN_EVENTS", 0.0)
    configure(ReportOptions("json"))
    warn("two")
    work()
    event("end", exit_code=0)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert events[0]["event"] == "message" and events[0]["level"] == "warning"
    tasks = [e for e in events if e.get("task") == "predict left"]
    assert [e["done"] for e in tasks] == [0, 3, 4, 4]
    assert tasks[-1]["event"] == "progress_end" and tasks[1]["total"] == 4
    assert tasks[1]["per_second"] > 0 and tasks[1]["seconds_left"] >= 0
    assert events[-1]["exit_code"] == 0


def test_a_log_file_grows_and_keeps_details(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "run.jsonl"
    for _ in range(2):
        configure(ReportOptions("none", log=log))
        detail("three")
        work()
        close()
    assert capsys.readouterr().err == ""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["text"] for e in events if e["event"] == "message"] == ["three"] * 2
    assert sum(e["event"] == "progress_end" for e in events) == 4


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--log-json"):
        configure(ReportOptions(log=tmp_path))


def test_live_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a camera; messages stand above the bars."""
    configure(ReportOptions("rich"))
    with progress(4, "predict left") as left, progress(4, "predict right") as right:
        left.advance(2)
        right.advance(4)
        warn("two [of] three")
    text = capsys.readouterr().err
    assert "predict left" in text and "predict right" in text
    assert "2/4" in text and "4/4" in text
    assert "warning: two [of] three" in text


def test_a_failure_ends_the_bars(capsys: pytest.CaptureFixture[str]) -> None:
    configure(ReportOptions("rich"))
    with pytest.raises(ZeroDivisionError), progress(4, "left"):
        raise ZeroDivisionError
    capsys.readouterr()
    info("one")
    assert capsys.readouterr().err == "one\n"


def test_messages_that_nobody_reads_do_not_end_the_work(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    with progress(2, "work") as bar:
        info("hello")
        bar.advance(2)
    assert bar.done == 2
