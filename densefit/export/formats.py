"""The export formats, and the stage that writes them into `out/export/<format>/`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from densefit.errors import UsageError
from densefit.export.scene import ExportOptions, ExportScene, load_scene
from densefit.files import ensure_out_dir
from densefit.model_file import open_head
from densefit.progress import warn

Writer = Callable[[ExportScene, Path], list[Path]]


@dataclass(frozen=True)
class Format:
    """One export format; `writer` is `module:function` and imported only when used."""

    name: str
    description: str
    writer: str

    def load(self) -> Writer:
        module, function = self.writer.split(":")
        return getattr(importlib.import_module(module), function)


_ALL = (
    Format(
        "glb",
        "animated head with 52 morph targets, joints, materials and cameras",
        "densefit.export.glb:write_glb",
    ),
    Format("usd", "the same as UsdSkel (needs densefit[usd])", "densefit.export.usd:write_usd"),
    Format("arkit-csv", "Live Link Face table", "densefit.export.arkit:write_arkit_csv"),
    Format("ply", "one mesh a frame", "densefit.export.mesh_sequence:write_ply"),
    Format("obj", "one mesh a frame, with UVs", "densefit.export.mesh_sequence:write_obj"),
    Format("pc2", "vertex cache and its mesh", "densefit.export.point_cache:write_pc2"),
    Format(
        "npz",
        "vertices of all frames and all of fit.npz",
        "densefit.export.tables:write_vertices_npz",
    ),
    Format("csv", "parameters, one row a frame", "densefit.export.tables:write_csv"),
    Format(
        "blender",
        "a script that rebuilds head, animation, cameras and footage",
        "densefit.export.blender:write_blender",
    ),
    Format(
        "nerfstudio",
        "transforms.json with cameras, time steps and pictures",
        "densefit.export.nerfstudio:write_nerfstudio",
    ),
    Format("bvh", "motion of head and eyes", "densefit.export.bvh:write_bvh"),
)
FORMATS = {form.name: form for form in _ALL}
UNTEXTURED = ("ply", "pc2", "blender")
"""They show the head, but not the colour map of `texture`."""


def find_format(name: str) -> Format:
    """Format by name; UsageError with the nearest name otherwise."""
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name.lower().lstrip("."), FORMATS, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    if "," in name:
        hint = "; give -f once for each"
    raise UsageError(f"--format {name}: unknown format{hint} (known: {', '.join(FORMATS)})")


def export(
    out: Path,
    formats: Sequence[str],
    options: ExportOptions | None = None,
    model: Path | None = None,
) -> dict[str, list[Path]]:
    """Write a finished fit in each of `formats`.

    Args:
        out: folder with fit.npz, meta.json and rig.yaml.
        formats: names out of FORMATS; all are checked before anything is written.
        model: head model file; default the shipped one.
    Returns:
        The files written, by format.
    Raises:
        UsageError: unknown format or frames. InputError: no usable fit, folder not writable.
    """
    chosen = [find_format(name) for name in dict.fromkeys(formats)]
    scene = load_scene(Path(out), open_head(model), options or ExportOptions())
    ignoring = [form.name for form in chosen if form.name in UNTEXTURED]
    if scene.options.texture and ignoring:
        warn(f"{', '.join(ignoring)}: without the colour map; --texture is for glb, usd and obj")
    base = scene.fit.path.parent / "export"
    return {form.name: form.load()(scene, ensure_out_dir(base / form.name)) for form in chosen}
