"""The demo: copies the sample take, then runs every stage on it, as a user would."""

from __future__ import annotations

import shutil
from pathlib import Path

from densefit.errors import InputError
from densefit.files import ensure_out_dir
from densefit.progress import info

SAMPLE = "trio"


def sample_take() -> Path:
    """Folder of the sample take: in the installed package, or in a checkout beside it.

    Raises:
        InputError: neither is there.
    """
    package = Path(__file__).parent
    for folder in (package / "sample_rigs" / SAMPLE, package.parent / "sample_rigs" / SAMPLE):
        if (folder / "take.yaml").is_file():
            return folder
    raise InputError(
        f"the sample take '{SAMPLE}' is missing from {package}; install densefit again"
    )


def run_demo(out: Path, device: str = "auto", threads: int | None = None) -> dict[str, Path]:
    """Copy the sample to out/take, fit it into out/result and export it.

    Returns:
        What a person wants to open, by title.
    """
    from densefit.capture import load_take
    from densefit.export.formats import export
    from densefit.fit import FitOptions
    from densefit.fit_outputs import camera_table
    from densefit.fit_rig import FitRigOptions, run_fit_rig
    from densefit.landmarks.predictor import PredictOptions

    source = sample_take()
    out = ensure_out_dir(out)
    copy, result = out / "take", out / "result"
    shutil.copytree(source, copy, dirs_exist_ok=True)
    take = load_take([copy / "take.yaml"])
    info(f"demo: {len(take.sources)} cameras of {copy}")
    # The sample may have changed since an earlier demo.
    predict = PredictOptions(device=device, threads=threads, overwrite=True)
    options = FitRigOptions(predict=predict, fit=FitOptions(threads=threads), overwrite=True)
    report = run_fit_rig(take, result, options)
    for line in camera_table(report):
        info(line)
    files = export(result, ["glb", "ply"])
    return {
        "report": report.page or result,
        "overlay": report.mosaic or result,
        "mesh": report.neutral,
        "sequence": files["ply"][0].parent,
        "glb": files["glb"][0],
    }
