"""`densefit predict`: dense landmarks of every frame of every camera."""

from __future__ import annotations

from typing import Annotated

import typer

from densefit.cli.options import (
    Device,
    End,
    Every,
    Inputs,
    Model,
    Out,
    Overwrite,
    Sequence,
    Start,
    Strict,
    Threads,
    Weights,
)


def predict(
    inputs: Inputs,
    out: Out,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also draw the landmarks over each recording.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    start: Start = None,
    end: End = None,
    every: Every = 1,
    weights: Weights = None,
    model: Model = None,
    sequence: Sequence = False,
    strict: Strict = False,
    overwrite: Overwrite = False,
) -> None:
    """Find and follow the head; write its 703 landmarks to OUT/landmarks/<camera>.npz."""
    from densefit.capture import load_take
    from densefit.landmarks.predictor import PredictOptions
    from densefit.landmarks.predictor import predict as run_predict

    take = load_take(inputs, sequence=sequence, strict=strict)
    options = PredictOptions(
        device=device,
        threads=threads,
        start=start,
        end=end,
        every=every,
        weights=weights,
        model=model,
        overlay=overlay,
        overwrite=overwrite,
    )
    for path in run_predict(take, out, options).values():
        typer.echo(path)
