"""What `python -m densefit.train` and its like share: errors in one line, numbers in range.

They need argparse only, where the command line of `densefit` may not be installed.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from densefit.errors import DensefitError, Terminated

_INPUT, _INTERRUPTED, _TERMINATED = 3, 130, 143
DEVICES = ("auto", "cpu", "cuda")


def exit_code(work: Callable[[], object]) -> int:
    """Do the work; 0, or the exit code of what it raised, told in one line on stderr.

    As `densefit` ends: what the user or the machine can mend is no traceback.
    """
    try:
        with termination_raised():
            work()
    except (DensefitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, DensefitError) else _INPUT
    except ModuleNotFoundError as error:
        print(f"error: the package '{error.name}' is not installed", file=sys.stderr)
        return _INPUT
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Terminated:
        return _TERMINATED
    return 0


@contextmanager
def termination_raised() -> Iterator[None]:
    """Raise Terminated on SIGTERM, which otherwise ends the process with nothing kept."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def terminated(*_: object) -> None:
        raise Terminated

    earlier = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def integer(low: int, high: int = 2**63 - 1) -> Callable[[str], int]:
    """For argparse: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text}: give {low} or more, at most {high}")
        return value

    parse.__name__ = "whole number"  # what argparse calls it where `int` refuses
    return parse


def number(low: float, high: float = math.inf) -> Callable[[str], float]:
    """For argparse: a finite number from `low` to `high`."""

    def parse(text: str) -> float:
        value = float(text)
        if not (low <= value <= high and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"{text}: give {low:g} or more, at most {high:g}")
        return value

    parse.__name__ = "number"
    return parse
