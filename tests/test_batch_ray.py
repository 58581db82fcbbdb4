"""`densefit batch --ray` on a cluster of two nodes on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import fake_take
import pytest

from densefit import batch
from densefit.batch import BatchOptions, run_batch

pytestmark = pytest.mark.stress
pytest.importorskip("ray", reason="needs densefit[cluster]")


class PatientTime:
    """Ray gives a node 30 s to start; on a busy machine it needs more, so ten times as many."""

    sleep, time = staticmethod(time.sleep), staticmethod(time.time)

    @staticmethod
    def monotonic() -> float:
        return time.monotonic() / 10


@pytest.fixture(scope="module")
def cluster():  # type: ignore[no-untyped-def]
    from ray.cluster_utils import Cluster

    # Workers find the tests' helpers and this densefit where the head's processes do.
    paths = [str(Path(batch.__file__).parent.parent), str(Path(fake_take.__file__).parent)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join(paths))
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 1, "include_dashboard": False}
        with pytest.MonkeyPatch.context() as starting:
            starting.setattr("ray._private.node.time", PatientTime)
            two = Cluster(initialize_head=True, head_node_args=head)
            two.add_node(num_cpus=1)
        yield two
        two.shutdown()


def test_takes_run_on_both_nodes_and_failures_are_told(cluster, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The real command, whose takes lack their recordings."""
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "take.yaml").write_text("cameras: {left: gone.mp4}\n")
    takes = [tmp_path / name for name in ("one", "two", "three")]
    results = run_batch(takes, tmp_path / "out", BatchOptions(ray=cluster.address))
    assert [(r.name, r.exit_code) for r in results] == [("one", 3), ("two", 3), ("three", 3)]
    assert all("gone.mp4: no such file" in r.message for r in results)
    assert (tmp_path / "out" / "two" / "log.jsonl").is_file()


def test_a_killed_workers_take_is_run_again(  # type: ignore[no-untyped-def]
    cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_fit_here", fake_take.slow_take)
    takes = [tmp_path / name / "take.yaml" for name in ("doomed", "calm")]
    tries = tmp_path / "out" / "doomed" / "tries"

    def kill_the_first() -> None:
        while not tries.exists() or not tries.read_text().endswith("\n"):
            time.sleep(0.1)
        os.kill(int(tries.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    results = run_batch(takes, tmp_path / "out", BatchOptions(ray=cluster.address))
    killer.join()
    assert [r.exit_code for r in results] == [0, 0]
    assert len(tries.read_text().split()) == 2
