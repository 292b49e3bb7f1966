"""When the epochs of a search were trained, from the TensorBoard files of its run folder."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from benchmarks.stock_tune import Epoch


def epochs_of(run: Path) -> list[Epoch]:
    """Every epoch of every trial."""
    found = []
    for file in sorted(run.glob("trials/*/events*")):
        for event in _events(file):
            values = {value.tag: value.simple_value for value in event.summary.value}
            if "seconds" in values:
                began = event.wall_time - values["seconds"]
                found.append(Epoch(file.parent.name, began, event.wall_time, values["val_accuracy"]))
    return found


def _events(file: Path) -> Iterator[Event]:
    """Records of a length (8 bytes), 4 of its sum, the event, 4 of its sum."""
    content = file.read_bytes()
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += length + 16
