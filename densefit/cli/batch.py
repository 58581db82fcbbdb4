"""`densefit batch`: fit many takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from densefit.cli.flags import FitFlags, PredictFlags, SyncFlags, as_arguments
from densefit.cli.options import AsJson, Out

if TYPE_CHECKING:
    from densefit.batch import TakeResult


def batch(
    takes: Annotated[
        list[Path],
        typer.Argument(
            metavar="TAKE...",
            help="take.yaml files or their folders, videos, photos or folders of photos.",
        ),
    ],
    out: Out,
    recordings: SyncFlags,
    prediction: PredictFlags,
    fitting: FitFlags,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Takes at the same time.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Work on a Ray cluster (auto: the one of this machine); all its machines must "
            "see the takes and OUT under the same paths.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run fit-rig on every take, into OUT/<take's name>; failures do not stop the rest."""
    import os

    from densefit.batch import BatchOptions, run_batch
    from densefit.cli.results import print_json, print_table
    from densefit.errors import BatchError

    threads = prediction.threads or max(1, (os.cpu_count() or 1) // jobs)
    # Threads are a matter of the machine, and are given separately.
    if recordings.sync is not None and recordings.sync.lower().endswith(".csv"):
        recordings = dataclasses.replace(recordings, sync=str(Path(recordings.sync).absolute()))
    groups = (recordings, dataclasses.replace(prediction, threads=None), fitting)
    arguments = tuple(argument for group in groups for argument in as_arguments(group))
    results = run_batch(takes, out, BatchOptions(arguments, jobs, threads, ray))
    if as_json:
        print_json([dataclasses.asdict(result) for result in results])
    else:
        headings = ("take", "exit code", "frames", "residual px", "seconds", "error")
        print_table(headings, map(_cells, results))
    failed = [result.name for result in results if result.exit_code]
    if failed:
        raise BatchError(
            f"{len(failed)} of {len(results)} takes failed: {', '.join(failed)}; the same command "
            "tries them again and keeps the others"
        )


def _cells(result: TakeResult) -> tuple[str, ...]:
    frames = residual = ""
    if result.report:
        frames = f"{result.report['valid_frames']} of {result.report['frames']}"
        values = [v for v in result.report["residual_px"].values() if v is not None]
        residual = f"{max(values):.2f}" if values else ""
    seconds = f"{result.seconds:.1f}"
    return result.name, str(result.exit_code), frames, residual, seconds, result.message
