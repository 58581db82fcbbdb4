"""Agisoft Metashape's cameras XML.

Camera axes are OpenCV's; transforms map the camera to the chunk. Principal points are offsets from
the middle of the picture. p1 and p2 are OpenCV's p2 and p1.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.camera import Camera
from calibration.errors import CalibrationError
from calibration.formats.common import (
    Format,
    ReadOptions,
    begins,
    camera_matrix,
    camera_name,
    need,
    need_pinhole,
    numbers,
    read_text,
    rig_of,
    write_text,
)
from calibration.rig import Rig
from calibration.rotations import invert, transform

_HALF = 0.5
# Labels are file names, with or without their suffix.
_SUFFIX = re.compile(
    r"\.(jpe?g|jpe|jp2|tiff?|png|bmp|dng|exr|heic|webp|arw|cr2|cr3|nef|raf|rw2)$", re.I
)
_TERMS = ("f", "cx", "cy", "k1", "k2", "k3", "k4", "p1", "p2", "b1", "b2")


@dataclass(frozen=True, eq=False)
class _Sensor:
    width: int
    height: int
    model: str
    K: np.ndarray | None
    dist: np.ndarray


def _recognizes(path: Path) -> bool:
    text = begins(path)
    return path.suffix.lower() == ".xml" and "<document" in text and "<chunk" in text


def read_metashape(path: Path, options: ReadOptions) -> Rig:
    """The first chunk's cameras that have a transform; metres where the chunk has a scale.

    Newer versions sort cameras into components, each with a scale of its own; components are not
    aligned with one another, so only one of them is a rig. The unit that `options` give is that of
    the scaled world.
    """
    text = read_text(path, "a cameras XML of Metashape")
    # Entities are of no use here, and can expand without end.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CalibrationError("holds a DOCTYPE, which Metashape does not write; refused")
    try:
        chunk = ET.fromstring(text.encode("utf-8")).find("chunk")
    except (ET.ParseError, LookupError) as error:  # LookupError: an unknown encoding
        raise CalibrationError(f"not valid XML ({error})") from error
    if chunk is None:
        raise CalibrationError("no <chunk> in it; export the cameras from Metashape as XML")
    metres = _metres_per_unit(chunk, options)
    sensors = {s.get("id", ""): _sensor(s) for s in chunk.iterfind("sensors/sensor")}
    cameras = []
    # Cameras may be sorted into groups.
    for entry in chunk.iterfind("cameras//camera"):
        pose = entry.findtext("transform")
        if pose is None:
            continue
        label = camera_name(_SUFFIX.sub("", entry.get("label", "")))
        sensor = sensors.get(entry.get("sensor_id", ""))
        if sensor is None:
            raise CalibrationError(f"camera '{label}': its sensor is not in the file")
        T = invert(_values(pose, 16, f"camera '{label}': transform").reshape(4, 4))
        T[:3, 3] *= metres
        if sensor.K is None:
            raise CalibrationError(f"camera '{label}': its sensor is not calibrated")
        cameras.append(
            Camera(label, sensor.width, sensor.height, sensor.model, sensor.K, sensor.dist, T)
        )
    return rig_of(cameras, "no aligned camera in it")


def _metres_per_unit(chunk: ET.Element, options: ReadOptions) -> float:
    """Of the cameras' transforms: the scale of their component, or of the whole chunk."""
    aligned = [c for c in chunk.iterfind("cameras//camera") if c.find("transform") is not None]
    used = {c.get("component_id") for c in aligned}
    if len(used) > 1:
        raise CalibrationError(
            f"its cameras lie in {len(used)} components, which are not aligned with one another; "
            "merge them in Metashape, or export one of them"
        )
    scales = [
        component.findtext("transform/scale")
        for component in chunk.iterfind("components/component")
        if component.get("id") in used
    ]
    scale = next((s for s in scales if s is not None), chunk.findtext("transform/scale"))
    if scale is None:
        return options.metres_per_unit(None, "a Metashape chunk without scale")
    return float(_values(scale, 1, "scale")[0]) * (options.metres or 1.0)


def _values(text: str, count: int, where: str) -> np.ndarray:
    return numbers(text.split(), (count,), where)


def _sensor(entry: ET.Element) -> _Sensor:
    where = f"sensor '{entry.get('label', entry.get('id', ''))}'"
    resolution = entry.find("resolution")
    if resolution is None:
        raise CalibrationError(f"{where}: its resolution is missing")
    width, height = int(resolution.get("width", 0)), int(resolution.get("height", 0))
    calibration = next(
        (c for c in entry.iterfind("calibration") if c.get("class", "adjusted") == "adjusted"), None
    )
    if calibration is None:
        return _Sensor(width, height, "opencv", None, np.zeros(0))
    kind = calibration.get("type", entry.get("type", "frame"))
    if kind not in ("frame", "fisheye", "equidistant_fisheye"):
        raise CalibrationError(f"{where}: camera type {kind!r} is not supported; use frame")
    term = {
        name: float(_values(calibration.findtext(name, "0"), 1, f"{where}: {name}")[0])
        for name in _TERMS
    }
    if abs(term["b2"]) > 1e-6:
        raise CalibrationError(f"{where}: has skew b2; calibrate in Metashape without b2")
    K = camera_matrix(
        term["f"] + term["b1"],
        term["f"],
        width / 2 + term["cx"] - _HALF,
        height / 2 + term["cy"] - _HALF,
    )
    k = [term[f"k{i}"] for i in range(1, 5)]
    if kind != "frame":
        if term["p1"] or term["p2"]:
            raise CalibrationError(f"{where}: a fisheye lens with p1 or p2 is not supported")
        return _Sensor(width, height, "opencv_fisheye", K, np.array(k))
    if k[3]:
        raise CalibrationError(f"{where}: has k4; calibrate in Metashape with k1 to k3 only")
    dist = np.array([k[0], k[1], term["p2"], term["p1"], k[2]])
    return _Sensor(width, height, "opencv", K, dist if dist.any() else dist[:0])


def write_metashape(path: Path, rig: Rig) -> None:
    """One sensor a camera, in metres (scale 1)."""
    document = ET.Element("document", version="1.5.0")
    chunk = ET.SubElement(document, "chunk", label="rig", enabled="true")
    sensors = ET.SubElement(chunk, "sensors", next_id=str(len(rig.cameras)))
    cameras = ET.SubElement(chunk, "cameras", next_id=str(len(rig.cameras)))
    for number, (name, camera) in enumerate(rig.cameras.items()):
        _, T = need(camera, "Metashape")
        _write_sensor(sensors, str(number), camera)
        entry = ET.SubElement(
            cameras, "camera", id=str(number), sensor_id=str(number), label=name, enabled="true"
        )
        ET.SubElement(entry, "transform").text = _text(invert(T).ravel())
    placed = transform(np.eye(3), np.zeros(3))
    element = ET.SubElement(chunk, "transform")
    ET.SubElement(element, "rotation").text = _text(placed[:3, :3].ravel())
    ET.SubElement(element, "translation").text = _text(placed[:3, 3])
    ET.SubElement(element, "scale").text = "1"
    ET.indent(document)
    write_text(path, '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(document, "unicode"))


def _write_sensor(sensors: ET.Element, number: str, camera: Camera) -> None:
    K, _ = need(camera, "Metashape")
    fisheye = camera.model == "opencv_fisheye"
    kind = "fisheye" if fisheye else "frame"
    sensor = ET.SubElement(sensors, "sensor", id=number, label=camera.name, type=kind)
    size = {"width": str(camera.width), "height": str(camera.height)}
    ET.SubElement(sensor, "resolution", size)
    calibration = ET.SubElement(sensor, "calibration", {"type": kind, "class": "adjusted"})
    ET.SubElement(calibration, "resolution", size)
    term = {
        "f": K[1, 1],
        "cx": K[0, 2] + _HALF - camera.width / 2,
        "cy": K[1, 2] + _HALF - camera.height / 2,
        "b1": K[0, 0] - K[1, 1],
    }
    if fisheye:
        k = np.concatenate([camera.dist, np.zeros(4)])
        term |= {f"k{i + 1}": k[i] for i in range(4)}
    else:
        dist = need_pinhole(camera, "Metashape", 5)
        term |= {"k1": dist[0], "k2": dist[1], "k3": dist[4], "p1": dist[3], "p2": dist[2]}
    for key, value in term.items():
        ET.SubElement(calibration, key).text = repr(float(value))


def _text(values: np.ndarray) -> str:
    return " ".join(repr(float(v)) for v in values)


METASHAPE = Format(
    "metashape",
    "Metashape's cameras XML",
    _recognizes,
    read_metashape,
    write_metashape,
    "cameras.xml",
    suffixes=(".xml",),
)
