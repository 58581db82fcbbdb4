"""Stands in for fit-rig on a cluster's workers: notes each try, and waits where it is told to."""

from __future__ import annotations

import os
import time
from pathlib import Path

from densefit.batch import TakeResult


def slow_take(take: Path, folder: Path, arguments: list[str]) -> TakeResult:
    """Ends at once if it is the second try of a take, or if nobody wants to kill it."""
    folder.mkdir(parents=True, exist_ok=True)
    tries = folder / "tries"
    with tries.open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    first = len(tries.read_text().split()) == 1
    if first and "doomed" in str(take):
        time.sleep(120)
    return TakeResult(folder.name, folder, 0, 0.1, "", {})
