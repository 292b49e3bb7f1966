"""How long from the command to the first training step? This project, and a script for Ray Tune as it comes.

    python -m benchmarks.start_up                     5 times each: some 5 minutes

Both train on the digits that scikit-learn ships, on 2 slots, in a new process each time. Bytecode must have
been compiled by an earlier run, as on any machine but a new one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.events import epochs_of

STOCK = """
import sys
from pathlib import Path
from benchmarks.slot_use import stock
epochs, _ = stock(2, 1, Path(sys.argv[1]))
print("FIRST", min(epoch.began for epoch in epochs))
"""


def ours(folder: Path) -> float:
    """When the first step of the first epoch began, in seconds since 1970."""
    _in_new_process(
        "-m", "search.run", "--space=benchmarks.slot_use", "--dataset=digits", "--trials=2", "--max-epochs=1",
        "--max-concurrent=2", "--no-confirm", "--device=cpu", f"--storage={folder}", "--name=ours",
    )  # fmt: skip
    return min(epoch.began for epoch in epochs_of(folder / "ours"))


def stock(folder: Path) -> float:
    """The same of `benchmarks.slot_use.stock`."""
    output = _in_new_process("-c", STOCK, str(folder))
    return next(float(line.split()[1]) for line in output.splitlines() if line.startswith("FIRST"))


def _in_new_process(*words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout


def compared(times: int) -> pd.DataFrame:
    """Seconds until the first training step: a row each."""
    starts: dict[str, Callable[[Path], float]] = {"ours": ours, "stock": stock}
    took: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(times):
        for name, start in starts.items():
            with tempfile.TemporaryDirectory(prefix="start-") as folder:
                began = time.time()
                took[name].append(start(Path(folder)) - began)
    table = pd.DataFrame(
        {
            name: {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}
            for name, seconds in took.items()
        }
    ).T
    table["ours / it"] = table["median"]["ours"] / table["median"]
    return table


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    table = compared(parser.parse_args().times)
    print("seconds from the command to the first training step")
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
