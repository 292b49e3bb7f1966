"""Ray comes up beside other work, and its first workers are those that trials get."""

from __future__ import annotations

import os
import subprocess
import sys
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


def test_an_error_beside_it_does_not_wait_for_ever():
    with pytest.raises(ValueError, match="bad data"), early_ray(SLOTS):
        raise ValueError("bad data")
