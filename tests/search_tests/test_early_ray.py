"""Ray comes up beside other work, and its first workers are those that trials get."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from search.early_ray import early_ray
from search.settings import UsageError
from search.slots import Slots

ROOT = Path(__file__).parents[2]
SLOTS = Slots(count=1, cpus=1, gpus=0.0)

REUSE = """
import os, sys, time, psutil
from search.early_ray import early_ray
from search.slots import Slots

def name(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # it has just ended

def workers():
    # of this process alone, whatever else runs on the machine
    found = {child.pid: name(child) for child in psutil.Process().children(recursive=True)}
    return {pid for pid, it in found.items() if "ray::" in it and "Agent" not in it}

if __name__ == "__main__":
    with early_ray(Slots(count=1, cpus=1, gpus=0.0)) as ray_is_up:
        ray_is_up()
        from search.local_ray import tune
        class Pid(tune.Trainable):
            def step(self):
                return {"pid": os.getpid(), "torch": "torch" in sys.modules}
        while not workers():
            time.sleep(0.1)
        first = workers()
        os.environ["AWS_SECRET_ACCESS_KEY"] = "hidden"  # Tune's own list of what it copies
        config = tune.RunConfig(storage_path=sys.argv[1], stop={"training_iteration": 1}, verbose=0)
        results = tune.Tuner(Pid, run_config=config).fit()
        metrics = results[0].metrics
        print("SAME", {metrics["pid"]} == first, len(first), metrics["torch"])
    print("LEFT", len(workers()))
"""

SLOW_ONCE = """
import os, sys, time

if "dashboard/agent.py" in open("/proc/self/cmdline").read():
    try:
        os.close(os.open(os.environ["SLOW_ONCE"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
    else:
        time.sleep(45)  # Ray waits for 30 seconds
"""
"""For every Python that starts: Ray's first helper is as slow as on a cold disk."""
START = """
from search.early_ray import early_ray
from search.slots import Slots

with early_ray(Slots(count=1, cpus=1, gpus=0.0)) as ray_is_up:
    ray_is_up()
    import ray

    print("UP", ray.is_initialized())
"""


@pytest.mark.slow
@pytest.mark.alone
def test_a_ray_that_was_slow_to_start_is_started_again(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SLOW_ONCE)
    was_slow = tmp_path / "slow"
    done = subprocess.run(
        [sys.executable, "-c", START],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "SLOW_ONCE": str(was_slow)},
    )
    assert was_slow.exists()
    assert "UP True" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_a_trial_gets_the_worker_that_was_started_beforehand(tmp_path):
    script = tmp_path / "reuse.py"
    script.write_text(REUSE)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "tune")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert "SAME True 1 True" in done.stdout, done.stdout + done.stderr
    assert "LEFT 0" in done.stdout


def test_what_keeps_ray_from_starting_is_raised_where_it_is_waited_for(monkeypatch):
    def broken(slots: Slots, *, dashboard: bool) -> None:
        raise RuntimeError("no room for sockets")

    monkeypatch.setattr("search.local_ray.local_ray", broken)
    with early_ray(SLOTS) as ray_is_up, pytest.raises(UsageError, match="not be started: no room"):
        ray_is_up()


def test_a_ray_that_is_slow_twice_is_not_started_a_third_time(monkeypatch):
    tries = []

    def slow(slots: Slots, *, dashboard: bool) -> None:
        tries.append(threading.current_thread())
        raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr("search.local_ray.local_ray", slow)
    with early_ray(SLOTS) as ray_is_up, pytest.raises(UsageError, match="not be started: The current node"):
        ray_is_up()
    assert len(tries) == 2
    assert not [thread for thread in tries if thread.is_alive()], "what is left of a try ends with its thread"


def test_no_thread_for_ray_is_an_error_of_ones_own(monkeypatch):
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name == "ray":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with early_ray(SLOTS) as ray_is_up, pytest.raises(UsageError, match="can't start new thread"):
        ray_is_up()


def test_an_error_beside_it_does_not_wait_for_ever():
    with pytest.raises(ValueError, match="bad data"), early_ray(SLOTS):
        raise ValueError("bad data")
