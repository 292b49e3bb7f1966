"""Real failures to write: /dev/full takes nothing, as a full disk."""

import errno
import sqlite3
from pathlib import Path

import pytest
import torch

from trainables import checkpoint
from trainables.storage import StorageError, writing

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def full_folder(tmp_path: Path) -> Path:
    """A folder in which the first checkpoint of a trial does not find room."""
    (tmp_path / "checkpoint-000.tmp").symlink_to(FULL)
    return tmp_path


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_checkpoint_that_finds_no_room_names_place_and_reason(full_folder: Path, size: int) -> None:
    with pytest.raises(StorageError) as raised, writing(full_folder):
        checkpoint.save(full_folder, 0, {"weights": torch.zeros(size)})
    assert str(raised.value) == f"{full_folder} cannot be written: No space left on device"
    assert list(full_folder.iterdir()) == [], "half a checkpoint takes no room"


def test_a_file_that_the_system_names_is_the_place(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"^/a/file cannot be written: Read-only file system$"),
        writing(tmp_path),
    ):
        raise OSError(errno.EROFS, "Read-only file system", "/a/file")


def test_a_full_database_is_known_by_what_it_says(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "study.db")
    database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StorageError, match="cannot be written: database or disk is full"), writing(tmp_path):
        database.execute("CREATE TABLE trials (number)")
    database.close()


def test_whatever_wraps_it_is_looked_through(tmp_path: Path) -> None:
    def wrapped() -> None:
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as error:
            raise RuntimeError("could not be committed") from error

    with pytest.raises(StorageError, match="Disk quota exceeded"), writing(tmp_path):
        wrapped()


def test_the_innermost_place_is_the_one_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="inner"), writing(tmp_path / "outer"), writing(tmp_path / "inner"):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "no such file"), ValueError("no number")])
def test_anything_else_stays_what_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, writing(tmp_path):
        raise error
    assert raised.value is error
