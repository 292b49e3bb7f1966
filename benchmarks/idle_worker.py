"""A worker that trains nothing and times what it waits for. Few imports: fifty of them start on two cores."""

from __future__ import annotations

import os
import time
from typing import Any

from ray import tune


class IdleWorker(tune.Trainable):
    """Sleeps for each epoch, then reports it with a score that rises to what the parameters promise.

    Each report says how long the worker had waited for its order: `refill`, where it is another trial's than
    the last, or `answer`, where the same goes on.
    """

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """Once a worker; `data` is the seconds of an epoch."""
        self.pace: float = shared["data"]
        self.reported: float | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next order."""
        self.epoch: int = new_config["stint"].known_epochs
        self.promise: float = new_config["stint"].params["promise"]
        self.kind = "refill"
        return True

    def step(self) -> dict[str, Any]:
        """One epoch."""
        waited = {} if self.reported is None else {self.kind: time.perf_counter() - self.reported}
        time.sleep(self.pace)
        self.kind = "answer"
        self.epoch += 1
        self.reported = time.perf_counter()
        return result(self.epoch, self.promise) | waited


def result(epoch: int, promise: float) -> dict[str, Any]:
    """What a worker reports of an epoch; its score rises towards `promise`."""
    names = ("train_loss", "train_accuracy", "val_loss", "val_macro_f1", "learning_rate")
    row = {
        "epoch": epoch,
        **dict.fromkeys(names, 0.123456789),
        "val_accuracy": promise * (1.0 - 0.5 / epoch),
        "images_per_second": 1e4,
        "seconds": 1.0,
        "validation_seconds": 0.1,
    }
    facts = {"precision": "fp32", "device": "cpu", "node": str(os.getpid())}
    return {"reports": [row], "setup_seconds": 0.0, "checkpoint_seconds": 0.0, "saved": True, **facts}
