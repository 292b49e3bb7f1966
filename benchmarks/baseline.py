"""How far does a known configuration come? Validation accuracy by epoch, and the core-seconds it took.

    python -m benchmarks.baseline --dataset cifar10                        the strongest: some half an hour
    python -m benchmarks.baseline --dataset cifar10 --baseline plain_dropout --epochs 20 --device cuda
    python -m benchmarks.baseline --dataset cifar10 --set width=64 --seeds 3

One core trains, or a GPU; evaluation after each epoch is counted.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.training_process import prepare_process, task_of
from spaces import cnn, fixed_trial
from trainables.data import load_dataset
from trainables.device import place
from trainables.precision import choose_precision
from trainables.training import Training


def changed(params: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """Parameters with others instead, each `name=value` in the type that is there."""
    for change in changes:
        name, _, value = change.partition("=")
        if name not in params:
            raise SystemExit(f"--set {change}: the baseline has no {name}, but " + ", ".join(params))
        params = params | {name: _as(params[name], value, change)}
    return params


def _as(old: Any, value: str, change: str) -> Any:
    """A value in the type of the one it replaces."""
    try:
        return {"true": True, "false": False}[value.lower()] if isinstance(old, bool) else type(old)(value)
    except (KeyError, ValueError):
        raise SystemExit(f"--set {change}: expected a value like {old!r}") from None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="auto", help="as for search.run")
    parser.add_argument("--baseline", default="speedrun", choices=list(cnn.BASELINES))
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another value for a parameter"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    options = parser.parse_args()
    device = prepare_process(options.device)
    data = load_dataset(options.dataset)
    task = task_of(data, options.epochs)
    params = changed(cnn.BASELINES[options.baseline], options.set)
    config = cnn.suggest(fixed_trial(params), task)
    precision = choose_precision(options.precision, config.model, task, config.batch_size, device)
    placed = place(data, device)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    unit = "core-seconds" if device.type == "cpu" else "seconds"
    print(f"{options.baseline} {' '.join(options.set)} on {data.name}, {precision}, {options.epochs} epochs")
    for seed in range(options.seeds):
        began = clock()
        training = Training(config, task, placed, seed=seed, precision=precision)
        for report in training.epochs():
            assert report.val_accuracy is not None
            print(
                f"seed {seed}  epoch {report.epoch:3}  validation {report.val_accuracy:.4f}"
                f"  {clock() - began:6.0f} {unit}  {report.images_per_second:5.0f} images/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
