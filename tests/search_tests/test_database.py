"""The study in a real PostgreSQL server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from test_controller import quality, row, suggest

from search.controller import Controller, Plan
from search.database import check_database, load_study_at, remove_study
from search.held_out import note_reading
from search.results import Results
from search.run import main
from search.sampler import samplers
from search.study import StudyRecord

SERVER = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None) or shutil.which("initdb")


class Server:
    """A PostgreSQL server on loopback; `address` is that of an empty database."""

    def __init__(self, folder: Path) -> None:
        assert SERVER is not None
        self.folder, self.programs = folder, Path(SERVER).parent
        self.options: dict[str, Any] = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "cwd": folder,
        }
        if os.getuid() == 0:  # as root it refuses to run
            shutil.chown(folder, "postgres")
            self.options["user"] = "postgres"
        make = [self.programs / "initdb", "-D", folder / "data", "-U", "me", "-A", "trust", "-N"]
        subprocess.run(make, check=True, **self.options)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"postgresql://me@127.0.0.1:{self.port}/postgres"
        self.start()

    def start(self) -> None:
        """Until it answers."""
        place = ["-h", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(
            [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder, "-F", *place],
            **self.options,
        )
        ready = [self.programs / "pg_isready", *place, "-t", "30"]
        for _ in range(300):
            if subprocess.run(ready, check=False, **self.options).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def stop(self) -> None:
        """At once: clients are cut off."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(120)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    if SERVER is None:
        pytest.skip("needs a PostgreSQL server (Debian's package postgresql)")
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = Server(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def server(running: Server) -> str:
    """Address of the server's database."""
    return running.address


def controller(record: StudyRecord, trials: int) -> Controller:
    plan = Plan(min_epochs=1, max_epochs=9, reduction_factor=3, rule="promote", trials=trials)
    return Controller(record, plan, suggest=suggest, sampler=samplers("random", 0))


def train(search: Controller, epochs: int) -> None:
    """So many epochs of whatever comes next, as one slot would."""
    done = 0
    while done < epochs and not search.finished:
        work = search.next_work()
        assert work is not None
        epoch = work.known_epochs + 1
        while search.report(work.trial, row(epoch), quality(work.trial, epoch)) and done < epochs:
            epoch, done = epoch + 1, done + 1
        done += 1


def test_a_search_goes_on_from_a_server_as_it_does_from_memory(server: str) -> None:
    whole = controller(StudyRecord("whole", "maximize"), 12)
    train(whole, 1000)
    check_database(server, "mine", resume=False)
    first = controller(StudyRecord("mine", "maximize", server), 12)
    train(first, 9)
    first.record.close()
    check_database(server, "mine", resume=True)
    second = controller(StudyRecord.reopen(server, "mine"), 12)
    train(second, 1000)
    assert second.finished
    second.finish()
    second.record.close()
    whole.finish()
    stored = load_study_at(server, "mine").trials
    assert [trial.params for trial in stored] == [trial.params for trial in whole.record.trials()]
    assert [trial.user_attrs["outcome"] for trial in stored].count("complete") >= 1
    assert all(trial.state.is_finished() for trial in stored)


def test_readings_of_the_test_part_are_noted_on_the_server(server: str, tmp_path: Path) -> None:
    StudyRecord("tested", "maximize", server).close()
    document = {"settings": {"study_storage": server}, "study": "tested"}
    (tmp_path / "settings.json").write_text(json.dumps(document))
    first = note_reading(Results(tmp_path))
    both = note_reading(Results(tmp_path))
    assert len(first) == 1
    assert both[:1] == first
    assert load_study_at(server, "tested").user_attrs["test_reads"] == both


def test_studies_of_one_server_keep_apart(server: str) -> None:
    for name in ("one", "two"):
        record = StudyRecord(name, "maximize", server)
        record.begin(record.ask(optuna.samplers.RandomSampler(), suggest)[0], {"from": name})
        record.close()
    assert [t.user_attrs["from"] for t in load_study_at(server, "two").trials] == ["two"]
    with pytest.raises(ValueError, match="study called 'one' already: choose another --name"):
        check_database(server, "one", resume=False)
    check_database(server, "one", resume=True)
    remove_study(server, "one")
    check_database(server, "one", resume=False)
    assert [t.user_attrs["from"] for t in load_study_at(server, "two").trials] == ["two"]


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--dataset", "digits", "--device", "cpu", "--storage", str(tmp_path), "--name", "x"]
    assert main([*words, "--study-storage", f"postgresql://me@127.0.0.1:{port}/studies"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--study-storage" in error
    assert "refused" in error
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_whole_search_keeps_its_study_on_a_server(server: str, tmp_path: Path) -> None:
    words = [
        "--dataset",
        "digits",
        "--trials",
        "3",
        "--max-epochs",
        "2",
        "--device",
        "cpu",
        "--quiet",
        "--no-confirm",
    ]
    words += ["--max-params", "300000", "--storage", str(tmp_path), "--name", "served"]
    assert main([*words, "--study-storage", server]) == 0
    assert not (tmp_path / "served" / "study.db").exists()
    results = Results(tmp_path / "served")
    assert results.stopped == "finished"
    assert set(results.trials["outcome"]) <= {"complete", "pruned", "infeasible", "diverged"}
    (tmp_path / "served").rename(tmp_path / "moved")
    assert main(["--resume", str(tmp_path / "moved"), "--trials", "4", "--quiet"]) == 0
    assert (Results(tmp_path / "moved").trials["outcome"] != "infeasible").sum() == 4


@pytest.mark.slow
def test_a_server_that_goes_away_ends_the_search_with_a_word_and_costs_nothing(
    running: Server, tmp_path: Path
) -> None:
    words = [
        "--dataset=digits",
        "--trials=6",
        "--max-epochs=9",
        "--device=cpu",
        "--asha=none",
        "--no-confirm",
        "--name=cut",
    ]
    words += ["--max-params=300000", f"--storage={tmp_path}", f"--study-storage={running.address}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "search.run", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 400
        while epochs_at(running.address, "cut") < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        running.stop()
        output, error = process.communicate(timeout=400)
    finally:
        process.kill()
        if running.process.poll() is not None:
            running.start()
    assert process.returncode == 1
    assert "Traceback" not in output + error, error[-3000:]
    assert "the study cannot be written" in error
    assert f"--resume {tmp_path / 'cut'}" in error
    assert main(["--resume", str(tmp_path / "cut"), "--quiet"]) == 0
    assert (Results(tmp_path / "cut").trials["outcome"] == "complete").sum() == 6


def epochs_at(address: str, name: str) -> int:
    try:
        trials = load_study_at(address, name).trials
    except ValueError:
        return 0
    return sum(len(trial.intermediate_values) for trial in trials)
