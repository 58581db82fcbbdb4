"""Encoders leave the thread that calls them as they found it."""

from __future__ import annotations

import os
from pathlib import Path

import av
import pytest

from densefit.synth.scheduling import kept_policy
from tests.helpers.recordings import encode_video

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux only")


def test_the_policy_comes_back() -> None:
    before = os.sched_getscheduler(0)
    with pytest.raises(KeyError), kept_policy():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        raise KeyError
    assert os.sched_getscheduler(0) == before != os.SCHED_BATCH


def test_av1_leaves_no_real_time_thread(tmp_path: Path) -> None:
    """All that it does is done by root alone."""
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV cannot encode AV1")
    encode_video(tmp_path / "a.mp4", n=3, codec="libsvtav1", options={"preset": "12"})
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
