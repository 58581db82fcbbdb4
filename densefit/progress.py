"""Progress and messages on stderr: a live bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SECONDS_BETWEEN_LINES = 5.0


class Bar(Protocol):
    """What the worker holds while it works."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""

    def note(self, text: str) -> None:
        """Show a short remark (a loss, a residual) behind the bar."""


def info(message: str) -> None:
    """Tell the user something on stderr."""
    _say(message)


def warn(message: str) -> None:
    """Warn the user on stderr: the work goes on, but something is not as it should be."""
    _say(f"warning: {message}")


def _say(line: str) -> None:
    # While a bar is live, its console moves the bar out of the way of the line.
    if _LiveBar.console is not None:
        _LiveBar.console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(total: int | None, title: str, unit: str = "frames") -> Iterator[Bar]:
    """Count work in a with-block: `with progress(240, "predict left") as bar: bar.advance(8)`.

    `total` may be None when it is not known. Bars do not nest on a terminal: the inner one prints
    lines.
    """
    if sys.stderr.isatty() and _LiveBar.console is None:
        with _LiveBar(total, title, unit) as live:
            yield live
    else:
        lines = _PlainBar(total, title, unit)
        yield lines
        lines.finish()


class _PlainBar:
    """One line every few seconds and one at the end; readable in log files."""

    def __init__(self, total: int | None, title: str, unit: str) -> None:
        self.total, self.title, self.unit = total, title, unit
        self.done = 0
        self.remark = ""
        self.started = self.last_line = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            self._line(now)

    def note(self, text: str) -> None:
        self.remark = text

    def finish(self) -> None:
        self._line(time.monotonic(), finished=True)

    def _line(self, now: float, finished: bool = False) -> None:
        elapsed = max(now - self.started, 1e-9)
        rate = self.done / elapsed
        text = f"{self.title}: {self.done}"
        if self.total:
            text += f"/{self.total}"
        text += f" {self.unit}, {rate:.1f}/s"
        if finished:
            text += f", {elapsed:.1f} s"
        elif self.total and rate > 0:
            text += f", {max(self.total - self.done, 0) / rate:.0f} s left"
        if self.remark:
            text += f" ({self.remark})"
        print(text, file=sys.stderr, flush=True)


class _LiveBar:
    """A rich progress bar; rich is imported here so that other commands do not load it."""

    # The console of the bar that is on screen, if one is; info() and warn() print through it.
    console = None

    def __init__(self, total: int | None, title: str, unit: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit, markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[remark]}", markup=False),
            console=self._console,
        )
        self._task = self._bar.add_task(title, total=total, remark="")

    def __enter__(self) -> _LiveBar:
        self._bar.start()
        _LiveBar.console = self._console  # type: ignore[assignment]
        return self

    def __exit__(self, *exception: object) -> None:
        _LiveBar.console = None
        self._bar.stop()

    def advance(self, n: int = 1) -> None:
        self._bar.advance(self._task, n)

    def note(self, text: str) -> None:
        self._bar.update(self._task, remark=text)
