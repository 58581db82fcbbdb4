"""What `densefit doctor` looks at: versions, devices, codecs, models, and a short run of it all."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densefit.errors import DensefitError

PACKAGES = ("torch", "numpy", "scipy", "opencv-python", "av", "open3d", "safetensors", "pyyaml",
            "typer", "rich")  # fmt: skip
STAND_INS = {"opencv-python": ("opencv-python-headless", "opencv-contrib-python",
                               "opencv-contrib-python-headless")}  # fmt: skip
OPTIONAL = ("usd-core", "matplotlib", "ray", "bpy")
DECODERS = ("h264", "hevc", "vp9", "av1", "prores", "mjpeg")
TEST_FRAMES = 4
TEST_RESIDUAL_PX = 3.0


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis."""

    name: str
    text: str
    good: bool = True


@dataclass
class Diagnosis:
    """Findings by topic."""

    topics: dict[str, list[Finding]] = field(default_factory=dict)

    @property
    def problems(self) -> list[Finding]:
        """What has to be mended before densefit works."""
        return [f for findings in self.topics.values() for f in findings if not f.good]


def examine(self_test: bool = True) -> Diagnosis:
    """Look at everything; nothing that is found wrong raises.

    Args:
        self_test: also predict and fit a few frames of the sample take, about 5 s.
    """
    topics: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": _versions,
        "devices": _devices,
        "video": _codecs,
        "models": _models,
    }
    if self_test:
        topics["self-test"] = _self_test
    return Diagnosis({name: list(_guarded(look)) for name, look in topics.items()})


def _guarded(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A look that fails is a finding too: the rest is still examined."""
    try:
        yield from look()
    except Exception as error:
        yield Finding("failed", f"{type(error).__name__}: {error}", good=False)


def _versions() -> Iterator[Finding]:
    import densefit

    yield Finding("densefit", f"{densefit.__version__} in {Path(densefit.__file__).parent}")
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        version = _version_of(package, *STAND_INS.get(package, ()))
        yield Finding(package, version or f"missing: pip install {package}", version is not None)
    for package in OPTIONAL:
        yield Finding(package, _version_of(package) or "not installed (optional)")


def _version_of(*names: str) -> str | None:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _devices() -> Iterator[Finding]:
    import torch

    from densefit.precision import dtype_name, inference_dtype

    capability = torch.backends.cpu.get_cpu_capability()
    fastest = dtype_name(inference_dtype("auto", torch.device("cpu")))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(
        "cpu",
        f"{cores} cores, {capability}, torch uses {torch.get_num_threads()} threads; landmark"
        f" networks run fastest in {fastest}",
    )
    if not torch.cuda.is_available():
        yield Finding("cuda", "none: everything runs on the CPU")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        memory = properties.total_memory / 2**30
        yield Finding(f"cuda:{number}", f"{properties.name}, {memory:.0f} GiB")


def _codecs() -> Iterator[Finding]:
    import av

    libraries = ", ".join(
        f"{name} {'.'.join(map(str, version))}" for name, version in av.library_versions.items()
    )
    yield Finding("FFmpeg", libraries)
    known = [name for name in DECODERS if name in av.codecs_available]
    missing = [name for name in DECODERS if name not in known]
    text = ", ".join(known) + (f"; not: {', '.join(missing)}" if missing else "")
    yield Finding("decodes", text, "h264" in known)
    yield _written_and_read()


def _written_and_read() -> Finding:
    """Write three pictures as overlays are written, and read them back."""
    import av
    import numpy as np

    from densefit.capture import VideoWriter, open_frames, open_source
    from densefit.errors import InputError

    with tempfile.TemporaryDirectory(prefix="densefit-") as folder:
        path = Path(folder) / "test.mp4"
        try:
            with VideoWriter(path, 25, 64, 48) as video:
                for level in (60, 120, 180):
                    video.write(np.full((48, 64, 3), level, np.uint8))
        except InputError as error:
            return Finding("H.264 writing", str(error), good=False)
        levels = [float(frame.image.mean()) for frame in open_frames(open_source("test", path))]
        with av.open(path) as container:
            codec = container.streams.video[0].codec_context.name
    if codec != "h264":
        text = f"no encoder: overlays are written as {codec}, which browsers do not play; "
        return Finding("H.264 writing", text + "pip install --force-reinstall av", good=False)
    good = len(levels) == 3 and all(
        abs(a - b) < 6 for a, b in zip(levels, (60, 120, 180), strict=True)
    )
    return Finding("H.264 writing", "works" if good else f"wrote {levels}, not 60, 120, 180", good)


def _models() -> Iterator[Finding]:
    from densefit.head.model import DEFAULT_ASSET, load_head
    from densefit.landmarks.weights import SHIPPED, read_weights

    head = load_head()
    size = DEFAULT_ASSET.stat().st_size / 2**20
    yield Finding(
        "head.npz",
        f"{size:.1f} MiB, sha256 {head.sha256[:16]}, {len(head.template)} vertices, "
        f"{head.identity_count} identity modes, landmarks {head.landmarks_version[:16]}",
    )
    for kind, path in SHIPPED.items():
        try:
            _, metadata = read_weights(path, kind)
        except DensefitError as error:
            yield Finding(path.name, str(error), good=False)
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        trained = metadata.get("landmarks_version", head.landmarks_version)
        fits = trained == head.landmarks_version
        text = f"{path.stat().st_size / 2**20:.1f} MiB, sha256 {digest[:16]}"
        if not fits:
            text += f", but trained for landmarks {str(trained)[:16]}: train again"
        yield Finding(path.name, text, fits)


def _self_test() -> Iterator[Finding]:
    """Predict and fit the beginning of the sample take."""
    from densefit.capture import load_take
    from densefit.demo import sample_take
    from densefit.fit import FitOptions
    from densefit.fit_rig import FitRigOptions, run_fit_rig
    from densefit.landmarks.predictor import PredictOptions

    started = time.monotonic()
    take = load_take([sample_take() / "take.yaml"])
    options = FitRigOptions(
        PredictOptions(device="cpu", end=str(TEST_FRAMES)),
        FitOptions(),
        overlay=False,
        report=False,
    )
    with tempfile.TemporaryDirectory(prefix="densefit-") as folder:
        try:
            report = run_fit_rig(take, Path(folder), options)
        except DensefitError as error:
            yield Finding("predict and fit", str(error), good=False)
            return
    residuals = [value for value in report.residual_px.values() if value is not None]
    worst = max(residuals, default=float("inf"))
    good = report.valid_frames == TEST_FRAMES and worst < TEST_RESIDUAL_PX
    seconds = time.monotonic() - started
    text = (
        f"{report.valid_frames} of {TEST_FRAMES} frames, {len(residuals)} cameras, "
        f"residual {worst:.2f} px, {seconds:.1f} s"
    )
    yield Finding("predict and fit", text, good)


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """For programs."""
    return {
        "ok": not diagnosis.problems,
        "topics": {
            topic: [{"name": f.name, "text": f.text, "ok": f.good} for f in findings]
            for topic, findings in diagnosis.topics.items()
        },
    }
