"""What a worker's steps gave."""

from typing import Any

from trainables.trainable import Trainable

CLOCK = ("seconds", "validation_seconds", "images_per_second")


def rows(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All reports without the clock's part."""
    return [{n: v for n, v in row.items() if n not in CLOCK} for r in results for row in r["reports"]]


def steps(worker: Trainable, count: int) -> list[dict[str, Any]]:
    """Results of `count` steps, as Ray's driver gets them."""
    return [worker.train() for _ in range(count)]
