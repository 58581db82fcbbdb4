"""`out/report.html`: one file that says how good a fit is, with pictures, charts and a 3D view."""

from __future__ import annotations

import json
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np

from densefit.files import write_text
from densefit.fit_outputs import estimated_focal_std, focal_text, size_sentence
from densefit.head.rotation import rotation_matrix
from densefit.report.charts import ChartOptions, Line, line_chart, plan_drawing, seen_strip
from densefit.report.evidence import Evidence, gather_evidence, meta_text
from densefit.report.pictures import FramePictures, frame_pictures, identity_views
from densefit.report.verdict import GOOD, LOOK, NOTE, ODD_REGION, judge
from densefit.report.viewer_data import viewer_data

FOLDER = Path(__file__).parent
MARKS = {NOTE: "note", GOOD: "good", LOOK: "bad"}


def write_report(out: Path, model: Path | None = None) -> Path:
    """Write out/report.html from what is in `out`; recordings that are gone cost only pictures.

    Raises:
        InputError: no usable fit in `out`.
    """
    evidence = gather_evidence(Path(out), model)
    sections = [
        _head_section(evidence),
        _viewer_section(evidence),
        _picture_section(frame_pictures(evidence)),
        _residual_section(evidence),
        _region_section(evidence),
        _identity_section(evidence),
        _expression_section(evidence),
        _pose_section(evidence),
        _time_section(evidence),
        _rig_section(evidence),
        _settings_section(evidence),
    ]
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": escape(f"densefit: {evidence.fit.meta.get('take', evidence.out.name)}"),
        "BODY": "\n".join(filter(None, sections)),
        "DATA": viewer_data(evidence),
        "SCRIPT": (FOLDER / "viewer.js").read_text(encoding="utf-8"),
    }
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text)
    path = Path(out) / "report.html"
    write_text(path, page)
    return path


def _section(title: str, body: str, note: str = "") -> str:
    below = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{below}{body}</section>"


def _table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _head_section(evidence: Evidence) -> str:
    verdict, fit = judge(evidence), evidence.fit
    reasons = "".join(
        f'<li class="{MARKS.get(r.level, "fair")}"><b>{escape(r.level)}</b> {escape(r.text)}</li>'
        for r in verdict.reasons
    )
    facts = (
        f"{_frames(evidence)}, "
        f"{len(evidence.cameras)} {'camera' if len(evidence.cameras) == 1 else 'cameras'}; "
        f"scale {fit.meta['scale']}: {size_sentence(fit.meta)}."
    )
    mark = MARKS.get(verdict.level, "fair")
    return (
        f"<h1>{escape(str(fit.meta.get('take', evidence.out.name)))}</h1>"
        f'<p class="verdict {mark}">{escape(verdict.level)}</p>'
        f"<p>{escape(facts)}</p><ul class='reasons'>{reasons}</ul>"
    )


def _frames(evidence: Evidence) -> str:
    count = evidence.fit.n_frames
    if evidence.fit.meta.get("independent_frames") or count == 1:
        return "one moment" if count == 1 else f"{count} separate pictures"
    return f"{count} frames at {evidence.fit.fps:.4g} a second"


def _viewer_section(evidence: Evidence) -> str:
    label = "Drag to turn, wheel to come nearer. Blue: the cameras."
    return _section("The head", (FOLDER / "viewer.html").read_text(encoding="utf-8"), label)


def _picture_section(pictures: list[FramePictures]) -> str:
    if not pictures:
        return _section("Frames", "<p>The recordings are not where they were: no pictures.</p>")
    rows = []
    for item in pictures:
        title = (
            f"{item.camera}: {item.which} frame {item.frame}, residual {item.residual_px:.2f} px"
        )
        images = "".join(
            f'<img src="{uri}" alt="{escape(what)}" title="{escape(what)}">'
            for uri, what in (
                (item.landmarks, "landmarks: green certain, red uncertain"),
                (item.wire, "fitted mesh, wire"),
                (item.shaded, "fitted mesh, shaded"),
            )
        )
        rows.append(f"<figure><figcaption>{escape(title)}</figcaption>{images}</figure>")
    note = "Landmarks (green certain, red uncertain), the fitted mesh as wire, and shaded."
    return _section("Worst, median and best frames", "".join(rows), note)


def _chart(evidence: Evidence, lines: list[Line], options: ChartOptions) -> str:
    """Over time, or over the pictures where these have nothing to do with one another in time."""
    fit = evidence.fit
    if fit.meta.get("independent_frames"):
        return line_chart(np.arange(fit.n_frames), lines, replace(options, joined=False))
    return line_chart(fit.time - fit.time[0], lines, options)


def _residual_section(evidence: Evidence) -> str:
    fit = evidence.fit
    lines = [Line(name, fit.residual_px[:, c]) for c, name in enumerate(evidence.cameras)]
    chart = _chart(evidence, lines, ChartOptions(y_label="px"))
    rows = []
    for column, name in enumerate(evidence.cameras):
        values = fit.residual_px[:, column]
        seen = values[np.isfinite(values)]
        share = evidence.relative_residual.get(name)
        rows.append(
            [
                name,
                f"{len(seen)} of {fit.n_frames}",
                f"{np.median(seen):.2f}" if len(seen) else "",
                f"{np.percentile(seen, 95):.2f}" if len(seen) else "",
                f"{evidence.face_px[name]:.0f}" if name in evidence.face_px else "",
                f"{share:.2%}" if share is not None else "",
            ]
        )
    header = ["camera", "frames", "median px", "95 % px", "face square px", "median / square"]
    note = (
        "Distance between the landmarks and the fitted head's, over those that are certain. The "
        "face's square is what the network looked at, about 1.4 times the face's height."
    )
    return _section("Residual", chart + _table(header, rows), note)


def _region_section(evidence: Evidence) -> str:
    if not evidence.regions:
        return ""
    rows = [
        [r.name, f"{r.residual:.1f}", f"{r.sigma:.1f}", f"{r.in_sigmas:.2f}"]
        for r in evidence.regions
    ]
    header = ["region", "residual", "sigma", "residual / sigma"]
    table = f"<details open><summary>{len(rows)} regions</summary>{_table(header, rows)}</details>"
    note = (
        "In thousandths of the face's square, medians over cameras and frames. Residual / sigma "
        "above 1.2: the head cannot follow, or the network is surer than it should be; the verdict "
        f"names regions above {ODD_REGION}, but for those that mouth, hair and collar mostly hide."
    )
    return _section("Residual by region", table, note)


def _identity_section(evidence: Evidence) -> str:
    images = "".join(
        f'<figure class="small"><img src="{uri}" alt="{escape(title)}">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
        for title, uri in identity_views(evidence).items()
    )
    std = evidence.fit.identity_std
    known = 1 - float(np.mean(np.minimum(std, 1.0) ** 2))
    note = "The person at rest, " + (
        f"of whose identity's variance the recordings determine {known:.0%}; the rest is the "
        "average person's."
        if std.any()
        else "as known from an earlier take."
    )
    return _section("Identity", images, note)


def _expression_section(evidence: Evidence) -> str:
    fit = evidence.fit
    if fit.n_frames < 2:
        return _expression_table(evidence)
    posed = fit.expression[fit.posed]
    activity = np.nan_to_num(posed.std(axis=0)) + 0.2 * np.nan_to_num(posed.max(axis=0))
    order = np.argsort(-activity, kind="stable")
    charts = []
    for k in order:
        line = Line(
            evidence.head.expression_names[k], fit.expression[:, k], fit.expression_std[:, k]
        )
        options = ChartOptions(420, 104, line.label, (0.0, 1.0), legend=False)
        charts.append(_chart(evidence, [line], options))
    rest = (
        f"<details><summary>the other {len(charts) - 12}</summary>{''.join(charts[12:])}</details>"
    )
    note = "The most active first; the band is one standard deviation."
    return _section("Expression", "".join(charts[:12]) + rest, note)


def _expression_table(evidence: Evidence) -> str:
    fit, frame = evidence.fit, int(np.flatnonzero(evidence.fit.posed)[0])
    order = np.argsort(-fit.expression[frame], kind="stable")[:16]
    rows = [
        [
            evidence.head.expression_names[k],
            f"{fit.expression[frame, k]:.2f}",
            f"{fit.expression_std[frame, k]:.2f}",
        ]
        for k in order
    ]
    return _section("Expression", _table(["shape", "weight", "standard deviation"], rows))


def _pose_section(evidence: Evidence) -> str:
    from densefit.export.arkit import yaw_pitch_roll
    from densefit.export.orientation import world_to_up

    fit = evidence.fit
    if fit.n_frames < 2:
        return ""
    turn = world_to_up("y", evidence.rig, fit.meta.get("up"))
    angles = np.full((fit.n_frames, 3), np.nan)
    posed = fit.posed
    angles[posed] = np.degrees(yaw_pitch_roll(turn @ rotation_matrix(fit.rotation[posed])))
    places = fit.translation @ turn.T * 100
    rotation = [Line(n, angles[:, i]) for i, n in enumerate(("yaw", "pitch", "roll"))]
    position = [
        Line(n, places[:, i] - np.nanmedian(places[:, i]), fit.translation_std[:, i] * 100)
        for i, n in enumerate(("right", "up", "towards the cameras"))
    ]
    # A take of one pose would otherwise be drawn with its noise filling the chart.
    spread = max(5.0, float(np.nanmax(np.abs(angles))) * 1.1)
    way = max(1.0, float(np.nanmax(np.abs([line.y for line in position]))) * 1.1)
    return _section(
        "Pose",
        _chart(evidence, rotation, ChartOptions(y_label="degrees", y_range=(-spread, spread)))
        + _chart(evidence, position, ChartOptions(y_label="cm", y_range=(-way, way))),
    )


def _time_section(evidence: Evidence) -> str:
    fit = evidence.fit
    seen = [(n, np.isfinite(fit.residual_px[:, c])) for c, n in enumerate(evidence.cameras)]
    strip = seen_strip(fit.time, [("head", fit.posed), *seen])
    rows = []
    offsets, rates = _sync(evidence.out / "sync.yaml")
    for column, name in enumerate(evidence.cameras):
        given = evidence.footage.index[:, column] >= 0 if evidence.footage is not None else None
        rows.append(
            [
                name,
                f"{1000 * offsets.get(name, 0.0):.2f}",
                f"{1e6 * (rates.get(name, 1.0) - 1):.1f}",
                f"{int((~given).sum())}" if given is not None else "",
                f"{int((~seen[column][1]).sum())}",
            ]
        )
    header = ["camera", "offset ms", "clock rate ppm", "no picture", "no head"]
    note = "Red: frames in which a camera did not show the head. Pictures are matched by time."
    return _section("Synchronization and missing frames", strip + _table(header, rows), note)


def _sync(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    from calibration.safe_yaml import load_yaml

    if not path.is_file():
        return {}, {}
    data = load_yaml(path, "sync file")
    return data.get("offsets") or {}, data.get("clock_rates") or {}


def _rig_section(evidence: Evidence) -> str:
    from densefit.export.orientation import world_to_up

    turn = world_to_up("y", evidence.rig, evidence.fit.meta.get("up"))
    path = evidence.fit.translation @ turn.T
    cameras, rows = [], []
    for name in evidence.cameras:
        camera = evidence.known_camera(name)
        if camera is None:
            continue
        inverse = np.linalg.inv(np.asarray(camera.T_camera_world))
        centre, direction = turn @ inverse[:3, 3], turn @ inverse[:3, 2]
        cameras.append((name, centre, direction))
        distance = float(np.nanmedian(np.linalg.norm(path - centre, axis=1)))
        size = f"{camera.width} x {camera.height}"
        focal, std = (
            float(np.asarray(camera.K)[0, 0]),
            estimated_focal_std(camera, evidence.fit.meta),
        )
        # Sizes in the picture tell focal length over distance, so both are off by the same share.
        spread = distance * std / focal
        away = f"{distance:.2f} m (give or take {spread:.2f})" if std else f"{distance:.3f} m"
        rows.append([name, size, focal_text(focal, std), camera.model, away])
    views = ""
    # Seen from above, the cameras' side is down: x to the right, -z upwards.
    for title, axes, signs in (("from above", [0, 2], [1, -1]), ("from the side", [2, 1], [1, 1])):
        items = [(n, c[axes] * signs, d[axes] * signs) for n, c, d in cameras]
        views += plan_drawing(title, items, path[:, axes] * signs)
    header = ["camera", "picture", "focal length", "lens", "to the head"]
    note = (
        "Lens: how the picture is distorted, by OpenCV's names (opencv: an ordinary lens). What is "
        "estimated was found by the fit, not given; give or take is one standard deviation, and "
        "distances share it."
    )
    return _section("Rig", views + _table(header, rows), note) if rows else ""


def _settings_section(evidence: Evidence) -> str:
    meta = evidence.fit.meta
    names = (
        "model", "scale", "scale_std", "identity_source", "landmarks_version", "energy",
        "iterations",
    )  # fmt: skip
    rows = [[name, meta_text(meta[name])] for name in names if name in meta]
    rows += [[name, meta_text(value)] for name, value in (meta.get("versions") or {}).items()]
    options = meta.get("options") or {}
    listing = escape(json.dumps(options, indent=2, ensure_ascii=False))
    details = f"<details><summary>options</summary><pre>{listing}</pre></details>"
    return _section("Settings and versions", _table(["", ""], rows) + details)
