"""Many takes, side by side; a take that fails does not stop the rest.

Each take is a `densefit fit-rig` in a process of its own: a crash, or a system that runs out of
memory, ends one take and not the batch. On a Ray cluster the workers are those processes.
"""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densefit.errors import InputError, Terminated, UsageError
from densefit.files import ensure_out_dir
from densefit.module_main import termination_raised
from densefit.progress import info, progress, warn

LOG = "log.jsonl"

# A worker of a cluster that dies is replaced, and its take begun again, this often.
_RETRIES = 3


@dataclass(frozen=True)
class BatchOptions:
    """How to work through the takes."""

    arguments: tuple[str, ...] = ()
    """options of `fit-rig` for every take"""
    jobs: int = 1
    """takes at the same time"""
    threads: int = 1
    """CPU threads of each"""
    ray: str | None = None
    """address of a Ray cluster to work on instead of this machine"""


@dataclass(frozen=True)
class TakeResult:
    """How one take ended."""

    name: str
    out: Path
    exit_code: int
    seconds: float
    message: str = ""
    """the error, if there was one"""
    report: dict[str, Any] = field(default_factory=dict)
    """the summary of `fit-rig --json`"""


Submit = Callable[[Path, Path], "Future[TakeResult]"]
"""(take, output folder) -> its result to come"""


def run_batch(takes: Sequence[Path], out: Path, options: BatchOptions) -> list[TakeResult]:
    """Fit every take into out/<its name>.

    Returns:
        One result for each take, in their order. What fails is told there, not raised.
    Raises:
        UsageError: two takes of one name.
        InputError: the output folder cannot be written; Ray is wanted and not there.
    """
    out = ensure_out_dir(out.resolve())
    folders = {name: (take.resolve(), out / name) for name, take in _named(takes).items()}
    place = _on_this_machine(options) if options.ray is None else _on_cluster(options)
    with progress(len(folders), "batch", unit="takes") as bar, place as submit:
        futures = [submit(take, folder) for take, folder in folders.values()]
        pending = set(futures)
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                _tell(future.result())
                bar.advance()
    return [future.result() for future in futures]


def _named(takes: Sequence[Path]) -> dict[str, Path]:
    from densefit.capture.take import take_name

    named: dict[str, Path] = {}
    for take in takes:
        name = take_name(take)
        if name in named:
            raise UsageError(
                f"{take}: a second take of the name '{name}' beside {named[name]}; rename one, "
                "its name is that of its output folder"
            )
        named[name] = take
    return named


def _tell(result: TakeResult) -> None:
    if result.exit_code == 0:
        info(f"{result.name}: done in {result.seconds:.0f} s")
    else:
        warn(f"{result.name}: exit code {result.exit_code}, {result.message}")


class _Processes:
    """The takes' processes of now, which must not outlive this one."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def run(self, command: list[str]) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command."""
        with self._lock:
            if self._ended:
                raise Terminated
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            self._running.add(process)
        try:
            stdout, stderr = process.communicate()
        finally:
            with self._lock:
                self._running.discard(process)
        return process.returncode, stdout, stderr

    def end(self) -> None:
        """Terminate what runs and begin nothing more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()


@contextmanager
def _on_this_machine(options: BatchOptions) -> Iterator[Submit]:
    pool, processes = ThreadPoolExecutor(options.jobs), _Processes()
    try:
        with termination_raised():
            yield lambda take, folder: pool.submit(
                _fit_in_process, take, folder, _arguments(take, folder, options), processes.run
            )
    finally:
        # Of interest only after Ctrl-C or a signal; what the takes have finished is kept.
        processes.end()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _on_cluster(options: BatchOptions) -> Iterator[Submit]:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError("--ray needs Ray; pip install densefit[cluster]") from error
    try:
        ray.init(address=options.ray, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--ray {options.ray}: no cluster there ({str(error).splitlines()[0]}); check the "
            "address, or start one with `ray start --head`"
        ) from error
    # One call a worker: a take's memory goes back to the system with it.
    fit = ray.remote(num_cpus=options.threads, max_retries=_RETRIES, max_calls=1)(_fit_here)
    try:
        yield lambda take, folder: fit.remote(
            take, folder, _arguments(take, folder, options)
        ).future()
    finally:
        ray.shutdown()


def _arguments(take: Path, folder: Path, options: BatchOptions) -> list[str]:
    common = ["--json", "--quiet", "--threads", str(options.threads)]
    log = ["--log-json", str(folder / LOG)]
    return ["fit-rig", str(take), "-o", str(folder), *common, *log, *options.arguments]


def _fit_in_process(
    take: Path,
    folder: Path,
    arguments: list[str],
    run: Callable[[list[str]], tuple[int, str, str]],
) -> TakeResult:
    """Run the command in a process of its own and wait for it."""
    begin = time.monotonic()
    code, stdout, stderr = run([sys.executable, "-m", "densefit", *arguments])
    return _result(folder, code, begin, stdout, stderr)


def _fit_here(take: Path, folder: Path, arguments: list[str]) -> TakeResult:
    """Run the command in this process, a cluster's worker."""
    from densefit.cli import main

    begin = time.monotonic()
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return _result(folder, code, begin, out.getvalue(), err.getvalue())


def _result(folder: Path, code: int, begin: float, stdout: str, stderr: str) -> TakeResult:
    seconds = time.monotonic() - begin
    try:
        report = json.loads(stdout) if code in (0, 4) else {}
    except ValueError:
        report = {}
    message = ""
    if code < 0:
        message = f"killed by signal {-code}"
    elif code:
        lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
        message = (lines or stderr.splitlines() or ["ended without a word"])[-1]
        message = message.removeprefix("error: ")
    return TakeResult(folder.name, folder, code, round(seconds, 3), message, report)
