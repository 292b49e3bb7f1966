"""TensorBoard events of a stint, on a disk and in an object store."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from trainables import events
from trainables.events import EventFile
from trainables.remote import RemotePlace
from trainables.storage import StorageError


def steps(content: bytes) -> list[int]:
    """The step of each event in a file."""
    found, place = [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        found.append(Event.FromString(content[place + 12 : place + 12 + length]).step)
        place += length + 16
    return found


def test_events_on_a_disk_are_there_at_once(tmp_path):
    file = EventFile(tmp_path / "trial", 3)
    file.write(Event(step=5))
    (path,) = (tmp_path / "trial").iterdir()
    assert path.name.endswith(".003")
    assert steps(path.read_bytes()) == [0, 5]
    file.close()


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(events.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_events_in_an_object_store_are_there_with_each_checkpoint_and_at_the_end(bucket, temporary):
    folder = RemotePlace(f"{bucket}/trial")
    file = EventFile(folder, 3)
    file.write(Event(step=1))
    assert folder.names() == []
    file.save()
    (name,) = folder.names()
    assert steps(folder.read(name)) == [0, 1]
    file.write(Event(step=2))
    file.close()
    assert (folder.names(), steps(folder.read(name))) == ([name], [0, 1, 2])
    assert list(temporary.iterdir()) == []


def test_events_are_not_kept_back_for_long(bucket, temporary, monkeypatch):
    monkeypatch.setattr(events, "SAVE_SECONDS", 0.0)
    folder = RemotePlace(f"{bucket}/trial")
    file = EventFile(folder, 0)
    file.write(Event(step=1))
    assert folder.names()
    file.close()


def test_store_that_fails_at_the_end_leaves_nothing_on_the_disk(bucket, proxy, temporary, monkeypatch):
    monkeypatch.setattr(events, "LAST_PATIENCE", 0.5)
    file = EventFile(RemotePlace(f"{bucket}/trial"), 0)
    file.write(Event(step=1))
    proxy.down = True
    with pytest.raises(StorageError):
        file.close()
    assert list(temporary.iterdir()) == []
