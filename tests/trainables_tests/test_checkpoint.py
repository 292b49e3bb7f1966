import errno
import importlib
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import checkpoint
from trainables.config import Task
from trainables.models import cnn
from trainables.remote import RemotePlace
from trainables.storage import StorageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def state(epoch: int, identity: str = "mine") -> dict[str, Any]:
    return {"identity": identity, "epoch": epoch, "weights": torch.full((3,), float(epoch))}


def test_checkpoint_comes_back_as_it_was(tmp_path):
    document = state(3) | {"reports": [{"epoch": 1, "val_loss": float("nan")}], "average": None}
    checkpoint.save(tmp_path / "new" / "folder", 0, document)
    loaded = checkpoint.load(tmp_path / "new" / "folder", "mine")
    assert loaded is not None
    assert torch.equal(loaded.pop("weights"), document.pop("weights"))
    assert str(loaded) == str(document)  # nan is not equal to itself


def test_nothing_is_loaded_where_nothing_was_saved(tmp_path):
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "missing") is None


def test_same_stint_replaces_its_checkpoint(tmp_path):
    for epoch in (1, 2):
        checkpoint.save(tmp_path, 4, state(epoch))
    assert names(tmp_path) == ["checkpoint-004.pt"]
    assert checkpoint.load(tmp_path)["epoch"] == 2


def test_reader_keeps_the_whole_file_while_it_is_replaced(tmp_path):
    checkpoint.save(tmp_path, 0, state(1))
    with (tmp_path / "checkpoint-000.pt").open("rb") as reader:
        checkpoint.save(tmp_path, 0, state(2))
        assert torch.load(reader, weights_only=True)["epoch"] == 1


def test_later_stint_removes_what_earlier_ones_left(tmp_path):
    for stint in (0, 1):
        checkpoint.save(tmp_path, stint, state(stint))
    (tmp_path / "checkpoint-000.tmp").write_bytes(b"cut off while writing")
    (tmp_path / "events.out.tfevents.1").write_bytes(b"not a checkpoint")
    (tmp_path / "checkpoint-notes.txt").write_bytes(b"nor this")
    (tmp_path / "checkpoint-copy.pt").write_bytes(b"nor this")
    checkpoint.save(tmp_path, 2, state(2))
    assert names(tmp_path) == [
        "checkpoint-002.pt",
        "checkpoint-copy.pt",
        "checkpoint-notes.txt",
        "events.out.tfevents.1",
    ]


def test_earlier_stint_never_overwrites_a_later_one(tmp_path):
    checkpoint.save(tmp_path, 1000, state(5))
    checkpoint.save(tmp_path, 999, state(9))  # a worker that was cut off and still writes
    assert checkpoint.load(tmp_path)["epoch"] == 5


def test_another_identity_is_never_loaded(tmp_path):
    checkpoint.save(tmp_path, 3, state(3, "other"))
    assert checkpoint.load(tmp_path, "mine") is None
    assert checkpoint.load(tmp_path)["identity"] == "other"
    checkpoint.save(tmp_path, 2, state(2, "mine"))
    assert checkpoint.load(tmp_path, "mine")["epoch"] == 2


@pytest.mark.parametrize("stint", [0, 1])
def test_write_that_fails_half_way_leaves_the_checkpoint_before(stint, tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 0, state(1))

    def half_a_write(document: Any, file: Any) -> None:
        file.write(b"PK\x03\x04 half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half_a_write)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, stint, state(2))
    assert checkpoint.load(tmp_path, "mine")["epoch"] == 1
    assert names(tmp_path) == ["checkpoint-000.pt"]  # the half would fill the disk


@pytest.mark.parametrize("name", ["ESTALE", "ETIMEDOUT"])
def test_disk_that_is_away_is_told_and_not_taken_for_damage(name, tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 0, state(1))

    def away(*_: Any, **__: Any) -> None:
        raise OSError(getattr(errno, name), "gone for now")

    monkeypatch.setattr(torch, "load", away)
    with pytest.raises(StorageError, match="gone for now"):
        checkpoint.load(tmp_path)


def test_worker_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path):
    checkpoint.save(tmp_path, 0, state(1))
    (tmp_path / "checkpoint-001.tmp").write_bytes(b"PK\x03\x04 half of it")
    assert checkpoint.load(tmp_path, "mine")["epoch"] == 1
    checkpoint.remove(tmp_path)
    assert names(tmp_path) == []


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[: len(content) // 2],
            "noise": b"\x93" * 500,
            "list": pickle.dumps([1, 2], protocol=2),
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "cut", "noise", "list"])
def test_damaged_checkpoint_is_passed_over_with_a_warning(how, tmp_path):
    checkpoint.save(tmp_path, 1, state(1))
    damaged(tmp_path / "checkpoint-001.pt", how)
    with pytest.warns(UserWarning, match=r"checkpoint-001\.pt"):
        assert checkpoint.load(tmp_path, "mine") is None
    checkpoint.save(tmp_path, 0, state(7))
    with pytest.warns(UserWarning, match=r"checkpoint-001\.pt"):
        assert checkpoint.load(tmp_path, "mine")["epoch"] == 7


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_not_executed(tmp_path):
    crater = tmp_path / "crater"
    torch.save({"identity": "mine", "bomb": Bomb(crater)}, tmp_path / "checkpoint-000.pt")
    with pytest.warns(UserWarning, match=r"checkpoint-000\.pt"):
        assert checkpoint.load(tmp_path, "mine") is None
    assert not crater.exists()
    torch.load(tmp_path / "checkpoint-000.pt", weights_only=False)
    assert crater.exists()  # it was a live one


def test_remove_leaves_other_files(tmp_path):
    checkpoint.save(tmp_path, 0, state(1))
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    checkpoint.remove(tmp_path)
    assert names(tmp_path) == ["events.out.tfevents.1"]
    checkpoint.remove(tmp_path / "missing")


def test_identity_changes_with_configuration_task_data_and_code(make_config, task):
    config = make_config()
    identities = [
        checkpoint.identity(config, task, "data", "code"),
        checkpoint.identity(make_config(batch_size=17), task, "data", "code"),
        checkpoint.identity(make_config(model={"kernel": 5}), task, "data", "code"),
        checkpoint.identity(config, replace(task, max_epochs=5), "data", "code"),
        checkpoint.identity(config, task, "data2", "code"),
        checkpoint.identity(config, task, "data", "code2"),
    ]
    assert len(set(identities)) == len(identities)
    same = Task(image_size=8, classes=3, train_images=60, max_epochs=4)
    assert checkpoint.identity(make_config(), same, "data", "code") == identities[0]


@pytest.fixture
def own_package(tmp_path, monkeypatch) -> Iterator[Path]:
    """A user's package `own_package` on the path, with an empty `__init__.py`, one module and a folder."""
    package = tmp_path / "own_package"
    (package / "folder").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "space.py").write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_package"]:
        del sys.modules[name]


def test_code_hash_covers_this_package_and_modules_given(own_package):
    alone = checkpoint.code_hash()
    assert alone == checkpoint.code_hash()
    assert checkpoint.code_hash(cnn) != alone
    root = importlib.import_module("own_package")
    module = importlib.import_module("own_package.space")
    before = checkpoint.code_hash(root, module)
    assert before != alone
    assert before == checkpoint.code_hash(root, module)
    (own_package / "space.py").write_text("WIDTH = 2\n")
    assert checkpoint.code_hash(root, module) != before


def test_code_hash_takes_packages_without_a_file(own_package):
    checkpoint.code_hash(importlib.import_module("own_package.folder"))


@pytest.fixture
def remote_folder(bucket):
    return RemotePlace(f"{bucket}/runs/mine/trials/00017")


def test_checkpoints_in_an_object_store_come_back_and_the_highest_stint_wins(remote_folder):
    assert checkpoint.load(remote_folder) is None
    for stint, epoch in ((0, 1), (2, 3), (1, 9)):  # the last is a worker that was cut off and still writes
        checkpoint.save(remote_folder, stint, state(epoch))
    assert checkpoint.load(remote_folder, "mine")["epoch"] == 3
    assert checkpoint.load(remote_folder, "other") is None
    remote_folder.write("events.out.tfevents.1", b"")
    checkpoint.save(remote_folder, 1000, state(4))  # of a later sitting
    assert sorted(remote_folder.names()) == ["checkpoint-1000.pt", "events.out.tfevents.1"]
    checkpoint.remove(remote_folder)
    assert remote_folder.names() == ["events.out.tfevents.1"]


def test_damaged_object_is_passed_over_and_a_store_that_is_silent_is_not(remote_folder, proxy):
    checkpoint.save(remote_folder, 0, state(1))
    remote_folder.write("checkpoint-001.pt", b"PK\x03\x04 half of it")
    with pytest.warns(UserWarning, match=r"checkpoint-001\.pt"):
        assert checkpoint.load(remote_folder)["epoch"] == 1
    proxy.down = True
    with pytest.raises(StorageError, match="cannot be"):
        checkpoint.load(replace(remote_folder, patience=0.5))


def test_write_that_fails_half_way_leaves_the_object_before(remote_folder, monkeypatch):
    checkpoint.save(remote_folder, 0, state(1))

    def half_a_write(document: Any, file: Any) -> None:
        file.write(b"PK\x03\x04 half of it")
        raise RuntimeError("no more memory")

    monkeypatch.setattr(torch, "save", half_a_write)
    with pytest.raises(RuntimeError, match="memory"):
        checkpoint.save(remote_folder, 0, state(2))
    assert checkpoint.load(remote_folder)["epoch"] == 1
