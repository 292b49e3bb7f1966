"""Killed drivers, killed workers and full disks: a search goes on from its run folder, with nothing lost."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from test_command import Search, searching

from benchmarks import fault_evidence, faults
from benchmarks.faults import Kill
from search.results import Results

PACED = (
    "--space=paced_space",
    "--max-concurrent=1",
    "--cpus-per-trial=1",
    "--asha=none",
    "--device=cpu",
    "--no-confirm",
)
DISK_BYTES = 600 * 2**20
"""A little more than a search asks for before it begins."""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file is there an epoch takes a second: no search is over before its fault."""
    file = tmp_path / "slow"
    file.touch()
    monkeypatch.setenv("PACED_SLOW", str(file))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return file


@pytest.mark.slow
def test_a_search_killed_at_its_worst_moments_ends_as_one_that_was_not() -> None:
    trials, seed = 6, 0
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        calm = faults.Search(Path(folder), "calm", trials, seed)
        assert calm.sit(Kill("none")).wrong == []
        search = faults.Search(Path(folder), "run", trials, seed)
        kills = [Kill("checkpoint"), Kill("report", 2), Kill("ask", 2)]
        sittings = list(faults.disturb(search, kills))
        assert [sitting.killed for sitting in sittings] == [True, True, True, False, False]
        assert [text for sitting in sittings for text in sitting.wrong] == []
        compared, wrong = faults.check(search, calm)
    assert wrong == []
    assert compared >= trials


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_goes_on_under_its_own_number(tmp_path: Path, slow: Path) -> None:
    epochs = 20
    options = (*PACED, "--trials", "2", "--max-epochs", str(epochs), "--checkpoint-seconds", "0")
    with searching(*options, storage=tmp_path) as search:
        search.wait_for_epochs(1)
        training_worker(search).kill()
        slow.unlink()
        assert search.finish() == 0, search.output

    trials = Results(search.folder).study.get_trials(deepcopy=False)
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete", "complete"]
    assert sorted(len(trial.user_attrs["stints"]) for trial in trials) == [1, 2], "one was given out again"
    for trial in trials:
        assert list(trial.intermediate_values) == list(range(1, epochs + 1))
    trained = fault_evidence.gather(search.folder).trained
    for files in trained.values():
        repeated = sum(map(len, files.values())) - epochs
        assert repeated <= 1, "at most the epoch whose checkpoint was being written"


def wait_for_the_middle_of_an_epoch(search: Search) -> None:
    """Of the only trial, while an epoch takes a second."""
    (file,) = search.folder.glob("trials/*/events*")
    before = len(fault_evidence.trained_epochs(file))
    while len(fault_evidence.trained_epochs(file)) == before:
        time.sleep(0.02)
    time.sleep(0.4)


def training_worker(search: Search) -> psutil.Process:
    """The process that trains; Ray names its processes after what they do."""
    search.look()
    found = []
    for process in search.seen:
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(("ray::_Inner", "ray::Trainable")):
                found.append(process)
    (worker,) = found
    return worker


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk has to be mounted, which needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all room that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))
    return filler


@pytest.mark.slow
def test_a_full_disk_ends_the_search_with_a_word_and_no_trial_pays_for_it(
    small_disk: Path, slow: Path
) -> None:
    with searching(*PACED, "--trials", "2", "--max-epochs", "20", storage=small_disk) as search:
        search.wait_for_epochs(2)
        filler = fill(small_disk)
        status = search.finish()
        assert status == 1, search.output
        assert search.left_over() == []
    assert "Traceback" not in search.output
    (line,) = [line for line in search.output.splitlines() if "cannot be written" in line]
    assert str(search.folder) in line
    assert f"`uv run python -m search.run --resume {search.folder}`" in line

    filler.unlink()
    slow.unlink()
    again = subprocess.run(
        [sys.executable, "-m", "search.run", "--resume", str(search.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    results = Results(search.folder)
    assert results.stopped == "finished"
    assert results.trials["outcome"].tolist() == ["complete"] * 2
    for trial in results.study.get_trials(deepcopy=False):
        assert "failures" not in trial.user_attrs


@pytest.mark.slow
def test_a_trial_whose_worker_is_asked_to_leave_repeats_no_epoch(tmp_path: Path, slow: Path) -> None:
    epochs = 20
    with searching(*PACED, "--trials", "1", "--max-epochs", str(epochs), storage=tmp_path) as search:
        search.wait_for_epochs(2)
        worker = training_worker(search)
        wait_for_the_middle_of_an_epoch(search)
        worker.terminate()  # as where a spot machine is taken away
        slow.unlink()
        assert search.finish() == 0, search.output
    (trial,) = Results(search.folder).study.get_trials(deepcopy=False)
    assert trial.user_attrs["outcome"] == "complete"
    assert len(trial.user_attrs["stints"]) == 2
    assert "asked to leave" in search.output
    (files,) = fault_evidence.gather(search.folder).trained.values()
    assert sorted(epoch for trained in files.values() for epoch in trained) == list(range(1, epochs + 1))


@pytest.mark.slow
def test_a_search_whose_workers_the_memory_monitor_ends_says_so_and_ends(
    tmp_path: Path, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # of the machine's: as if it were full
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    with searching(*PACED, "--trials", "1", "--max-epochs", "500", storage=tmp_path) as search:
        while search.process.poll() is None:
            search.look()
            time.sleep(0.5)
        assert search.finish() == 1, search.output
        assert search.left_over() == []
    assert "Traceback" not in search.output
    (trial,) = Results(search.folder).study.get_trials(deepcopy=False)
    assert trial.user_attrs["outcome"] == "failed"
    assert "memory" in trial.user_attrs["error"]
