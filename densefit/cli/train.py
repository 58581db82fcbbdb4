"""`densefit train`: train a network on rendered faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from densefit.cli.options import Out, Seed, Threads


def train(
    data: Annotated[
        Path, typer.Option("--data", help="Folder of shards from `densefit synth --format shards`.")
    ],
    out: Out,
    task: Annotated[
        Literal["landmarks", "closeup", "detector"], typer.Option("--task", help="Which network.")
    ] = "landmarks",
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.01, help="Training time, over all resumed runs.")
    ] = 40.0,
    backgrounds: Annotated[
        Path | None,
        typer.Option(
            "--backgrounds", help="Folder of pictures without faces (png, jpg, hdr), or one packed."
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=8, help="Images per step.")] = 64,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=1e-6)] = 2e-3,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where training runs.")
    ] = "auto",
    threads: Threads = None,
    seed: Seed = 0,
    start: Annotated[
        Path | None, typer.Option("--start", help="Weights to begin with instead of random ones.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of from the last checkpoint.")
    ] = False,
) -> None:
    """Train a network; go on from OUT's checkpoint where there is one."""
    from densefit.progress import info
    from densefit.train.loop import TrainOptions
    from densefit.train.run import RunOptions
    from densefit.train.run import train as run_train

    options = RunOptions(
        data=data,
        out=out,
        task=task,
        backgrounds=backgrounds,
        device=device,
        threads=threads,
        resume=not restart,
        start=start,
        train=TrainOptions(minutes=minutes, batch=batch, learning_rate=learning_rate, seed=seed),
    )
    for name, value in run_train(options, info).items():
        typer.echo(f"{name}: {value:.4g}")
