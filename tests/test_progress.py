"""Progress without a terminal: plain lines on stderr."""

from __future__ import annotations

import pytest

from densefit.progress import info, progress, warn


def test_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densefit.progress.SECONDS_BETWEEN_LINES", 0.0)
    with progress(4, "predict left", unit="frames") as bar:
        bar.note("lost 1")
        bar.advance(3)
        bar.advance()
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0].startswith("predict left: 3/4 frames")
    assert "left" in lines[0] and "lost 1" in lines[0]
    assert lines[-1].startswith("predict left: 4/4 frames")


def test_unknown_total(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(None, "decode") as bar:
        bar.advance(7)
    assert capsys.readouterr().err.startswith("decode: 7 frames")


def test_messages(capsys: pytest.CaptureFixture[str]) -> None:
    info("one")
    warn("two")
    assert capsys.readouterr().err == "one\nwarning: two\n"
