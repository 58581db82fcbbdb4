"""Where progress and messages go: plain lines, live bars, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from densefit.errors import InputError

if TYPE_CHECKING:
    from densefit.progress import Bar

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_EVENTS = 1.0

ProgressStyle = Literal["auto", "rich", "plain", "json", "none"]

# Messages below the chosen level are not shown.
DETAIL, INFO, WARNING, ERROR = 10, 20, 30, 40
LEVEL_NAMES = {DETAIL: "detail", INFO: "info", WARNING: "warning", ERROR: "error"}


@dataclass(frozen=True)
class ReportOptions:
    """What is shown where."""

    style: ProgressStyle = "auto"
    """of progress on stderr; auto: rich on a terminal, else plain lines"""
    level: int = INFO
    """least important message that is shown on stderr; the log file gets all"""
    log: Path | None = None
    """file that JSON lines are appended to"""


class Sink(Protocol):
    """A place where messages and progress go; densefit.progress calls it under a lock."""

    def message(self, level: int, text: str) -> None: ...

    def began(self, bar: Bar) -> None: ...

    def advanced(self, bar: Bar) -> None: ...

    def ended(self, bar: Bar) -> None: ...

    def event(self, name: str, values: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def stderr() -> IO[str]:
    """Looked up each time: tests and embedders replace it."""
    return sys.stderr


def say(line: str) -> None:
    """Print on stderr. Work goes on when nobody reads it any more (`2>&1 | head`)."""
    with suppress(BrokenPipeError):
        print(line, file=stderr(), flush=True)


def make_sinks(options: ReportOptions) -> list[Sink]:
    """The sinks for some options. InputError when the log file cannot be opened."""
    style = options.style
    if style == "auto":
        style = "rich" if stderr().isatty() else "plain"
    # People who want only warnings want no progress either.
    quiet = style == "none" or options.level > INFO
    sinks: list[Sink] = []
    if style == "json":
        sinks.append(JsonSink(None, options.level, bars=not quiet))
    elif style == "rich" and not quiet:
        sinks.append(LiveSink(options.level))
    else:
        sinks.append(PlainSink(options.level, bars=not quiet))
    if options.log is not None:
        try:
            options.log.parent.mkdir(parents=True, exist_ok=True)
            stream = options.log.open("a", encoding="utf-8")
        except OSError as problem:
            raise InputError(
                f"{options.log}: cannot write this log ({problem.strerror}); "
                "choose another --log-json"
            ) from problem
        sinks.append(JsonSink(stream, 0))
    return sinks


def message_line(level: int, text: str) -> str:
    """A message as people read it."""
    return f"{LEVEL_NAMES[level]}: {text}" if level >= WARNING else text


class PlainSink:
    """Messages, and of each bar a line every few seconds and one at the end; good in log files."""

    def __init__(self, level: int, bars: bool = True) -> None:
        self.level, self.bars = level, bars
        self._last: dict[int, float] = {}

    def message(self, level: int, text: str) -> None:
        if level >= self.level:
            self._print(message_line(level, text))

    def began(self, bar: Bar) -> None:
        self._last[id(bar)] = time.monotonic()

    def advanced(self, bar: Bar) -> None:
        now = time.monotonic()
        if self.bars and now - self._last[id(bar)] >= SECONDS_BETWEEN_LINES:
            self._last[id(bar)] = now
            self._print(progress_line(bar))

    def ended(self, bar: Bar) -> None:
        self._last.pop(id(bar), None)
        if self.bars:
            self._print(progress_line(bar, finished=True))

    def event(self, name: str, values: dict[str, Any]) -> None:
        """People read of it elsewhere."""

    def close(self) -> None:
        """Nothing is open."""

    def _print(self, line: str) -> None:
        say(line)


def progress_line(bar: Bar, finished: bool = False) -> str:
    """`predict left: 120/240 frames, 55.0/s, 2 s left (remark)`."""
    text = f"{bar.title}: {bar.done}"
    if bar.total:
        text += f"/{bar.total}"
    text += f" {bar.unit}, {bar.rate:.1f}/s"
    left = bar.seconds_left
    if finished:
        text += f", {bar.seconds:.1f} s"
    elif left is not None:
        text += f", {left:.0f} s left"
    return f"{text} ({bar.remark})" if bar.remark else text


class JsonSink:
    """One JSON object a line: to stderr, or to a log file."""

    def __init__(self, stream: IO[str] | None, level: int, bars: bool = True) -> None:
        """stream: None for stderr; a file is closed with the sink."""
        self.stream, self.level, self.bars = stream, level, bars
        self._broken = False
        self._last: dict[int, float] = {}

    def message(self, level: int, text: str) -> None:
        if level >= self.level:
            self._write("message", {"level": LEVEL_NAMES[level], "text": text})

    def began(self, bar: Bar) -> None:
        self._last[id(bar)] = time.monotonic()
        self._progress("progress", bar)

    def advanced(self, bar: Bar) -> None:
        now = time.monotonic()
        if now - self._last[id(bar)] >= SECONDS_BETWEEN_EVENTS:
            self._last[id(bar)] = now
            self._progress("progress", bar)

    def ended(self, bar: Bar) -> None:
        self._last.pop(id(bar), None)
        self._progress("progress_end", bar)

    def event(self, name: str, values: dict[str, Any]) -> None:
        self._write(name, values)

    def close(self) -> None:
        if self.stream is not None:
            with suppress(OSError):  # what could not be written was told when it was
                self.stream.close()

    def _progress(self, name: str, bar: Bar) -> None:
        if not self.bars:
            return
        left = bar.seconds_left
        values: dict[str, Any] = {
            "task": bar.title,
            "done": bar.done,
            "total": bar.total,
            "unit": bar.unit,
            "per_second": round(bar.rate, 3),
            "seconds": round(bar.seconds, 3),
            "seconds_left": None if left is None else round(left, 1),
        }
        self._write(name, values | ({"note": bar.remark} if bar.remark else {}))

    def _write(self, name: str, values: dict[str, Any]) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": name, **values}, default=str)
        if self.stream is None:
            say(line)
            return
        try:
            print(line, file=self.stream, flush=True)
        except (OSError, ValueError) as problem:  # ValueError: closed after an earlier problem
            # Hours of work must not end because their log cannot be written.
            if not self._broken:
                print(f"warning: {self.stream.name}: log ends here ({problem})", file=stderr())
            self._broken = True


class LiveSink:
    """Rich progress bars, one below the other; rich is imported when the first one begins."""

    def __init__(self, level: int) -> None:
        self.level = level
        self._display: Any = None
        self._tasks: dict[int, Any] = {}

    def message(self, level: int, text: str) -> None:
        if level < self.level:
            return
        line = message_line(level, text)
        if self._display is None:
            say(line)
        else:
            # The console moves the bars out of the way of the line.
            self._display.console.print(line, markup=False, highlight=False, soft_wrap=True)
            if level >= ERROR:
                self.close()

    def began(self, bar: Bar) -> None:
        if self._display is None:
            self._display = _rich_display()
            self._display.start()
        self._tasks[id(bar)] = self._display.add_task(
            bar.title, total=bar.total, unit=bar.unit, rate="", remark=""
        )

    def advanced(self, bar: Bar) -> None:
        if id(bar) in self._tasks:
            self._display.update(
                self._tasks[id(bar)],
                completed=bar.done,
                rate=f"{bar.rate:.1f}/s",
                remark=bar.remark,
            )

    def ended(self, bar: Bar) -> None:
        self.advanced(bar)
        task = self._tasks.pop(id(bar), None)
        if task is not None:
            self._display.stop_task(task)
        if not self._tasks:
            self.close()

    def event(self, name: str, values: dict[str, Any]) -> None:
        """People read of it elsewhere."""

    def close(self) -> None:
        if self._display is not None:
            self._display.stop()
        self._display = None
        self._tasks.clear()


def _rich_display() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]} {task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}", markup=False),
        console=Console(stderr=True, force_terminal=True),
    )
