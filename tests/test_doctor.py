"""The doctor finds what is there, and what is wrong."""

from __future__ import annotations

import json

import pytest

from densefit import doctor
from densefit.cli import main


def test_everything_but_the_models_is_examined(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(doctor, "_models", lambda: iter([doctor.Finding("head.npz", "fine")]))
    assert main(["doctor", "--no-self-test", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    names = {item["name"]: item for items in report["topics"].values() for item in items}
    assert report["ok"] and "self-test" not in report["topics"]
    for name in ("densefit", "torch", "cpu", "FFmpeg", "decodes", "H.264 writing", "usd-core",
                 "matplotlib", "ray"):  # fmt: skip
        assert names[name]["ok"], names[name]


def test_models_are_told_by_their_hashes():
    findings = {finding.name: finding for finding in doctor._models()}
    assert "sha256" in findings["head.npz"].text and "landmarks" in findings["head.npz"].text
    assert any(name.endswith(".safetensors") for name in findings)


def test_damaged_and_missing_weights_are_findings(tmp_path, monkeypatch):
    from densefit.landmarks import weights

    damaged = tmp_path / "landmarks_fast.safetensors"
    damaged.write_bytes(b"not weights")
    files = {"landmarks": damaged, "detector": tmp_path / "gone.safetensors"}
    monkeypatch.setattr(weights, "SHIPPED", files)
    found = {finding.name: finding for finding in doctor._models()}
    assert not found[damaged.name].good and "not a readable file" in found[damaged.name].text
    gone = found["gone.safetensors"]
    assert not gone.good and "no such file of weights" in gone.text


@pytest.mark.parametrize(
    "encoders, text", [(("mpeg4",), "browsers do not play"), (("none",), "no H.264 or MPEG-4")]
)
def test_a_missing_encoder_is_a_finding_with_its_remedy(monkeypatch, encoders, text: str):
    from densefit.capture import writer

    monkeypatch.setattr(writer, "_ENCODERS", encoders)
    found = {finding.name: finding for finding in doctor._codecs()}
    assert found["decodes"].good
    assert not found["H.264 writing"].good
    assert text in found["H.264 writing"].text and "pip install" in found["H.264 writing"].text


@pytest.mark.parametrize("content, text", [(None, "no such file"), (b"x", "not a readable file")])
def test_self_test_names_the_file_that_is_missing_or_damaged(tmp_path, monkeypatch, content, text):
    from densefit.landmarks import weights

    path = tmp_path / "detector.safetensors"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(weights, "DETECTOR_WEIGHTS", path)
    (finding,) = doctor._self_test()
    assert not finding.good and text in finding.text and path.name in finding.text


def test_a_problem_is_exit_code_4_and_the_rest_is_still_examined(capsys, monkeypatch):
    def broken():
        yield doctor.Finding("cpu", "1 core")
        raise RuntimeError("no driver")

    monkeypatch.setattr(doctor, "_devices", broken)
    assert main(["doctor", "--no-self-test"]) == 4
    captured = capsys.readouterr()
    assert "! failed: RuntimeError: no driver" in captured.out
    assert "H.264 writing: works" in captured.out
    assert "doctor: something is wrong" in captured.err


def test_self_test_fits_the_sample():
    (finding,) = doctor._self_test()
    assert finding.good, finding.text
    assert f"{doctor.TEST_FRAMES} of {doctor.TEST_FRAMES} frames" in finding.text
