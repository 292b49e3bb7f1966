"""Does the hardware train, and nothing else? All measures of speed in one run, beside what else there is.

    python -m benchmarks.throughput --dataset cifar10                      an hour on 2 cores
    python -m benchmarks.throughput --dataset cifar10 --device cuda        the rows that a GPU changes

Each measure runs in a process of its own, one after another; `loop_speed`, `start_up`, `slot_use`,
`time_to_accuracy` and `memory` run them alone and say more. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import pandas as pd

from benchmarks import loop_speed, memory, slot_use, start_up, time_to_accuracy


@dataclass(frozen=True)
class Measure:
    """One line: ours beside something else, and the ratio that was aimed at."""

    what: str
    ours: float
    beside: str
    other: float
    ratio: float
    goal: str


def loops(dataset: str, device: str, images: int) -> Iterator[Measure]:
    """Images a second of the training loop."""
    _, table = _apart(loop_speed.compared, dataset, images=images, on=device)
    for network, row in table.iterrows():
        speed = float(row["ours, images/s"])
        for other, goal in (
            ("bare loop", "0.97"),
            ("image by image", "20" if device == "cuda" else "2.5 (bf16)"),
        ):
            yield Measure(
                f"images/s, {network}, {row['precision']}",
                speed,
                other,
                float(row[f"{other}, images/s"]),
                float(row[f"ours / {other}"]),
                goal,
            )


def slots(trials: int, epochs: int) -> Iterator[Measure]:
    """What of the slots' time was training."""
    table = _apart(slot_use.compared, trials, epochs)
    for what, goal in (("busy, first step to last", "ours 0.95"), ("busy, whole command", "")):
        row = table.loc[what]
        yield Measure(f"slots {what}", row["ours"], "stock", row["stock"], row["ours / stock"], goal)
    overhead = float(table.loc[slot_use.OVERHEAD, "ours"])
    yield Measure(slot_use.OVERHEAD, overhead, "", math.nan, math.nan, "ours 0.02")


def starts(times: int) -> Iterator[Measure]:
    """Seconds to the first step."""
    median = _apart(start_up.compared, times)["median"]
    ours, stock = float(median["ours"]), float(median["stock"])
    yield Measure("seconds to the first step", ours, "stock", stock, ours / stock, "ours 15")


def found(dataset: str, seconds: float) -> Iterator[Measure]:
    """What a search finds in a given time."""
    table = _apart(time_to_accuracy.compared, dataset, seconds)
    for other in ("stock", "tutorial"):
        for what, goal in (
            ("trials with a score", "10" if other == "tutorial" else ""),
            ("best validation accuracy", ""),
            ("seconds to what the tutorial reached", "1/20" if other == "tutorial" else ""),
        ):
            ours, theirs = float(table["ours"][what]), float(table[other][what])
            yield Measure(f"{what}, {seconds:.0f} s", ours, other, theirs, ours / theirs, goal)


def memories(dataset: str, trials: int) -> Iterator[Measure]:
    """MiB of a search, and of a worker after many trials."""
    peaks = _apart(memory.searched, dataset, 4)
    alone, together = peaks["largest worker, proportional"], peaks["driver and workers at once"]
    yield Measure("MiB, largest worker", alone, "data set", peaks["data set"], alone / peaks["data set"], "")
    yield Measure("MiB, driver and 2 workers", together, "one worker", alone, together / alone, "")
    held = _apart(memory.grown, trials)
    early, late = held.iloc[min(2, len(held) - 1)], held.iloc[-1]
    yield Measure(
        f"MiB of a worker {held.index[-1]}",
        late,
        str(held.index[min(2, len(held) - 1)]),
        early,
        late / early,
        "1.0",
    )


def _apart(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a function returns in a new process, which has nothing of another measure's settings."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="auto", help="as for search.run")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--images", type=int, default=3000, help="of the loops' comparison")
    parser.add_argument("--trials", type=int, default=30, help="of some 10 s, for the use of slots")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each of three searches")
    parser.add_argument("--growth-trials", type=int, default=200)
    options = parser.parse_args()
    measures: list[Measure] = []
    parts = [loops(options.dataset, options.device, options.images)]
    if options.device == "cpu":
        parts += [
            starts(5),
            slots(options.trials, 5),
            found(options.dataset, options.seconds),
            memories(options.dataset, options.growth_trials),
        ]
    else:
        print("not measured on a GPU: start-up, use of slots, what is found in a given time, memory")
    for part in parts:
        for measure in part:
            measures.append(measure)
            print(measure, flush=True)
    print(f"\nOne machine, one run, one data set: {options.dataset}\n{time_to_accuracy.settings()}\n")
    print(pd.DataFrame(measures).to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
