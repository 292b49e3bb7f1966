import struct
from pathlib import Path
from typing import Any

import pytest
from stint_results import steps
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData


def all_events(folder: Path) -> list[Event]:
    """What the event files of a folder hold, read as TensorBoard does."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, start = path.read_bytes(), 0
        while start < len(content):
            (length,) = struct.unpack_from("<Q", content, start)  # a record: length, check, event, check
            found.append(Event.FromString(content[start + 12 : start + 12 + length]))
            start += 12 + length + 4
    return found


def events(folder: Path) -> list[tuple[str, int, float]]:
    """Name, step and value of every scalar."""
    return [
        (value.tag, event.step, value.simple_value)
        for event in all_events(folder)
        for value in event.summary.value
        if not value.HasField("metadata")
    ]


def hparams(folder: Path) -> list[tuple[int, str, HParamsPluginData]]:
    """Step, name and content of what is there for TensorBoard's HParams tab."""
    return [
        (event.step, value.tag, HParamsPluginData.FromString(value.metadata.plugin_data.content))
        for event in all_events(folder)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]


def test_parameters_of_the_space_can_be_read_in_tensorboard(worker, order, folder):
    worker(order(params={"rate": 0.5, "norm": "batch", "flip": True, "crop": 4})).train()
    ((step, tag, content),) = hparams(folder)
    assert (step, tag) == (0, "_hparams_/session_start_info")
    info = content.session_start_info
    assert info.group_name == "trial 7"
    found = {name: getattr(value, value.WhichOneof("kind")) for name, value in info.hparams.items()}
    assert found == {"rate": 0.5, "norm": "batch", "flip": True, "crop": 4.0}


def test_tensorboard_hears_of_the_end_after_the_last_epoch_only(worker, order, folder):
    one = worker(order())
    steps(one, 3)
    assert len(hparams(folder)) == 1
    one.train()
    assert [tag for _, tag, _ in hparams(folder)][1:] == ["_hparams_/session_end_info"]


def test_every_report_can_be_read_in_tensorboard_at_once(worker, order, folder):
    one = worker(order())
    wanted: list[tuple[str, int, Any]] = []
    for epoch in (1, 2):
        (row,) = one.train()["reports"]
        wanted += [(name, epoch, pytest.approx(value)) for name, value in row.items() if name != "epoch"]
        assert len(wanted) == 9 * epoch
        assert events(folder) == wanted


def test_next_stint_keeps_the_events_of_the_last(worker, order, folder):
    for stint in range(3):  # all in the same second
        one = worker(order(stint=stint, known_epochs=stint))
        steps(one, 1)
        one.stop()
    losses = [step for name, step, _ in events(folder) if name == "val_loss"]
    assert sorted(losses) == [1, 2, 3]


def test_epochs_trained_again_replace_their_events(worker, order, folder):
    steps(worker(order(checkpoint_epochs=(1,))), 3)
    steps(worker(order(stint=1, known_epochs=3)), 1)
    starts = [event.step for event in all_events(folder) if event.HasField("session_log")]
    assert starts == [1, 2]  # TensorBoard drops what it knows of these steps and later ones
