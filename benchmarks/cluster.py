"""How wide a cluster can one driver serve? Results a second, and how soon a free slot has work again.

    python -m benchmarks.cluster                                    all of it, half an hour on 2 cores
    python -m benchmarks.cluster --parts slots --slots 3000 --epoch-seconds 10
    python -m benchmarks.cluster --parts ray --ray-slots 10,50
    python -m benchmarks.cluster --parts simulated,batches --seeds 5

`slots`: the engine's own calls in the order of Tune's loop, with made-up results, one at a time as they fall
due. `ray`: real workers that sleep for each epoch, on the logical CPUs of a Ray on this machine. Both search
the space `cnn`, rungs at 1, 3, 9 and 27 epochs, and keep their record on SQLite. `tune`: what it costs Tune
alone to find the next event. `simulated`: how much sooner a search finds as much on more slots, beside the
straight line. `batches`: what several proposals from one model cost in regret.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pandas as pd

from benchmarks import made_up_slots, real_slots, wide_search
from benchmarks.cases import column
from benchmarks.curve_families import FAMILIES
from benchmarks.made_up_slots import Measured
from benchmarks.regret import SHOWN
from search.database import sqlite_url

PARTS = ("slots", "ray", "tune", "simulated", "batches")
SEARCHES = {"random": True, "multifidelity, one by one": False, "multifidelity": True}
"""Which sampler, and whether it may propose several at once."""


Drive = Callable[..., Measured]
"""`made_up_slots.drive` or `real_slots.drive`."""


def driven(
    drive: Drive,
    slots: Iterable[int],
    searches: Iterable[str],
    *,
    epoch_seconds: float | None,
    seconds: float,
) -> list[Measured]:
    """Each search on each number of slots; `epoch_seconds` None is what makes 300 results a second."""
    found = []
    for count in slots:
        for name in searches:
            alone = nullcontext() if SEARCHES[name] else mock.patch("search.ahead.MOST", 1)
            with tempfile.TemporaryDirectory(prefix="cluster-") as folder, alone:
                measured = drive(
                    count,
                    name.partition(",")[0],
                    sqlite_url(Path(folder) / "study.db"),
                    epoch_seconds=count / 300 if epoch_seconds is None else epoch_seconds,
                    seconds=seconds,
                )
            found.append(replace(measured, search=name))
            print(found[-1], flush=True)
    return found


def table(found: list[Measured]) -> str:
    """A row each."""
    return pd.DataFrame(found).to_string(index=False, float_format="{:.3g}".format)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="of: " + ", ".join(PARTS))
    parser.add_argument("--slots", default="1000,3000", help="made-up ones")
    parser.add_argument("--ray-slots", default="10,50", help="real ones")
    parser.add_argument("--searches", default=";".join(SEARCHES), help="of: " + "; ".join(SEARCHES))
    parser.add_argument("--epoch-seconds", type=float, help="default: as make 300 results a second; 0: none")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--families", default=",".join(FAMILIES), help="of: " + ", ".join(FAMILIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--regret", type=float, default=0.1, help="to be reached")
    parser.add_argument("--processes", type=int, default=2, help="simulations side by side")
    options = parser.parse_args()
    parts, families, searches = (
        options.parts.split(","),
        options.families.split(","),
        options.searches.split(";"),
    )
    for part, drive, slots in (
        ("slots", made_up_slots.drive, options.slots),
        ("ray", real_slots.drive, options.ray_slots),
    ):
        if part in parts:
            counts = [int(word) for word in slots.split(",")]
            pace = options.epoch_seconds
            found = driven(drive, counts, searches, epoch_seconds=pace, seconds=options.seconds)
            print(f"\n{part}\n{table(found)}\n")
    if "tune" in parts:
        for workers in (50, 1000, 3000):
            took = real_slots.event_milliseconds(workers)
            print(f"Tune's search for the next event among {workers:,} workers: {took:.2f} ms")
    if "simulated" in parts:
        print(f"to a regret of {options.regret:g}, {options.seeds} seeds of {', '.join(families)}")
        speedups = wide_search.speedups(families, options.seeds, options.regret, processes=options.processes)
        print(speedups.round(2).to_string(), end="\n\n")
    if "batches" in parts:
        results = wide_search.batches(families, options.seeds, processes=options.processes)
        shown = {column(share): f"{share:g}" for share in SHOWN}
        print(f"64 slots, mean regret at shares of the budget\n{wide_search.batches_table(results, shown)}")


if __name__ == "__main__":
    main()
