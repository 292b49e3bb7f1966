"""Does the hardware train, and nothing else? All measures of speed in one run, beside what else there is.

    python -m benchmarks.throughput --dataset cifar10                      an hour on 2 cores
    python -m benchmarks.throughput --dataset cifar10 --device cuda        the rows that a GPU changes

Each measure runs in a process of its own, one after another; `loop_speed`, `start_up`, `slot_use`,
`time_to_accuracy` and `memory` run them alone and say more. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import math
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pandas as pd

from benchmarks import loop_speed, memory, slot_use, start_up, time_to_accuracy
from benchmarks.apart import apart


@dataclass(frozen=True)
class Measure:
    """One line: ours beside something else, and what was aimed at."""

    what: str
    data: str
    ours: float
    beside: str = ""
    other: float = math.nan
    goal: str = ""
    """Of the ratio, unless it says what ours should be."""
    ratio: float | None = None
    """Where it is not that of the two figures, but the median of many."""

    def row(self) -> dict[str, object]:
        """The line, its ratio first."""
        ratio = self.ratio
        if ratio is None:
            ratio = self.ours / self.other if self.other else math.nan
        return {"ratio": ratio, **{name: value for name, value in asdict(self).items() if name != "ratio"}}


def loops(dataset: str, device: str, images: int | None) -> Iterator[Measure]:
    """Images a second of the training loop."""
    _, table = apart(loop_speed.compared, dataset, images=images, on=device)
    for network, row in table.iterrows():
        for other, goal in (
            ("bare loop", "0.97"),
            ("image by image", "20" if device == "cuda" else "2.5 (bf16)"),
        ):
            yield Measure(
                what=f"images/s, {network}, {row['precision']}",
                data=dataset,
                ours=float(row["ours, images/s"]),
                beside=other,
                other=float(row[f"{other}, images/s"]),
                goal=goal,
                ratio=float(row[f"ours / {other}"]),
            )


def slots(trials: int, epochs: int) -> Iterator[Measure]:
    """What of the slots' time was training."""
    table = slot_use.compared(trials, epochs)
    for what, goal in (
        ("busy, first step to last", "ours 0.95"),
        ("busy, whole command", ""),
        (slot_use.BETWEEN, "ours 0.2"),
    ):
        ours, stock = float(table["ours"][what]), float(table["stock"][what])
        yield Measure(f"slots, {what}", "digits", ours, "stock", stock, goal)
    yield Measure(slot_use.OVERHEAD, "digits", float(table["ours"][slot_use.OVERHEAD]), goal="ours 0.02")


def starts(times: int) -> Iterator[Measure]:
    """Seconds to the first step."""
    median = start_up.compared(times)["median"]
    ours, stock = float(median["ours"]), float(median["stock"])
    yield Measure("seconds to the first step", "digits", ours, "stock", stock, "ours 15")


def found(dataset: str, seconds: float) -> Iterator[Measure]:
    """What a search finds in a given time."""
    table = time_to_accuracy.compared(dataset, seconds)
    for other in ("stock", "tutorial"):
        for what, goal in (
            ("trials with a score", "10" if other == "tutorial" else ""),
            ("best validation accuracy", ""),
            ("seconds to what the tutorial reached", "1/20" if other == "tutorial" else ""),
        ):
            ours, theirs = float(table["ours"][what]), float(table[other][what])
            yield Measure(f"{what}, {seconds:.0f} s", dataset, ours, other, theirs, goal)


def memories(dataset: str, trials: int) -> Iterator[Measure]:
    """MiB of a search, and of a worker after many trials."""
    peaks = apart(memory.searched, dataset, 2)
    data = float(peaks["data set"])
    for what in (
        "driver, proportional",
        "largest worker, proportional",
        "driver, workers and Ray at once",
    ):
        yield Measure(f"MiB, {what}", dataset, float(peaks[what]), "data set", data)
    held = apart(memory.grown, trials)
    first = min(2, len(held) - 1)
    early, late = float(held.iloc[first]), float(held.iloc[-1])
    yield Measure(f"MiB of a worker {held.index[-1]}", "digits", late, str(held.index[first]), early, "1.0")


PARTS = ("loops", "starts", "slots", "found", "memories")


def settings() -> str:
    """What each is compared with."""
    return "\n".join(
        (
            "loops, starts and slots: as benchmarks.loop_speed and benchmarks.slot_use say",
            *(f"  {name:10}{text}" for name, text in slot_use.SETTINGS.items()),
            "found in a given time:",
            time_to_accuracy.settings(),
        )
    )


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="auto", help="as for search.run")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--parts", default=",".join(PARTS), help="some of: " + ", ".join(PARTS))
    parser.add_argument("--images", type=int, help="of the loops' comparison: 3000, or 45000 on a GPU")
    parser.add_argument("--trials", type=int, default=30, help="of some 10 s, for the use of slots")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each of three searches")
    parser.add_argument("--growth-trials", type=int, default=200)
    options = parser.parse_args()
    chosen = options.parts.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"--parts: no {', '.join(unknown)}, but {', '.join(PARTS)}")
    if options.device == "cuda" and chosen != ["loops"]:
        print("not measured on a GPU: start-up, use of slots, what is found in a given time, memory")
        chosen = ["loops"]
    parts = {
        "loops": loops(options.dataset, options.device, options.images),
        "starts": starts(5),
        "slots": slots(options.trials, 5),
        "found": found(options.dataset, options.seconds),
        "memories": memories(options.dataset, options.growth_trials),
    }
    rows, failed = [], []
    for name in chosen:
        try:
            for measure in parts[name]:
                rows.append(measure.row())
                print(rows[-1], flush=True)
        except Exception:  # hours may have gone into the other parts
            traceback.print_exc()
            failed.append(name)
    print(f"\nOne machine, one run\n{settings()}\n")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format))
    if failed:
        print(f"failed, see above: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
