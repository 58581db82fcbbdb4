"""`densefit export`: a finished fit becomes files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from densefit.cli.options import Model


def export(
    out: Annotated[
        Path, typer.Argument(readable=False, help="Output folder of `densefit fit-rig`.")
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="glb, usd, arkit-csv, ply, obj, pc2, npz, csv, blender, nerfstudio or bvh; "
            "may be given several times. [glb]",
        ),
    ] = None,
    frames: Annotated[
        str | None, typer.Option("--frames", help="Only recorded frames a:b (b excluded), or one.")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            help="Resample to this rate, timing kept (photos: shown a second). [the take's own]",
        ),
    ] = None,
    up: Annotated[
        Literal["world", "y", "z"],
        typer.Option(
            "--up",
            help="Turn the world so that this is up. `world`: each format's own rule (glb, usd, "
            "bvh, nerfstudio: y; blender: z; the others: the rig's axes).",
        ),
    ] = "world",
    unit: Annotated[
        Literal["m", "cm"],
        typer.Option("--unit", help="Unit of lengths (glTF means m: glb in cm says so)."),
    ] = "m",
    subdivide: Annotated[
        int,
        typer.Option(
            "--subdivide", min=0, max=3, help="Levels of Catmull-Clark refinement of the mesh."
        ),
    ] = 0,
    stabilize: Annotated[
        bool, typer.Option("--stabilize", help="Take the head's motion out.")
    ] = False,
    texture: Annotated[
        bool,
        typer.Option("--texture", help="Bake a colour map from the cameras, for glb, usd, obj."),
    ] = False,
    model: Model = None,
) -> None:
    """Write the animated head for other programs into OUT/export/<format>."""
    from densefit.export.formats import export as run_export
    from densefit.export.scene import ExportOptions
    from densefit.progress import info

    options = ExportOptions(
        frames=frames,
        fps=fps,
        up=up,
        unit=unit,
        subdivide=subdivide,
        stabilize=stabilize,
        texture=texture,
    )
    written = run_export(out, formats or ["glb"], options, model)
    for name, files in written.items():
        where = files[0] if len(files) == 1 else files[0].parent
        info(f"{name}: {len(files)} {'file' if len(files) == 1 else 'files'}")
        typer.echo(where)
