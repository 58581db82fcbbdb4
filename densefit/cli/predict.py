"""`densefit predict`: dense landmarks of every frame of every camera."""

from __future__ import annotations

from typing import Annotated

import typer

from densefit.cli.flags import PredictFlags, TakeFlags
from densefit.cli.options import AsJson, DryRun, Out


def predict(
    recordings: TakeFlags,
    out: Out,
    prediction: PredictFlags,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also draw the landmarks over each recording.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Find and follow the head; write its 703 landmarks to OUT/landmarks/<camera>.npz."""
    from densefit.cli.results import print_json
    from densefit.inspection import inspect_take
    from densefit.landmarks.overlay import check_overlays, overlay_paths
    from densefit.landmarks.predictor import predict as run_predict
    from densefit.model_file import open_head

    take = recordings.load()
    options = prediction.options(overlay)
    if dry_run:
        from densefit.cli.inspect import show
        from densefit.files import check_out_dir

        check_out_dir(out)
        if overlay:
            check_overlays(take, out / "overlay")
        show(inspect_take(take, options, out, fit=False), as_json)
        return
    open_head(options.model)  # a damaged one is told before anything relies on it
    made = {"landmarks": run_predict(take, out, options)}
    if overlay:
        made["overlays"] = overlay_paths(take, out / "overlay")
    if as_json:
        print_json(made)
    else:
        for paths in made.values():
            for path in paths.values():
                typer.echo(path)
