"""`python -m search.run` as a user runs it: a process of its own, with a Ray of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.alone]

RUN = [sys.executable, "-m", "search.run", "--space", "cnn", "--dataset", "digits", "--max-params", "400000"]


class Search:
    """A search in a process of its own, and every process that it was seen to start."""

    def __init__(self, *options: str, storage: Path) -> None:
        self.folder = storage / "run"
        begin = [*RUN, "--name", "run", "--storage", str(storage)]
        go_on = [sys.executable, "-m", "search.run"]
        self.process = subprocess.Popen(
            [*(go_on if "--resume" in options else begin), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.seen: set[psutil.Process] = set()
        self.addresses: set[str] = set()
        self.output = ""

    def look(self) -> None:
        """Note the processes below this one, and what they listen on."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            self.seen.add(child)
            try:
                for connection in child.net_connections("inet"):
                    if connection.status == psutil.CONN_LISTEN:
                        self.addresses.add(connection.laddr.ip.removeprefix("::ffff:"))
            except psutil.Error:
                continue

    def wait_for_epochs(self, count: int) -> None:
        """Until the record has this many epochs."""
        from search.results import Results

        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()[0]
            self.look()
            try:
                trials = Results(self.folder.resolve()).study.get_trials(deepcopy=False)
            except ValueError:
                trials = []
            if sum(len(trial.intermediate_values) for trial in trials) >= count:
                return
            time.sleep(0.5)
        raise AssertionError("no epochs came")

    def finish(self) -> int:
        """Wait for the end; returns the exit status."""
        self.output = self.process.communicate(timeout=600)[0]
        return self.process.returncode

    def left_over(self, seconds: float = 240) -> list[psutil.Process]:
        """Processes that it started and that live on; one that only waits to be reaped does not.

        After a kill, agents of Ray may look for its dead server for a minute before they leave.
        """
        _, alive = psutil.wait_procs(list(self.seen), timeout=seconds)
        return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@contextmanager
def searching(*options: str, storage: Path) -> Iterator[Search]:
    search = Search(*options, storage=storage)
    try:
        yield search
    finally:
        if search.process.poll() is None:
            search.look()
            search.process.kill()
            search.process.communicate()


def test_a_search_from_the_command_line(tmp_path: Path) -> None:
    options = ("--trials", "3", "--max-epochs", "2", "--confirm-top", "1", "--confirm-seeds", "1")
    with searching(*options, storage=tmp_path) as search:
        search.wait_for_epochs(1)
        exported = subprocess.run(
            [sys.executable, "-m", "search.export", str(search.folder), "--format", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        search.look()
        status = search.finish()
        folder = search.folder

        assert status == 0, search.output
        assert "best configuration: trial" in search.output
        assert f"everything is in  {folder}" in search.output
        assert "repeat with       uv run python -m search.run --space" in search.output
        for noise in ("WARNING", "DeprecationWarning", "ERROR", "Traceback", "raylet"):
            assert noise not in search.output

        assert exported.returncode == 0, exported.stderr
        assert json.loads(exported.stdout)["trials"], "export works while the search runs"

        table = pd.read_csv(folder / "trials.csv")
        assert set(table["outcome"]) <= {"complete", "pruned", "infeasible"}
        assert (table["outcome"] != "infeasible").sum() == 3
        assert "confirmed: trial" in search.output
        for name in ("settings.json", "study.db", "best.md", "best.csv", "best.json"):
            assert (folder / name).is_file()
        assert {path.name for path in (folder / "best").iterdir()} == {"config.json", "model.safetensors"}
        assert not list(folder.rglob("*.tmp"))

        assert search.seen, "Ray's processes were seen"
        assert search.addresses
        assert {address for address in search.addresses if not address.startswith("127.")} <= {"::1"}
        assert search.left_over() == []


def test_ctrl_c_stops_cleanly_and_keeps_what_there_is(tmp_path: Path) -> None:
    with searching("--trials", "50", "--max-epochs", "5", storage=tmp_path) as search:
        search.wait_for_epochs(3)
        began = time.monotonic()
        os.killpg(search.process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        status = search.finish()

        assert status == 130
        assert time.monotonic() - began < 120
        assert "Traceback" not in search.output
        assert "stopping" in search.output
        assert "ended early: interrupted" in search.output
        table = pd.read_csv(search.folder / "trials.csv")
        assert table["epochs"].sum() >= 3
        assert "unfinished" in set(table["outcome"])
        assert search.left_over() == []


def test_ctrl_c_twice_leaves_at_once_and_the_record_is_readable(tmp_path: Path) -> None:
    from search.results import Results

    with searching("--trials", "50", "--max-epochs", "5", storage=tmp_path) as search:
        search.wait_for_epochs(2)
        os.killpg(search.process.pid, signal.SIGINT)
        assert search.process.stdout is not None
        assert any("stopping" in line for line in search.process.stdout), "the first was heard"
        os.killpg(search.process.pid, signal.SIGINT)
        assert search.finish() == 130
        assert not (search.folder / "report.html").exists(), "which a clean end writes"
        assert Results(search.folder).trials["epochs"].sum() >= 2
        assert search.left_over() == []
