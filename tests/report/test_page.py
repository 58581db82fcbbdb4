"""The report: what it says, that it needs nothing but itself, and that a browser plays it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densefit.head.model import HeadModel
from densefit.report import evidence as evidence_module
from densefit.report import page as page_module
from densefit.report import viewer_data
from densefit.report.charts import ChartOptions, Line, line_chart, seen_strip, ticks
from densefit.report.evidence import Evidence, RegionResidual, gather_evidence
from densefit.report.page import write_report
from densefit.report.pictures import crop, orbit_camera, telling_frames
from densefit.report.verdict import GOOD, LOOK, USABLE, Verdict, judge
from tests.report.toy_report import write_toy_out
from tests.toy_fit import toy_head


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return toy_head()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, head: HeadModel) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_toy_out(folder, head)
    return folder


@pytest.fixture(scope="module")
def evidence(out: Path, head: HeadModel) -> Evidence:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence_module, "open_head", lambda model: head)
        return gather_evidence(out)


@pytest.fixture(scope="module")
def page(out: Path, head: HeadModel) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence_module, "open_head", lambda model: head)
        return write_report(out)


def test_page_is_complete_and_alone(page: Path):
    text = page.read_text()
    for title in (
        "The head", "Worst, median and best frames", "Residual", "Residual by region", "Identity",
        "Expression", "Pose", "Synchronization and missing frames", "Rig", "Settings and versions",
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in text, title
    loaded = re.findall(r"""(?:src|href)=["']([^"']*)""", text)
    assert loaded and all(item.startswith("data:") for item in loaded)
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}
    # Three frames of each camera in three views, and the head from three sides.
    assert len(re.findall("<img ", text)) == 2 * 3 * 3 + 3
    assert "<!--" not in text
    assert "<td>right</td><td>40.00</td><td>0.0</td><td>1</td>" in text  # offset, rate, no picture


def test_recordings_that_are_gone_cost_only_the_pictures(page: Path, out: Path, head, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(out, moved, ignore=shutil.ignore_patterns("recordings", "footage.npz"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence_module, "open_head", lambda model: head)
        text = write_report(moved).read_text()
    assert "recordings are not where they were" in text and text.count("<img ") == 3


def test_regions_measure_the_noise(evidence: Evidence):
    assert {region.name for region in evidence.regions} == {
        "left upper lid", "lips outer upper", "jaw",
    }  # fmt: skip
    for region in evidence.regions:
        # The median length of a two-dimensional normal deviate is 1.18 deviations.
        assert region.in_sigmas == pytest.approx(1.18, abs=0.06)
        assert region.sigma == pytest.approx(1000 * 0.8 / 250, rel=0.01)


def test_verdicts(evidence: Evidence):
    assert judge(evidence).level == USABLE  # six of nine frames were seen
    fit = evidence.fit
    everything = np.ones(fit.n_frames, bool)
    whole = replace(evidence, fit=replace(fit, valid=everything))
    assert judge(whole).level == GOOD
    poor = replace(evidence, fit=replace(fit, valid=everything, residual_px=fit.residual_px * 20))
    assert judge(poor).level == LOOK
    one_odd = fit.residual_px * [1, 3]
    odd = judge(replace(evidence, fit=replace(fit, valid=everything, residual_px=one_odd)))
    assert odd.level == LOOK and "Camera right disagrees" in odd.reasons[0].text
    blind = replace(fit, valid=everything, residual_px=fit.residual_px * [1, np.nan])
    unplaced = judge(replace(evidence, fit=blind))
    assert "Camera right never shows the head together" in unplaced.reasons[0].text
    gone = {"left": evidence.tracks["left"]}
    unseen = judge(replace(evidence, fit=blind, tracks=gone))
    assert "Camera right never found the head" in unseen.reasons[0].text
    prior = replace(fit, valid=everything, meta={**fit.meta, "scale": "prior"})
    estimate = judge(replace(evidence, fit=prior))
    assert any("estimates" in reason.text for reason in estimate.reasons)


def test_regions_that_the_head_does_not_follow_are_named(evidence: Evidence):
    fit = replace(evidence.fit, valid=np.ones(evidence.fit.n_frames, bool))
    whole = replace(evidence, fit=fit)

    def verdict(**in_sigmas: float) -> Verdict:
        regions = [RegionResidual(n.replace("_", " "), 9, 3, s) for n, s in in_sigmas.items()]
        return judge(with_regions(whole, regions))

    good = verdict(right_lower_teeth=1.9, tongue=1.6, scalp_middle=1.6, left_brow_upper=1.2)
    assert good.level == GOOD and "follow" not in " ".join(r.text for r in good.reasons)
    poor = verdict(lips_inner_upper=2.24, right_lower_teeth=1.9, jaw=1.6, left_face=1.4)
    assert poor.level == USABLE
    assert "does not follow lips inner upper (2.2), jaw (1.6): " in poor.reasons[0].text
    many = verdict(**{f"region_{i}": 2 for i in range(7)})
    assert "region 3 (2.0) and 3 more regions: " in many.reasons[0].text


def with_regions(evidence: Evidence, regions: list[RegionResidual]) -> Evidence:
    """Stand in for what is measured: tests change the head, not the landmarks with it."""
    evidence.__dict__["regions"] = regions
    return evidence


def test_a_size_that_no_adult_has_is_looked_at(evidence: Evidence):
    fit = replace(evidence.fit, valid=np.ones(evidence.fit.n_frames, bool))
    eyes = evidence.eye_distance
    assert 0.052 < eyes < 0.075
    person = evidence.head.joint_positions(fit.identity)
    for distance, level in ((0.049, LOOK), (0.053, GOOD), (0.074, GOOD), (0.08, LOOK)):
        head = replace(evidence.head)
        moved = person.copy()
        moved[2:] *= distance / eyes
        object.__setattr__(head, "joint_positions", lambda identity, moved=moved: moved)
        verdict = judge(with_regions(replace(evidence, fit=fit, head=head), []))
        assert verdict.level == level, distance
        praised = any("Sizes are calibrated" in reason.text for reason in verdict.reasons)
        assert praised == (level == GOOD)
        assert level == GOOD or f"{1000 * distance:.0f} mm apart" in verdict.reasons[0].text


def test_an_identity_that_nobody_has_is_looked_at(evidence: Evidence):
    fit = replace(evidence.fit, valid=np.ones(evidence.fit.n_frames, bool))
    head = replace(evidence.head, joint_basis=0 * evidence.head.joint_basis)
    for largest, level in ((3.5, GOOD), (-4.9, LOOK)):
        odd = replace(fit, identity=np.array([0.2, largest, 0, 0, 0]))
        verdict = judge(with_regions(replace(evidence, fit=odd, head=head), []))
        assert verdict.level == level
        assert level == GOOD or "4.9 standard deviations" in verdict.reasons[0].text
        # Where the size is the prior's, the rig is not to blame.
        prior = replace(odd, meta={**fit.meta, "scale": "prior"})
        plain = with_regions(replace(evidence, fit=prior, head=head), [])
        assert judge(plain).level == GOOD


@pytest.mark.parametrize("scale", ["prior", "calibrated"])
def test_a_given_identity_brings_its_size(evidence: Evidence, scale: str):
    """Whatever the cameras of this take are."""
    source = {"take": "talk", "scale": scale, "scale_std": 0.054 if scale == "prior" else 0.0}
    known = "were estimates (give or take 5.4%)" if scale == "prior" else "were calibrated"
    for own in ("prior", "calibrated"):
        meta = {**evidence.fit.meta, "scale": own, "identity_source": source}
        given = replace(evidence, fit=replace(evidence.fit, meta=meta))
        texts = [reason.text for reason in judge(given).reasons]
        assert f"Shape and size are those of take talk, whose sizes {known}." in texts
        assert not any(text.startswith("Sizes are") for text in texts)
        assert f"take talk, whose sizes {known}" in page_module._head_section(given)


@pytest.mark.parametrize("first", [0, 1])
def test_photos_of_several_sizes_count_in_one_unit(evidence: Evidence, tmp_path: Path, first: int):
    """The residual over the face is that of the same pictures in one size, whichever is first."""
    import cv2

    camera = evidence.rig.cameras["left"]
    footage, track = evidence.footage, evidence.tracks["left"]
    roi = track.roi.copy()
    for number in range(len(track)):
        scale = 1 if number % 2 == first else 2
        size = (camera.height // scale, camera.width // scale, 3)
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros(size, np.uint8))
        roi[number, 2] /= scale
    photos = replace(footage.recordings[0], path=tmp_path, kind="photos")
    mixed = replace(
        evidence,
        footage=replace(footage, recordings=(photos, footage.recordings[1])),
        tracks={**evidence.tracks, "left": replace(track, roi=roi)},
    )
    assert mixed.relative_residual == pytest.approx(evidence.relative_residual)
    shutil.rmtree(tmp_path)
    assert "left" in replace(mixed, footage=mixed.footage).relative_residual, "gone, still known"


def test_telling_frames():
    residual = np.array([np.nan, 3.0, 1.0, 2.0, np.nan, 9.0, 4.0])
    assert telling_frames(residual) == {"worst": 5, "median": 1, "best": 2}
    assert telling_frames(np.array([np.nan, 3.0])) == {"only": 1}
    assert telling_frames(np.full(3, np.nan)) == {}


def test_chart_has_gaps_and_stays_small():
    y = np.concatenate([np.linspace(0, 1, 4000), np.full(100, np.nan), np.ones(4000)])
    svg = line_chart(np.arange(len(y)) / 30, [Line("jawOpen", y, 0.1 + 0 * y)])
    assert svg.count("<polyline") == 2 and svg.count("<polygon") == 2
    assert len(svg) < 60_000
    assert "nan" not in svg


def test_strip_marks_what_is_missing():
    seen = np.ones(100, bool)
    seen[10:20] = seen[99] = False
    svg = seen_strip(np.arange(100), [("left & right", seen)])
    assert "frames 10 to 19" in svg and "frames 99 to 99" in svg and "left &amp; right" in svg


def test_crop_keeps_the_middle():
    image = np.zeros((400, 600, 3), np.uint8)
    image[195:206, 295:306] = 255
    for side in (60, 300):
        picture = crop(image, np.array([300.0, 200.0, 80.0]), side)
        rows, columns = np.nonzero(picture[..., 0] > 127)
        middle = (side - 1) / 2
        assert abs(rows.mean() - middle) < 0.7 and abs(columns.mean() - middle) < 0.7


def test_frusta_end_at_the_edges_of_the_picture(evidence: Evidence):
    for drawn in viewer_data._cameras(evidence, np.eye(3)):
        camera = evidence.known_camera(drawn["name"])
        ahead = np.c_[drawn["corners"], np.ones(4)] @ camera.T_camera_world[:3].T @ camera.K.T
        corners = [[-0.5, -0.5], [639.5, -0.5], [639.5, 479.5], [-0.5, 479.5]]
        np.testing.assert_allclose(ahead[:, :2] / ahead[:, 2:], corners, atol=1e-6)


@pytest.mark.parametrize("count, size", [(65_536, 2), (65_537, 4)])
def test_large_heads_need_larger_indices(count: int, size: int):
    packed = viewer_data._indices(np.array([0, count - 1]), count)
    assert packed.dtype.itemsize == size and packed.tolist() == [0, count - 1]


def test_views_look_at_the_head_from_its_left():
    camera = orbit_camera(np.zeros(3), 0.7, 1.2, 300)
    nose = np.array([[0.0, 0.0, 0.1]])
    assert camera.project(nose)[0, 0] < 149.5, "the nose points to the picture's left"
    assert camera.project(np.zeros((1, 3)))[0] == pytest.approx([149.5, 149.5])


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def run_browser(page: Path, folder: Path, *flags_of_task: str) -> str:
    """What headless Chromium prints; skips the test where there is none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium here")
    flags = [
        "--headless=new", "--no-sandbox", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars",
        "--enable-unsafe-swiftshader", "--use-angle=swiftshader", "--window-size=1000,1000",
        "--virtual-time-budget=10000", f"--user-data-dir={folder / 'profile'}",
    ]  # fmt: skip
    done = subprocess.run([browser, *flags, *flags_of_task, page.as_uri()], check=True,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    return done.stdout


def screenshot(page: Path, picture: Path) -> np.ndarray:
    import cv2

    run_browser(page, picture.parent, f"--screenshot={picture}")
    return cv2.imread(str(picture))


def test_browser_plays_the_take(page: Path, tmp_path: Path):
    first = screenshot(page, tmp_path / "first.png").astype(int)
    # The canvas alone is that grey; the head in it is not.
    canvas = np.abs(first - [247, 245, 244]).max(axis=2) <= 1
    rows = np.flatnonzero(canvas.sum(axis=1) > 300)
    assert len(rows) > 200
    box = slice(rows[0], rows[-1])
    covered = 1 - canvas[box, 60:880].mean()
    assert 0.03 < covered < 0.9
    later = tmp_path / "later.html"
    wait = "setInterval(() => { if (window.densefit) { densefit.showFrame(5); } }, 50)"
    later.write_text(page.read_text().replace("</body>", f"<script>{wait}</script></body>"))
    second = screenshot(later, tmp_path / "second.png").astype(int)
    moved = np.abs(second - first).max(axis=2)[box, 60:880] > 20
    assert moved.mean() > 0.005


CLICK = """
const seen = [];
const wait = setInterval(() => {
  if (!window.densefit) { return; }
  clearInterval(wait);
  const box = document.getElementById("viewer");
  box.querySelector("[name=play]").click();
  const look = setInterval(() => {
    const gl = densefit.viewer.gl, w = gl.drawingBufferWidth, h = gl.drawingBufferHeight;
    const pixels = new Uint8Array(4 * w * h);
    gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    let sum = 0;
    for (let i = 0; i < pixels.length; i += 4) { sum = (sum * 31 + pixels[i]) % 1000000007; }
    seen.push([densefit.viewer.frame, sum]);
    // A loaded machine draws seldom: as long as it takes until four frames were seen.
    if (new Set(seen.map((item) => item[0])).size >= 4 || seen.length === 120) {
      clearInterval(look);
      box.querySelector("[name=play]").click();
      const end = document.createElement("pre");
      end.id = "seen";
      end.textContent = JSON.stringify(seen);
      document.body.append(end);
    }
  }, 60);
}, 50);
"""


def test_a_click_on_play_plays(page: Path, tmp_path: Path):
    """The button is clicked in a real browser; frames go on, and each shows another picture."""
    clicked = tmp_path / "clicked.html"
    clicked.write_text(page.read_text().replace("</body>", f"<script>{CLICK}</script></body>"))
    text = run_browser(clicked, tmp_path, "--dump-dom")
    found = re.search(r'<pre id="seen">(.*?)</pre>', text)
    assert found, "the viewer never became ready"
    seen = json.loads(found.group(1))
    pictures: dict[int, set[int]] = {}
    for frame, picture in seen:
        pictures.setdefault(frame, set()).add(picture)
    assert len(pictures) >= 4, seen
    assert all(len(of_frame) == 1 for of_frame in pictures.values()), seen
    assert len(set.union(*pictures.values())) == len(pictures), seen


def test_an_identity_that_was_given_is_not_said_to_be_measured(evidence, monkeypatch):
    monkeypatch.setattr(page_module, "identity_views", lambda evidence: {})
    assert "the recordings determine" in page_module._identity_section(evidence)
    given = replace(evidence.fit, identity_std=np.zeros_like(evidence.fit.identity_std))
    assert "earlier take" in page_module._identity_section(replace(evidence, fit=given))


def test_axes_are_marked_with_round_numbers():
    """They once said 1.99 and 3.98 s, and 0.896 and 1.79 px."""
    assert ticks(0, 1.79, 4) == [0, 0.5, 1, 1.5]
    assert ticks(0, 7.96, 10) == list(range(8))
    assert ticks(-23, 23, 4) == [-20, 0, 20]
    assert ticks(0, 1, 4) == [0, 0.5, 1]
    assert ticks(0.3, 0.302, 5) == pytest.approx([0.3, 0.3005, 0.301, 0.3015, 0.302])
    drawn = line_chart(np.arange(200) / 25, [Line("a", np.linspace(0, 1.6, 200))])
    marks = re.findall(r'class="tick">([^<]*)<', drawn)
    assert marks == ["0", "0.5", "1", "1.5", *"0123456"[:6], "6 s", "7"]
    pictures = line_chart(
        np.arange(4), [Line("a", np.ones(4))], ChartOptions(joined=False, y_range=(0, 1))
    )
    assert re.findall(r'class="tick">([^<]*)<', pictures)[3:] == ["0", "1", "2 (picture)", "3"]


def test_what_was_estimated_is_not_told_as_a_fact(out: Path, head: HeadModel):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence_module, "open_head", lambda model: head)
        given = gather_evidence(out)
    cameras = dict(given.rig.cameras)
    left = cameras["left"]
    K = np.array([[783.0, 0, 100.0], [0, 783, 90.0], [0, 0, 1]])
    cameras["left"] = replace(left, K=K, std={"focal": 78.3})
    given = replace(given, rig=replace(given.rig, cameras=cameras))
    assert "estimated, give" not in page_module._rig_section(given), "a calibration has a std, too"
    meta = given.fit.meta | {"estimated_focal": ["left"]}
    section = page_module._rig_section(replace(given, fit=replace(given.fit, meta=meta)))
    assert "783 px (estimated, give or take 78)" in section
    far, spread = map(float, re.search(r">([\d.]+) m \(give or take ([\d.]+)\)<", section).groups())
    assert spread == pytest.approx(far / 10, abs=0.006)
