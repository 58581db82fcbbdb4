"""densefit on real footage: `python benchmarks/real_data.py DATA -o OUT [--json FILE]`.

DATA holds rigs/three_cameras (photos of one person from three calibrated cameras, five
expressions), video/*.mp4 (talking heads) and hdri/*.hdr (panoramas without people). Printed are the
figures that say whether the tool works on people: valid frames on the clips, none where there is
no face, and on the rig the residual and the agreement of five independent fits of one person.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from densefit.capture import VideoWriter, load_take, open_frames
from densefit.errors import InputError
from densefit.files import ensure_out_dir
from densefit.fit import FitOptions
from densefit.fit_file import read_fit
from densefit.fit_rig import FitRigOptions, run_fit_rig
from densefit.head import load_head
from densefit.landmarks.files import read_landmarks
from densefit.landmarks.predictor import PredictOptions, predict

PREDICT = PredictOptions(overwrite=True)


def three_cameras(data: Path, out: Path) -> list[dict[str, object]]:
    """Five joint fits of one person: residual, eyeball distance, and the gain from identity."""
    head = load_head()
    residual: dict[str, list[float]] = {"free": [], "mean": []}
    distance = []
    for take_file in sorted((data / "rigs/three_cameras").glob("take_e*.yaml")):
        take = load_take([take_file])
        for name, identity in (("free", None), ("mean", np.zeros(head.identity_count))):
            folder = out / f"{take_file.stem}_{name}"
            options = FitRigOptions(
                predict=PREDICT, fit=FitOptions(identity=identity), overwrite=True,
                overlay=name == "free",
            )  # fmt: skip
            run_fit_rig(take, folder, options)
            fit = read_fit(folder, head)
            residual[name].append(float(np.nanmedian(fit.residual_px)))
            if name == "free":
                eyes = head.joint_positions(fit.identity)[2:]
                distance.append(float(np.linalg.norm(eyes[0] - eyes[1])) * 1e3)
    spread = max(distance) - min(distance)
    print(
        "residual px",
        np.round(residual["free"], 2),
        "identity fixed",
        np.round(residual["mean"], 2),
    )
    print("eyeball distance mm", np.round(distance, 2))
    free, fixed = float(np.median(residual["free"])), float(np.median(residual["mean"]))
    return [
        row("three_cameras median residual", free, "px"),
        row("three_cameras eyeball distance, spread over five fits", spread, "mm"),
        row("three_cameras residual with mean identity / free", fixed / free, "ratio"),
    ]


def clips(data: Path, out: Path) -> list[dict[str, object]]:
    """Share of valid frames of each clip, and of one whose face is painted out."""
    rows = []
    for clip in sorted((data / "video").glob("*.mp4")):
        rows.append(row(f"{clip.stem} valid frames", valid_share(clip, out / clip.stem), "share"))
    painted = paint_out(data / "video/talk_512.mp4", out)
    rows.append(
        row("talk_512 with its face painted out", valid_share(painted, out / "painted"), "share")
    )
    return rows


def valid_share(path: Path, out: Path) -> float:
    """Valid frames of one camera; a take without any face counts as zero."""
    take = load_take([path])
    try:
        files = predict(take, ensure_out_dir(out), PREDICT)
    except InputError:
        return 0.0
    return float(np.mean([read_landmarks(f).valid.mean() for f in files.values()]))


def paint_out(clip: Path, out: Path) -> Path:
    """A copy of a clip with a flat patch over the head of every frame."""
    take = load_take([clip])
    ((name, source),) = take.sources.items()
    file = predict(take, ensure_out_dir(out / clip.stem), replace(PREDICT, overwrite=False))[name]
    track = read_landmarks(file)
    target = out / f"{clip.stem}_painted.mp4"
    with VideoWriter(target, source.fps or 25, source.width, source.height) as writer:
        for frame in open_frames(source):
            picture = np.array(frame.image)
            points = track.xy[min(frame.index, len(track.xy) - 1)]
            if np.isfinite(points).all():
                low, high = points.min(0), points.max(0)
                x0, y0 = np.maximum(low - 0.1 * (high - low), 0).astype(int)
                x1, y1 = (high + 0.1 * (high - low)).astype(int)
                picture[y0:y1, x0:x1] = 128
            writer.write(picture)
    return target


def panoramas(data: Path, out: Path) -> list[dict[str, object]]:
    """Faces found on pictures without people."""
    import cv2

    folder = ensure_out_dir(out / "panoramas")
    count = 0
    for path in sorted((data / "hdri").glob("*.hdr")):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        tone = np.clip(picture / np.median(picture) * 0.25, 0, 1) ** (1 / 2.2)
        photo = folder / f"{path.stem}.png"
        cv2.imwrite(str(photo), (tone * 255).astype(np.uint8))
        count += valid_share(photo, out / "panoramas_out" / path.stem) > 0
    return [row("panoramas with a face", float(count), "pictures")]


def row(name: str, value: float, unit: str) -> dict[str, object]:
    """One figure, printed as it comes."""
    print(f"{name:60s} {value:10.3f} {unit}", flush=True)
    return {"name": name, "value": value, "unit": unit, "peer": None, "peer_value": None}


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/real_data"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=["three_cameras", "clips", "panoramas"])
    options = parser.parse_args()
    rows = []
    for part in (three_cameras, clips, panoramas):
        if options.only in (None, part.__name__):
            rows += part(options.data, options.out)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
