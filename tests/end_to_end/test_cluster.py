"""A search on a Ray cluster that runs already: real nodes, of which some die and others come."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_command import searching

from search.results import Results

pytestmark = pytest.mark.slow

SMALL = ("--space=benchmarks.small_space", "--asha=none", "--device=cpu", "--no-confirm")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head that trains nothing; nodes are to be added."""
    from search.local_ray import ray  # whatever it sets has to be set before Ray is imported

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("period_ms", 1000), ("timeout_ms", 1000), ("failure_threshold", 5)):
            patch.setenv(f"RAY_health_check_{name}", str(value))
        from ray.cluster_utils import Cluster

        folder = tempfile.mkdtemp(prefix="cluster-", dir="/tmp")
        head = {"num_cpus": 0, "temp_dir": folder, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            assert not ray.is_initialized()
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def two_nodes(nodes: Any) -> Iterator[list[Any]]:
    """Two nodes of one core; whatever is there at the end is taken away."""
    yield [nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)]
    for node in list(nodes.worker_nodes):
        nodes.remove_node(node)


def left_behind(cluster: Any) -> list[str]:
    """Actors that live and placement groups that are there."""
    actors = cluster.global_state.actor_table(None, None, "ALIVE")
    groups = cluster.global_state.placement_group_table()
    return [*actors, *(name for name, group in groups.items() if group["state"] != "REMOVED")]


def test_trials_of_a_node_that_dies_go_on_elsewhere_also_when_that_comes_later(
    nodes: Any, two_nodes: list[Any], tmp_path: Path
) -> None:
    epochs = 25
    options = (*SMALL, "--trials=4", f"--max-epochs={epochs}", "--checkpoint-seconds=0")
    with searching(*options, "--address", nodes.address, storage=tmp_path) as search:
        search.wait_for_epochs(4)
        for node in two_nodes:  # a pulled plug: neither says goodbye
            nodes.remove_node(node, allow_graceful=False)
        nodes.wait_for_nodes(timeout=60)
        time.sleep(3)  # a while without any node
        nodes.add_node(num_cpus=2)
        assert search.finish() == 0, search.output
    trials = Results(search.folder).study.get_trials(deepcopy=False)
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete"] * 4
    for trial in trials:
        assert list(trial.intermediate_values) == list(range(1, epochs + 1))
    assert "is gone" in search.output
    assert "lost its node" in search.output
    assert left_behind(nodes) == []


def test_a_search_that_is_interrupted_leaves_nothing_on_the_cluster(
    nodes: Any, two_nodes: list[Any], tmp_path: Path
) -> None:
    options = (*SMALL, "--trials=4", "--max-epochs=1000", "--max-concurrent=9")
    with searching(*options, "--address", nodes.address, storage=tmp_path) as search:
        search.wait_for_epochs(2)
        assert left_behind(nodes), "placeholders, which a cluster grows by, and trials"
        search.process.terminate()
        assert search.finish() == 130, search.output
    deadline = time.monotonic() + 20
    while left_behind(nodes) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left_behind(nodes) == []


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (("--gpus-per-trial=2",), {}, "--gpus-per-trial 2 can never be placed"),
        (("--cpus-per-trial=9",), {}, "--cpus-per-trial 9 can never be placed"),
        (("--wait-for=8gpu", "--wait-timeout=1s"), {}, "after 1s the cluster has 2 nodes with 2 cores"),
        ((), {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "not-the-clusters"}, "asks for another token"),
    ],
)
def test_what_a_cluster_cannot_do_is_one_line_within_30_seconds(
    nodes: Any,
    two_nodes: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    environment: dict[str, str],
    said: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "search.run", *SMALL, "--address", nodes.address, *options]
    done = subprocess.run(
        [*command, "--storage", str(tmp_path)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("waiting for")][1:] == []
    assert not list(tmp_path.iterdir())


def test_a_head_without_nodes_is_refused_where_none_may_come(nodes: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search.run", *SMALL, "--address", nodes.address]
    done = subprocess.run(
        [*command, "--storage", str(tmp_path)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert "has no node that trials may be placed on" in done.stderr
    assert "--head-trains" in done.stderr


def test_nothing_at_the_address_is_said_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search.run", *SMALL, "--address", "127.0.0.1:1"]
    done = subprocess.run(
        [*command, "--storage", str(tmp_path)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert "nothing answers there" in done.stderr
