"""`densefit fit-rig`: a take becomes an animated head."""

from __future__ import annotations

from typing import Annotated

import typer

from densefit.cli.flags import FitFlags, PredictFlags, TakeFlags
from densefit.cli.options import AsJson, DryRun, Out


def fit_rig(
    recordings: TakeFlags,
    out: Out,
    prediction: PredictFlags,
    fitting: FitFlags,
    same_person: Annotated[
        bool,
        typer.Option(
            "--same-person",
            help="The inputs are several takes (take.yaml each) of one person: one identity; each "
            "take gets its own folder in --out.",
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Find landmarks where they are missing, then fit one head to all cameras and frames."""
    from dataclasses import asdict

    from densefit.cli.results import print_json
    from densefit.fit_folder import check_fit_folder
    from densefit.fit_outputs import camera_table, check_residuals
    from densefit.fit_rig import run_fit_rig, run_same_person
    from densefit.progress import info

    takes = recordings.load_each() if same_person else [recordings.load()]
    for take in takes:
        folder = out / take.name if same_person else out
        check_fit_folder(take, folder, prediction.overwrite, recordings.inputs)
    if dry_run:
        from densefit.cli.inspect import show
        from densefit.files import check_out_dir
        from densefit.inspection import inspect_take

        check_out_dir(out)
        for take in takes:
            show(inspect_take(take, prediction.options(), out), as_json)
        return
    options = fitting.options(prediction)
    if same_person:
        reports = run_same_person(takes, out, options)
    else:
        reports = [run_fit_rig(takes[0], out, options)]
    for take, report in zip(takes, reports, strict=True):
        if same_person:
            info(f"take {take.name}")
        info(f"{report.valid_frames} of {report.frames} frames fitted, {report.sizes}")
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
        check_residuals(report, fitting.max_residual_px)
