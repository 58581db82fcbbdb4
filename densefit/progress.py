"""Progress and messages for people and programs: on stderr, and in a log file if one is wanted.

A process has one stderr, so what shows there is one setting of the process: `configure` sets it,
`close` returns to the default. All functions may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from densefit.progress_sinks import (
    DETAIL,
    ERROR,
    INFO,
    WARNING,
    PlainSink,
    ReportOptions,
    Sink,
    make_sinks,
)

__all__ = [
    "DETAIL",
    "ERROR",
    "INFO",
    "WARNING",
    "Bar",
    "ReportOptions",
    "close",
    "configure",
    "detail",
    "error",
    "event",
    "info",
    "progress",
    "warn",
]


class Bar:
    """What the worker holds while it works."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.remark = ""
        self.started = time.monotonic()

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        with _lock:
            self.done += n
            for sink in _state.sinks:
                sink.advanced(self)

    def note(self, text: str) -> None:
        """Show a short remark (a loss, a residual) behind the bar."""
        self.remark = text

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return max(time.monotonic() - self.started, 1e-9)

    @property
    def rate(self) -> float:
        """Units a second so far."""
        return self.done / self.seconds

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None if that cannot be said."""
        if not self.total or not self.done:
            return None
        return max(self.total - self.done, 0) / self.rate


class _State:
    """Where everything goes: plain lines, until `configure` says otherwise."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = [PlainSink(INFO)]


_lock = threading.RLock()
_state = _State()


def configure(options: ReportOptions) -> None:
    """Choose what is shown from now on.

    Raises:
        InputError: the log file cannot be written.
    """
    sinks = make_sinks(options)
    with _lock:
        _close_sinks()
        _state.sinks = sinks


def close() -> None:
    """End what `configure` began: the log is complete, messages are plain again."""
    with _lock:
        _close_sinks()
        _state.sinks = [PlainSink(INFO)]


def _close_sinks() -> None:
    for sink in _state.sinks:
        sink.close()


def detail(message: str) -> None:
    """Tell the user something that only --verbose shows."""
    _say(DETAIL, message)


def info(message: str) -> None:
    """Tell the user something."""
    _say(INFO, message)


def warn(message: str) -> None:
    """Warn the user: the work goes on, but something is not as it should be."""
    _say(WARNING, message)


def error(message: str) -> None:
    """Say why the work ends."""
    _say(ERROR, message)


def event(name: str, **values: Any) -> None:
    """Tell programs something that people are told otherwise; `values` are JSON values."""
    with _lock:
        for sink in _state.sinks:
            sink.event(name, values)


def _say(level: int, text: str) -> None:
    with _lock:
        for sink in _state.sinks:
            sink.message(level, text)


@contextmanager
def progress(total: int | None, title: str, unit: str = "frames") -> Iterator[Bar]:
    """Count work in a with-block: `with progress(240, "predict left") as bar: bar.advance(8)`.

    `total` may be None when it is not known. Several may be open at the same time.
    """
    bar = Bar(title, total, unit)
    with _lock:
        for sink in _state.sinks:
            sink.began(bar)
    try:
        yield bar
    finally:
        with _lock:
            for sink in _state.sinks:
                sink.ended(bar)
