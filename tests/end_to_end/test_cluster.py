"""A search on a Ray cluster that runs already: what it leaves there, and what it refuses."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from test_command import searching

from search.early_ray import SLOW

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SMALL = ("--space=benchmarks.small_space", "--asha=none", "--device=cpu", "--no-confirm")


TOKEN = "0123456789abcdef" * 4
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # what a search on one machine turns off
}
LOOK = """
import sys
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
maybe_enable_token_auth_if_token_available()
import ray
from ray._private.state import state
ray.init(address=sys.argv[1], log_to_driver=False)
mine = ray.get_runtime_context().get_job_id()
actors = state.actor_table(None, None, "ALIVE")
groups = [name for name, group in ray.util.placement_group_table().items() if group["state"] != "REMOVED"]
print("ALIVE", sum(node["Alive"] for node in ray.nodes()))
print("LEFT", len(actors), len(groups))
"""


class RealCluster:
    """A head that trains nothing, and nodes that come and go, each a `ray start` of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nodes = folder, list[subprocess.Popen[bytes]]()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        words = (f"--port={port}", "--num-cpus=0", f"--temp-dir={folder}", "--include-dashboard=false")
        self.head = self._start("--head", *words)
        self.wait(1)

    def add(self, cpus: int) -> None:
        self.nodes.append(self._start(f"--address={self.address}", f"--num-cpus={cpus}"))

    def shrink(self) -> None:
        """End every node but the head."""
        for node in self.nodes:
            end(node)
        self.nodes.clear()

    def wait(self, nodes: int) -> None:
        """Until so many nodes live, the head among them."""
        self.until(f"ALIVE {nodes}")

    def until(self, words: str) -> None:
        """Until a look says this."""
        deadline = time.monotonic() + 300
        while words not in (said := self.look()):
            assert time.monotonic() < deadline, said

    def look(self) -> str:
        """How many nodes, actors and placement groups there are."""
        command = [sys.executable, "-c", LOOK, self.address]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300).stdout

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        """`ray start`, until it says that Ray runs; once more where that took Ray too long."""
        command = [sys.executable, "-u", "-m", "ray.scripts.scripts", "start", *words, "--block"]
        address = "--node-ip-address=127.0.0.1"
        common = ("--object-store-memory=150000000", "--disable-usage-stats", "--num-gpus=0")
        said = ""
        for _ in range(2):
            log = self.folder / f"start-{time.monotonic_ns()}.log"
            with log.open("wb") as file:
                process = subprocess.Popen(
                    [*command, address, *common], stdout=file, stderr=file, start_new_session=True
                )
            while process.poll() is None:
                if "Ray runtime started" in log.read_text(errors="replace"):
                    return process
                time.sleep(0.1)
            said = log.read_text(errors="replace")
            if SLOW not in said:
                break
        raise AssertionError(said[-4000:])


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and everything that it started."""
    below = psutil.Process(process.pid).children(recursive=True)
    for each in [psutil.Process(process.pid), *below]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
    psutil.wait_procs(below, timeout=10)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        folder = Path(tempfile.mkdtemp(prefix="cluster-", dir="/tmp"))
        try:
            made = RealCluster(folder)
            try:
                yield made
            finally:
                made.shrink()
                end(made.head)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "has no node that trials may be placed on"),
        (("--head-trains",), "the cluster's head was started without CPUs for trials"),
    ],
)
def test_a_head_without_nodes_is_refused_where_none_may_come(
    cluster: RealCluster, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    command = [sys.executable, "-m", "search.run", *SMALL, "--address", cluster.address, *options]
    done = subprocess.run(
        [*command, "--storage", str(tmp_path)], capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 2
    assert said in done.stderr


@pytest.fixture(scope="module")
def grown(cluster: RealCluster) -> RealCluster:
    """With a node of two cores from here on."""
    cluster.add(cpus=2)
    cluster.wait(2)
    return cluster


def test_a_search_that_is_interrupted_leaves_nothing_on_the_cluster(
    grown: RealCluster, tmp_path: Path
) -> None:
    options = (*SMALL, "--trials=9", "--max-epochs=100000", "--max-concurrent=9")
    with searching(*options, "--address", grown.address, storage=tmp_path) as search:
        search.wait_for_epochs(2)
        grown.until("LEFT 2 9")  # two that train, and placeholders by which a cluster grows
        search.process.terminate()
        assert search.finish() == 130, search.output
    grown.until("LEFT 0 0")


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (("--device=auto", "--gpus-per-trial=2"), {}, "for a trial trains on one GPU"),
        (("--device=auto", "--gpus-per-trial=1"), {}, "--gpus-per-trial 1 can never be placed"),
        (("--cpus-per-trial=9",), {}, "--cpus-per-trial 9 can never be placed"),
        (
            (
                "--device=auto",
                "--cpus-per-trial=9",
                "--gpus-per-trial=0",
                "--max-concurrent=4",
                "--wait-timeout=1s",
            ),
            {},
            "a node with 9 cores for a trial: after 1s the cluster has 1 node with 2 cores",
        ),
        (("--wait-for=8gpu", "--wait-timeout=1s"), {}, "after 1s the cluster has 1 node with 2 cores"),
        ((), {"RAY_AUTH_TOKEN": "f" * 64}, "asks for another token"),
    ],
)
def test_what_a_cluster_cannot_do_is_one_line(
    grown: RealCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    environment: dict[str, str],
    said: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "search.run", *SMALL, "--address", grown.address, *options]
    done = subprocess.run(
        [*command, "--storage", str(tmp_path)], capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("waiting for")][1:] == []
    assert not list(tmp_path.iterdir())


def test_nothing_at_the_address_is_said_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search.run", *SMALL, "--address", "127.0.0.1:1"]
    done = subprocess.run(
        [*command, "--storage", str(tmp_path)], capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 2
    assert "nothing answers there" in done.stderr
