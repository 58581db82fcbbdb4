"""Renders takes of people who are in no training data, with their true surfaces.

    python benchmarks/people_takes.py ../shared/data/ict_facekit -o OUT [--people 12] [--frames 5]
        [--distance 0.5]

Each person is drawn from ICT-FaceKit with an odd seed (even ones made the head's priors); the head
model is registered to that surface (0.2 mm from it) and rendered with hair, clothes and light of
its own before three cameras half a metre away (or --distance), 20 degrees apart. The frames are
separate moments with expressions as people make them. OUT/person_NN gets take.yaml, rig.yaml, a
folder of pictures for each camera and truth.npz: besides what `densefit.synth.take` writes, `scan`
(N, 3) and `scan_normals`, points of the true neutral face in the head frame of the registered head,
metres.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from calibration import Camera, Rig, write_rig
from densefit.evaluate.scan_fit import ScanFitOptions, ScanFitter
from densefit.evaluate.scans import face_samples, held_out_people
from densefit.files import ensure_out_dir, write_npz, write_text
from densefit.head import load_head
from densefit.head.foreign import ict
from densefit.head.foreign.convert import convert
from densefit.head.model import HeadModel
from densefit.synth.people import sample_expression, sample_joints
from densefit.synth.performance import Performance
from densefit.synth.render import Renderer
from densefit.synth.sampling import Dice
from densefit.synth.take import Stage, TakeOptions, look_at

DISTANCE, ANGLES, SIZE, FOCAL = 0.5, (-20.0, 0.0, 20.0), 768, 1160.0
"""Metres, degrees, px; px at that distance, and as faces shall be as large at another."""
FIRST_LOOK = 910_000
"""Seed of the first person's looks; training renders use small ones."""


def moments(count: int, seed: int) -> Performance:
    """Separate moments: expressions, gaze and poses as training draws them, less of turning."""
    dice = Dice(torch.Generator().manual_seed(seed), count)
    rng = np.random.default_rng(seed)
    return Performance(
        sample_expression(dice).numpy().astype(np.float64),
        sample_joints(dice).numpy().astype(np.float64) * [[[0.5], [0], [1], [1]]],
        rng.normal(size=(count, 3)) * [0.08, 0.15, 0.05],
        rng.normal(size=(count, 3)) * 0.012 + [0, 0.02, 0],
        np.arange(count) * 10.0,
    )


def rig_cameras(distance: float) -> list[Camera]:
    """Three cameras before the face, so many metres away."""
    out, focal = [], FOCAL * distance / DISTANCE
    for name, degrees in zip(("left", "middle", "right"), ANGLES, strict=True):
        turn = np.deg2rad(degrees)
        at = (distance * np.sin(turn), 0.0, distance * np.cos(turn))
        out.append(look_at(name, at, (SIZE, SIZE), focal, target=(0, -0.01, 0)))
    return out


def render_person(
    folder: Path,
    renderer: Renderer,
    identity: np.ndarray,
    cameras: list[Camera],
    number: int,
    frames: int,
) -> dict[str, np.ndarray]:
    """Write the pictures; returns the truth."""
    import cv2

    options = TakeOptions(
        folder.name, tuple(cameras), person=FIRST_LOOK + number, room=number + 1, seconds=0.1
    )
    stage = Stage(renderer, options)
    stage.performance = moments(frames, FIRST_LOOK + number)
    looks = torch.tensor(identity, dtype=torch.float32)[None]
    stage.scene = replace(stage.scene, people=replace(stage.scene.people, identity=looks))
    for camera in cameras:
        place = ensure_out_dir(ensure_out_dir(folder) / camera.name)
        for start in range(frames):
            pictures, _, _ = stage.shoot(camera, torch.tensor([start]))
            cv2.imwrite(str(place / f"{start:03d}.png"), pictures[0][..., ::-1])
    lines = ["rig: rig.yaml", "cameras:", *(f"  {c.name}: {c.name}" for c in cameras)]
    write_text(folder / "take.yaml", "\n".join(lines) + "\n")
    write_rig(folder / "rig.yaml", Rig(cameras={c.name: c for c in cameras}, up=np.eye(3)[1]))
    return stage.truth()


def main() -> None:
    """Register, render, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ict", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/people"))
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--distance", type=float, default=DISTANCE)
    chosen = parser.parse_args()
    head = load_head()
    renderer, fitter = Renderer(head), ScanFitter(head)
    for number, surface in enumerate(held_out_people(load_ict(chosen.ict, head), chosen.people)):
        folder = chosen.out / f"person_{number:02d}"
        if (folder / "truth.npz").is_file():
            continue
        scan = face_samples(surface, 6000)
        found = fitter.fit(scan, ScanFitOptions(expression_deviation=0.0, landmark_noise=1e-3))
        cameras = rig_cameras(chosen.distance)
        truth = render_person(folder, renderer, found.identity, cameras, number, chosen.frames)
        extra = {
            "scan": found.to_head(scan.points), "scan_normals": scan.normals @ found.rotation.T,
        }  # fmt: skip
        write_npz(folder / "truth.npz", **(truth | extra))
        print(folder, flush=True)


def load_ict(folder: Path, head: HeadModel) -> HeadModel:
    """ICT-FaceKit with this head's landmarks."""
    with tempfile.TemporaryDirectory() as place:
        return load_head(convert(ict.read(folder), head, Path(place) / "ict.npz"))


if __name__ == "__main__":
    main()
