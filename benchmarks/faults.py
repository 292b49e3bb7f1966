"""Does a search lose nothing? Its driver is killed again and again, and it goes on with `--resume`.

    python -m benchmarks.faults                            20 kills, about 15 minutes on 2 cores
    python -m benchmarks.faults --kills 3 --points checkpoint,report,ask --trials 8

One real search (digits, small networks, checkpoints, SQLite, 2 slots, promote) is killed with SIGKILL and
resumed, and at its end compared with one that nobody disturbed. Parameters are drawn at random and trained
in fp32, so that both must have the same trials and, for every epoch that both trained, the same values.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import fault_evidence
from benchmarks.fault_evidence import Evidence

MAX_EPOCHS = 9
POINTS = ("begin", "start", "training", "checkpoint", "written", "report", "commit", "ask")
"""Where the driver is killed; `benchmarks.fault_points` says what each is."""


@dataclass(frozen=True)
class Kill:
    """One end of a driver, see `benchmarks.fault_points`."""

    point: str
    count: int = 1
    delay: float = 0.0

    def __str__(self) -> str:
        number = self.count if self.point not in ("begin", "start") else ""
        delay = f"+{self.delay:.1f} s" if self.point in ("start", "training") else ""
        return f"{self.point} {number}{delay}"


@dataclass(frozen=True)
class Sitting:
    """One life of a driver: how it ended, and what was there then."""

    kill: Kill
    status: int
    seconds: float
    output: str
    left: Evidence
    repeated: int
    wrong: list[str]

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it; otherwise the search was done before."""
        return self.status == -9


def plan(count: int, points: tuple[str, ...], seed: int) -> list[Kill]:
    """So many kills, as many of each point, at random moments and in random order."""
    draw = random.Random(seed)
    counts = {"training": 4, "checkpoint": 2, "written": 2, "report": 4, "commit": 8, "ask": 3}
    delays = {"start": 10.0, "training": 2.0}
    kills = [
        Kill(point, draw.randint(1, counts.get(point, 1)), draw.uniform(0, delays.get(point, 0)))
        for point in (points[number % len(points)] for number in range(count))
    ]
    draw.shuffle(kills)
    # before anything has begun it matters most
    return sorted(kills, key=lambda kill: kill.point != "begin")


class Search:
    """One search of `trials` configurations in `scratch`/NAME, in as many sittings as it takes."""

    def __init__(self, scratch: Path, name: str, trials: int, seed: int) -> None:
        self.scratch, self.trials = scratch, trials
        self.folder = scratch / name
        self.left = Evidence({}, {}, {}, 0)
        self._begin = [
            *("--space", "benchmarks.small_space", "--dataset", "digits", "--name", name),
            *("--storage", str(scratch), "--trials", str(trials), "--max-epochs", str(MAX_EPOCHS)),
            *("--max-concurrent", "2", "--asha", "promote", "--sampler", "random", "--seed", str(seed)),
            *("--precision", "fp32", "--device", "cpu", "--no-confirm"),
        ]

    def sit(self, kill: Kill) -> Sitting:
        """Begin the search, or go on with it, until `kill` or its end."""
        begun = (self.folder / "settings.json").exists()
        if not begun and self.folder.exists():
            self.folder.rmdir()  # killed between the two: nothing is in it, and its name is taken
        options = ["--resume", str(self.folder)] if begun else self._begin
        words = [kill.point, str(kill.count), str(kill.delay), *options]
        began = time.monotonic()
        with _process("benchmarks.fault_points", *words, scratch=self.scratch) as (process, output):
            status = process.wait(timeout=1200)
            seconds = time.monotonic() - began
            _wait_for_workers(process.pid)
        before, self.left = self.left, fault_evidence.gather(self.folder)
        repeated, wrong = fault_evidence.sitting(before, self.left)
        text = output.read_text(encoding="utf-8")
        if status not in (0, -9) or "Traceback" in text:
            wrong.append(f"a driver ended with status {status}:\n{text}")
        return Sitting(kill, status, seconds, text, self.left, repeated, wrong)


@contextmanager
def _process(module: str, *words: str, scratch: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A driver in a session of its own, and the file of its output; nothing of the session lives on."""
    output = scratch / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(scratch)},  # what a killed Ray leaves goes with the scratch
        )
    try:
        yield process, output
    finally:
        process.kill()
        for left in _session(process.pid):
            with suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait()


def _session(leader: int) -> list[psutil.Process]:
    """The living processes of a session."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except OSError:
            continue  # gone meanwhile
    return found


def _wait_for_workers(leader: int, seconds: float = 180) -> None:
    """Until the workers of a killed driver have noticed: what they did until then counts as its sitting."""
    deadline = time.monotonic() + seconds
    while any(_trains(process) for process in _session(leader)):
        assert time.monotonic() < deadline, f"workers outlive their driver: {_session(leader)}"
        time.sleep(0.1)


def _trains(process: psutil.Process) -> bool:
    """Whether a process may write to the run folder; Ray's agents do not, and take a minute to notice."""
    try:
        name = " ".join(process.cmdline()).rstrip()  # Ray renames its processes, and pads the rest
    except psutil.Error:
        return False
    return name.startswith("ray::") and not name.endswith("Agent")


def disturb(search: Search, kills: list[Kill]) -> Iterator[Sitting]:
    """The sittings of a search that is killed as planned, then let be, then resumed once more in vain."""
    for kill in kills:
        sitting = search.sit(kill)
        yield sitting
        if not sitting.killed:
            sitting.wrong.append("the search was done before all kills: give it more --trials")
            return
    yield search.sit(Kill("none"))
    last = search.sit(Kill("none"))
    if "nothing is left to do" not in last.output:
        last.wrong.append(f"a finished search was resumed to something:\n{last.output}")
    yield last


def check(search: Search, undisturbed: Search) -> tuple[int, list[str]]:
    """Epochs compared with the undisturbed search, and all that is wrong at the end."""
    wrong = fault_evidence.faults_at_the_end(search.folder, search.trials, MAX_EPOCHS)
    compared, different = fault_evidence.differences(search.folder, undisturbed.folder)
    return compared, wrong + different


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--points", default=",".join(POINTS), help="of: " + ", ".join(POINTS))
    parser.add_argument("--trials", type=int, help="default: four for each kill")
    parser.add_argument("--seed", type=int, help="of the search and the kills; default: a new one")
    options = parser.parse_args()
    seed = random.randrange(2**31) if options.seed is None else options.seed
    trials = options.trials or 4 * options.kills
    kills = plan(options.kills, tuple(options.points.split(",")), seed)
    print(f"seed {seed}, {trials} trials of at most {MAX_EPOCHS} epochs", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as scratch:
        calm = Search(Path(scratch), "calm", trials, seed)
        wrong = [f"undisturbed: {text}" for text in calm.sit(Kill("none")).wrong]
        search = Search(Path(scratch), "run", trials, seed)
        print(
            f"{'kill':>4} {'point':<18} {'alive':>6} {'trials':>6} {'open':>4} {'epochs':>6} {'repeated':>8}"
        )
        for number, sitting in enumerate(disturb(search, kills), start=1):
            left = sitting.left
            print(
                f"{number if sitting.killed else '-':>4} {sitting.kill!s:<18} {sitting.seconds:>4.0f} s "
                f"{len(left.recorded):>6} {left.unfinished:>4} {left.epochs:>6} {sitting.repeated:>8}",
                flush=True,
            )
            wrong += [f"sitting {number}: {text}" for text in sitting.wrong]
        compared, more = check(search, calm)
        wrong += more
    print(f"{compared} epochs compared with the undisturbed search")
    print("\n".join(wrong) or "nothing lost, doubled, left running, or trained beyond need")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
