"""`densefit fit-rig`: a take becomes an animated head."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from densefit.cli.flags import PredictFlags, TakeFlags
from densefit.cli.options import AsJson, DryRun, Identity, Out


def fit_rig(
    recordings: TakeFlags,
    out: Out,
    prediction: PredictFlags,
    identity: Identity = None,
    same_person: Annotated[
        bool,
        typer.Option(
            "--same-person",
            help="The inputs are several takes (take.yaml each) of one person: one identity; each "
            "take gets its own folder in --out.",
        ),
    ] = False,
    refine_cameras: Annotated[
        Literal["off", "extrinsics", "all"],
        typer.Option(
            "--refine-cameras",
            help="Let given cameras move a little: extrinsics, or focal lengths too (all).",
        ),
    ] = "off",
    refine_sync: Annotated[
        bool,
        typer.Option(
            "--refine-sync",
            help="Correct the cameras' time offsets by the head's motion (see sync.yaml).",
        ),
    ] = False,
    meshes: Annotated[
        bool, typer.Option("--meshes", help="Also write a mesh for each frame.")
    ] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Draw the head over the footage.")
    ] = True,
    report_page: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html, to judge the fit by.")
    ] = True,
    max_residual_px: Annotated[
        float | None,
        typer.Option(
            "--max-residual-px",
            min=0.0,
            help="Quality gate: exit code 4 if a camera's median residual is larger.",
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Find landmarks where they are missing, then fit one head to all cameras and frames."""
    from dataclasses import asdict

    from densefit.cli.results import print_json
    from densefit.fit import FitOptions
    from densefit.fit_outputs import camera_table, check_residuals, scale_sentence
    from densefit.fit_rig import FitRigOptions, run_fit_rig, run_same_person
    from densefit.progress import info

    takes = recordings.load_each() if same_person else [recordings.load()]
    predict = prediction.options()
    if dry_run:
        from densefit.cli.inspect import show
        from densefit.inspection import inspect_take

        for take in takes:
            show(inspect_take(take, predict, out), as_json)
        return
    options = FitRigOptions(
        predict=predict,
        fit=FitOptions(threads=prediction.threads, refine_cameras=refine_cameras),
        identity=identity,
        refine_sync=refine_sync,
        overwrite=prediction.overwrite,
        meshes=meshes,
        overlay=overlay,
        report=report_page,
    )
    if same_person:
        reports = run_same_person(takes, out, options)
    else:
        reports = [run_fit_rig(takes[0], out, options)]
    for report in reports:
        info(f"{report.valid_frames} of {report.frames} frames fitted, {scale_sentence(report)}")
        for line in camera_table(report):
            info(line)
    if as_json:
        print_json([asdict(r) for r in reports] if same_person else asdict(reports[0]))
    else:
        for report in reports:
            made = (report.fit, report.rig, report.neutral, *report.overlays)
            for path in (*made, report.mosaic, report.page):
                if path is not None:
                    typer.echo(path)
    for report in reports:
        check_residuals(report, max_residual_px)
