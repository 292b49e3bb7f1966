from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from search import object_store
from search.object_store import MEBIBYTE, check_room, store_bytes
from search.settings import UsageError

GIBIBYTE = 1024 * MEBIBYTE


class Part(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.labels)


def dataset(train: int, size: int) -> SimpleNamespace:
    """A data set of so many training images, and a tenth as many that validate, without their memory."""
    parts = [
        Part(images=np.broadcast_to(np.uint8(0), (n, size, size, 3)), labels=np.zeros(n, np.int64))
        for n in (train, train // 10)
    ]
    return SimpleNamespace(train=parts[0], val=parts[1])


def test_a_data_set_that_does_not_fit_is_refused_with_the_figures_and_a_size_that_does():
    large = dataset(100_000, 224)
    with pytest.raises(UsageError) as caught:
        check_room(large, room=8 * GIBIBYTE)
    text = str(caught.value)
    assert "110,000 images of 224 px need 15.4 GiB, and 7.9 GiB are free" in text
    size = int(text.partition("--image-size ")[2].split()[0])
    check_room(dataset(100_000, size), room=8 * GIBIBYTE)
    with pytest.raises(UsageError):
        check_room(dataset(100_000, size + 2), room=8 * GIBIBYTE)


def test_where_no_size_would_fit_only_fewer_images_are_advised():
    with pytest.raises(UsageError, match="are free; give fewer images"):
        check_room(dataset(100, 32), room=MEBIBYTE)


def test_usual_data_sets_fit():
    check_room(dataset(50_000, 32))


def disk(free):
    return lambda path: SimpleNamespace(free=free[str(path)])


def test_store_grows_into_what_is_free_of_shared_memory_and_of_memory(monkeypatch):
    monkeypatch.setattr(object_store, "SHARED", Path("/"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/tmp")
    monkeypatch.setattr("shutil.disk_usage", disk({"/": 10 * GIBIBYTE, "/tmp": 90 * GIBIBYTE}))
    monkeypatch.setattr(object_store, "_available_bytes", lambda: 20 * GIBIBYTE)
    assert store_bytes() == 8 * GIBIBYTE
    monkeypatch.setattr(object_store, "_available_bytes", lambda: 5 * GIBIBYTE)
    assert store_bytes() == 4 * GIBIBYTE


def test_a_container_with_little_shared_memory_keeps_the_data_in_a_file(monkeypatch):
    monkeypatch.setattr(object_store, "SHARED", Path("/"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/tmp")
    monkeypatch.setattr("shutil.disk_usage", disk({"/": 64 * MEBIBYTE, "/tmp": 90 * GIBIBYTE}))
    monkeypatch.setattr(object_store, "_available_bytes", lambda: 5 * GIBIBYTE)
    assert store_bytes() == 4 * GIBIBYTE
    check_room(dataset(50_000, 32))


def test_memory_of_a_container_counts(tmp_path):
    meminfo, group = tmp_path / "meminfo", tmp_path / "cgroup"
    group.mkdir()
    assert object_store._available_bytes(meminfo, group) is None
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable: 500 kB\n")
    assert object_store._available_bytes(meminfo, group) == 500 * 1024
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    (group / "memory.stat").write_text("anon 500\n")
    assert object_store._available_bytes(meminfo, group) == 500 * 1024
    (group / "memory.max").write_text("5000\n")
    (group / "memory.stat").write_text("anon 100\ninactive_file 300\nactive_file 200\n")
    assert object_store._available_bytes(meminfo, group) == 4500, "a cache of files is no use of memory"
