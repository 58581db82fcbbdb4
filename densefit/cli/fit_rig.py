"""`densefit fit-rig`: a take becomes an animated head."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from densefit.cli.options import (
    Device,
    End,
    Every,
    Identity,
    Inputs,
    Model,
    Out,
    Overwrite,
    Seed,
    Sequence,
    Start,
    Strict,
    Threads,
    Weights,
)


def fit_rig(
    inputs: Inputs,
    out: Out,
    meshes: Annotated[
        bool, typer.Option("--meshes", help="Also write a mesh for each frame.")
    ] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Draw the head over the footage.")
    ] = True,
    identity: Identity = None,
    refine_cameras: Annotated[
        Literal["off", "extrinsics", "all"],
        typer.Option(
            "--refine-cameras",
            help="Let given cameras move a little: extrinsics, or focal lengths too (all).",
        ),
    ] = "off",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON on stdout.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    seed: Seed = 0,
    start: Start = None,
    end: End = None,
    every: Every = 1,
    weights: Weights = None,
    model: Model = None,
    sequence: Sequence = False,
    strict: Strict = False,
    overwrite: Overwrite = False,
) -> None:
    """Find landmarks where they are missing, then fit one head to all cameras and frames."""
    import json
    from dataclasses import asdict

    from densefit.capture import load_take
    from densefit.fit import FitOptions
    from densefit.fit_outputs import camera_table, scale_sentence
    from densefit.fit_rig import FitRigOptions, run_fit_rig
    from densefit.landmarks.predictor import PredictOptions
    from densefit.progress import info

    take = load_take(inputs, sequence=sequence, strict=strict)
    predict = PredictOptions(
        device=device,
        threads=threads,
        seed=seed,
        start=start,
        end=end,
        every=every,
        weights=weights,
        model=model,
        overwrite=overwrite,
    )
    options = FitRigOptions(
        predict=predict,
        fit=FitOptions(threads=threads, refine_cameras=refine_cameras),
        identity=identity,
        overwrite=overwrite,
        meshes=meshes,
        overlay=overlay,
    )
    report = run_fit_rig(take, out, options)
    info(f"{report.valid_frames} of {report.frames} frames fitted, {scale_sentence(report)}")
    for line in camera_table(report):
        info(line)
    if as_json:
        typer.echo(json.dumps(asdict(report), default=str, indent=2))
    else:
        for path in (report.fit, report.rig, report.neutral, *report.overlays):
            typer.echo(path)
