"""Tables on stdout."""

from __future__ import annotations

import pytest

from densefit.cli.results import print_table


@pytest.mark.parametrize("columns, lines", [("36", 4), ("120", 1)])
def test_a_narrow_terminal_gets_lines(
    columns: str, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    cells = [f"cell {number} of this row" for number in range(4)]
    print_table([f"h{number}" for number in range(4)], [cells], "title")
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if "of this row" in line]) == lines
    assert all(cell in out for cell in cells)


def test_a_pipe_gets_the_whole_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "value"], [["a", "x" * 150]])
    assert "x" * 150 in capsys.readouterr().out
