"""A search whose driver is killed goes on from its run folder, with nothing lost and nothing repeated."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from test_command import searching

from search.results import Results

TRIALS = 6


@pytest.mark.slow
def test_a_search_killed_three_times_ends_as_one_that_was_not(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    options = ["--trials", str(TRIALS), "--max-epochs", "3", "--checkpoint-seconds", "0"]
    epochs = 0
    for _ in range(3):
        with searching(*options, storage=tmp_path) as search:
            epochs += moments.randint(1, 3)
            search.wait_for_epochs(epochs)
            search.process.kill()
            search.process.communicate()
            # Ray's own agents look for their parent only now and then
            assert search.left_over(seconds=120) == [], "Ray's processes end with the driver"
        folder = tmp_path / "run"
        options = ["--resume", str(folder)]

    ended = subprocess.run(
        [sys.executable, "-m", "search.run", *options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = Results(folder)
    trials = results.study.get_trials(deepcopy=False)
    trained = [trial for trial in trials if trial.user_attrs["outcome"] != "infeasible"]
    assert len(trained) == TRIALS
    assert all(trial.state.is_finished() for trial in trials)
    for trial in trained:
        epochs_seen = list(trial.intermediate_values)
        assert epochs_seen == list(range(1, len(epochs_seen) + 1))
        assert [row["epoch"] for row in trial.user_attrs["epochs"]] == epochs_seen
    assert results.stopped == "finished"

    again = subprocess.run(
        [sys.executable, "-m", "search.run", *options], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing is left to do" in again.stdout
    assert len(Results(folder).trials) == len(trials)
