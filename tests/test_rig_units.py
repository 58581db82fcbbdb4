"""Rigs in the wrong unit are recognised by the distance of the eyes, and the right unit named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_take import Scene, make_scene

from calibration import Camera
from densefit.capture import load_take, master_timeline
from densefit.errors import InputError
from densefit.fit_inputs import FitInputs, gather
from densefit.head.model import load_head
from densefit.rig_units import check_units, eye_distance


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:  # type: ignore[no-untyped-def]
    return make_scene(tmp_path_factory.mktemp("take"))


@pytest.fixture(scope="module")
def inputs(scene: Scene) -> FitInputs:
    take = load_take([scene.take])
    timeline = master_timeline(take, {name: track.time for name, track in scene.tracks.items()})
    return gather(scene.tracks, timeline, {name: take.camera(name) for name in scene.tracks}, {})


def scaled(inputs: FitInputs, factor: float) -> FitInputs:
    def moved(camera: Camera) -> Camera:
        T = np.array(camera.T_camera_world)
        T[:3, 3] *= factor
        return replace(camera, T_camera_world=T)

    return replace(inputs, cameras=[moved(camera) for camera in inputs.cameras])


def test_the_right_unit_passes(inputs: FitInputs, capsys: pytest.CaptureFixture[str]) -> None:
    head = load_head()
    distance = eye_distance(inputs, head)
    assert distance is not None and 0.055 < distance < 0.072
    check_units(inputs, head, None)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("factor", "stated", "advice"),
    [
        (1000, "m", "set units to mm: it says m"),
        (100, "m", "set units to cm: it says m"),
        (10, "cm", "set units to mm: it says cm"),
        (0.1, "mm", "set units to cm: it says mm"),
        (0.01, "cm", "set units to m: it says cm"),
        (0.001, "mm", "set units to m: it says mm"),
        (10, "m", "divide the translations of T_camera_world by 10: they are not in m"),
        (0.1, "m", "multiply the translations of T_camera_world by 10: they are not in m"),
        (0.01, "m", "multiply the translations of T_camera_world by 100"),
    ],
)
def test_wrong_units_are_named(
    factor: float, stated: str, advice: str, inputs: FitInputs, scene: Scene
) -> None:
    rig = replace(load_take([scene.take]).rig, units=stated)
    with pytest.raises(InputError, match=f"rig.yaml: the eyes are .* apart .*{advice}"):
        check_units(scaled(inputs, factor), load_head(), rig)


@pytest.mark.parametrize("factor", [0.8, 1.25, 1.5, 2.0])
def test_other_sizes_are_a_warning(
    factor: float, inputs: FitInputs, capsys: pytest.CaptureFixture[str]
) -> None:
    """A board's square that was measured wrongly, too, makes eyes that no adult has."""
    check_units(scaled(inputs, factor), load_head(), None)
    err = capsys.readouterr().err
    assert "adults: 52 to 75 mm" in err and "check calibration" in err


def test_one_calibrated_camera_knows_no_distance(inputs: FitInputs) -> None:
    cameras = [replace(camera, T_camera_world=None) for camera in inputs.cameras[1:]]
    assert eye_distance(replace(inputs, cameras=[inputs.cameras[0], *cameras]), load_head()) is None
