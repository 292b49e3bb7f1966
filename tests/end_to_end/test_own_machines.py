"""A search on machines of one's own, which are hosts here, and what becomes of it when they fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
from hosts import SHARED, Host
from own_cluster import NodeWatch, OwnCluster, own_cluster, wait_until
from ray._private.utils import get_num_cpus

from benchmarks import fault_evidence
from search.results import Results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(1500),
]

WORKERS = ("one", "two", "three", "four")
TRIALS, EPOCHS = 4, 90
CPUS = get_num_cpus()
"""What Ray takes each host to have. A slot takes all of them, so that trials are spread over hosts."""
SEARCH = f"python -m search.run --address auto --storage {SHARED} --cpus-per-trial {CPUS} --no-confirm"
PACED = (
    f"{SEARCH} --space paced_space --dataset digits --asha none --sampler random --precision fp32 "
    f"--trials {TRIALS} --max-epochs {EPOCHS} --checkpoint-seconds 5"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    with own_cluster(*WORKERS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def watch(cluster: OwnCluster) -> NodeWatch:
    return NodeWatch(cluster.head)


def stints(run: Path, trial: int) -> list[Path]:
    """The event files of a trial, one a stint, the newest last."""
    return sorted((run / f"trials/{trial:05d}").glob("events*"), key=lambda file: file.suffix)


def host_of(stint: Path) -> str:
    """On which host it trained; it may no longer."""
    return stint.name.split(".")[-2]


@pytest.fixture(scope="module")
def calm(cluster: OwnCluster) -> Path:
    """The folder of a search that nothing befell, with a worker for each of its trials."""
    slow = cluster.network.shared / "slow"
    slow.touch()  # until each has its worker: one that is done early takes up another's trial
    cluster.exec(f"{PACED} --wait-for {len(WORKERS) * CPUS}cpu --name calm", "--tmux")
    run = cluster.network.shared / "calm"

    def said() -> str:
        return cluster.head.run("tmux capture-pane -p", check=False)

    wait_until(lambda: len(list(run.glob("trials/*/events*"))) == TRIALS, 400, said)
    slow.unlink()
    wait_until((run / "report.html").exists, 400, said)  # the last that it writes
    return run


def test_a_search_is_spread_over_all_workers_and_trains_nothing_on_the_head(calm: Path) -> None:
    table = pd.read_csv(calm / "trials.csv")
    assert table["outcome"].tolist() == ["complete"] * TRIALS
    assert sorted(table["node"]) == sorted(WORKERS)
    assert sorted(map(host_of, calm.glob("trials/*/events*"))) == sorted(WORKERS)


@dataclass
class Fault:
    """What befell a host that trained, and what came of it."""

    name: str
    lost_epochs: int
    seconds: float


class Disturbed:
    """A search that lasts until `finish`, and is disturbed meanwhile."""

    def __init__(self, cluster: OwnCluster) -> None:
        self.cluster = cluster
        self.run = cluster.network.shared / "disturbed"
        self.slow = cluster.network.shared / "slow"
        self.slow.touch()
        self.process = cluster.exec_in_background(
            f"{PACED} --max-concurrent 2 --name disturbed", "disturbed.log"
        )
        self.log = cluster.laptop.home("disturbed.log")
        self.faults: list[Fault] = []
        self._wait(lambda: len(self.training()) == 2)

    def training(self) -> dict[int, Path]:
        """The newest stint of each trial that is in training."""
        newest = {trial: stints(self.run, trial)[-1:] for trial in range(TRIALS)}
        begun = {trial: files[0] for trial, files in newest.items() if files}
        return {t: file for t, file in begun.items() if 0 < _last_epoch(file) < EPOCHS}

    def befall(self, name: str, fault: Callable[[Host], None]) -> Host:
        """Have a fault befall a host that trains, and wait until its trial goes on. Returns the host."""
        trial, before = next(iter(self.training().items()))
        host = self.cluster.network[host_of(before)]
        fault(host)
        began, trained = time.monotonic(), _last_epoch(before)
        self._wait(lambda: stints(self.run, trial)[-1] != before and self._goes_on(trial))
        seconds = time.monotonic() - began
        resumed = fault_evidence.trained_epochs(stints(self.run, trial)[-1])[0]
        # one that is only cut off may train on for a moment after it was looked at
        self.faults.append(Fault(name, max(0, trained - (resumed - 1)), seconds))
        return host

    def finish(self) -> int:
        """Let it go on at full speed to its end; returns the exit status."""
        self.slow.unlink()
        return self.process.wait(timeout=400)

    def _goes_on(self, trial: int) -> bool:
        return _last_epoch(stints(self.run, trial)[-1]) > 0

    def _wait(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, 400, self._said, self.process)

    def _said(self) -> str:
        return self.log.read_text(errors="replace")


def _last_epoch(stint: Path) -> int:
    return max(fault_evidence.trained_epochs(stint), default=0)


@contextmanager
def disturbed(cluster: OwnCluster) -> Iterator[Disturbed]:
    search = Disturbed(cluster)
    try:
        yield search
    finally:
        search.process.kill()
        search.process.wait()


def kill(processes: list[psutil.Process]) -> None:
    assert processes
    for process in processes:
        process.kill()


def workers_on(host: Host) -> list[psutil.Process]:
    found = [*host.processes("ray::_Inner"), *host.processes("ray::Trainable")]
    assert found
    return found


def kill_worker(host: Host) -> None:
    kill(workers_on(host))


def ask_worker_to_leave(host: Host) -> None:
    for process in workers_on(host):
        process.terminate()


def kill_raylet(host: Host) -> None:
    kill(host.processes("raylet/raylet"))


def test_a_search_that_loses_workers_and_machines_ends_as_one_that_did_not(
    cluster: OwnCluster, calm: Path, watch: NodeWatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch.wait_for(["head", *WORKERS])
    with disturbed(cluster) as search:
        search.befall("worker process killed", kill_worker)
        search.befall("worker asked to leave", ask_worker_to_leave)
        cut_off = search.befall("network gone for 30 s", cluster.network.cut)
        time.sleep(max(0, 30 - search.faults[-1].seconds))
        cluster.network.join(cut_off)
        search.befall("raylet killed", kill_raylet)
        lost = search.befall("network gone for good", cluster.network.cut)
        assert search.finish() == 0, search.log.read_text(errors="replace")

    with capsys.disabled():
        print(f"\n{'fault':<24}{'lost: epochs of 1 s':>20}{'training goes on after':>24}")
        for fault in search.faults:
            print(f"{fault.name:<24}{fault.lost_epochs:>20}{fault.seconds:>22.0f} s")
    assert fault_evidence.faults_at_the_end(search.run, TRIALS, EPOCHS) == []
    assert fault_evidence.differences(search.run, calm) == (TRIALS * EPOCHS, [])
    trials = Results(search.run).study.get_trials(deepcopy=False)
    assert [trial.user_attrs.get("failures", 0) for trial in trials] == [0] * TRIALS, "no retry was used up"
    # the others are part of the cluster again
    watch.wait_for(["head", *(name for name in WORKERS if name != lost.name)], 400)


def test_nothing_of_ray_runs_on_any_machine_after_ray_down(cluster: OwnCluster) -> None:
    machines = [cluster.network[name] for name in ("head", *WORKERS)]
    for machine in machines:
        cluster.network.join(machine)  # one was cut off for good: nobody could tell it
    cluster.down()
    end = time.monotonic() + 400
    while any(machine.processes("raylet/raylet") for machine in machines):
        assert time.monotonic() < end
        time.sleep(1)
    assert cluster.head.processes("gcs_server") == []
