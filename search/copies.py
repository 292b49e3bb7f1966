"""Runs in an object store as folders on this machine: to go on with one, and to read one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from search.results import RunFolder
from search.settings import UsageError
from trainables.place import location
from trainables.storage import StorageError

if TYPE_CHECKING:
    from trainables.remote import RemotePlace

AT_ONCE = 8
"""Files that are read side by side."""
COMMAND_PATIENCE = 30.0
"""Seconds that a command waits for a store that fails."""
MODELS = ("best", "refit")
"""Folders of trained networks."""


def run_folder(storage: Path | str, name: str) -> RunFolder:
    """The folder of a run called `name`, in a folder or below an address."""
    if isinstance(storage, Path):
        return RunFolder(storage / name)
    address = f"{storage}/{name}"
    return RunFolder(_work_folder(address), address)


def _work_folder(address: str) -> Path:
    """Where drivers on this machine keep what they write of the run at `address`."""
    import platformdirs

    digest = hashlib.sha256(address.encode()).hexdigest()[:12]
    cache = Path(platformdirs.user_cache_dir("classifier-search"))
    return cache / "runs" / digest / address.rpartition("/")[2]


def to_resume(run: RunFolder | Path | str, say: Callable[[str], None] = print) -> RunFolder:
    """The folder of a run to go on with. One in an object store is copied to this machine; where this machine
    has a newer copy of its own, that is taken instead, which is said.

    Raises UsageError where there is no run, or where a driver is at work on it.
    """
    from search.resume import DriverLock

    if isinstance(run, RunFolder):
        return run
    where = location_of(run, "--resume")
    if isinstance(where, Path):
        where = where.expanduser()
        return RunFolder(where if where.name not in ("", "..") else where.resolve())
    own = run_folder(*where.rsplit("/", 1))
    DriverLock(own).check_free()
    theirs = RunFolder(own.path.with_name(f".{own.path.name}.{os.getpid()}"), where)
    try:
        fetch(theirs, MODELS)
        DriverLock(theirs).check_free()
        if _is_last_saved(own, theirs):
            say(f"going on with what this machine has of {where}, in {own.path}: it was the last to save it")
        else:
            DriverLock(own).check_free()  # one may have begun meanwhile
            _replace(own, theirs)
    finally:
        shutil.rmtree(theirs.path, ignore_errors=True)
    return own


def _is_last_saved(own: RunFolder, theirs: RunFolder) -> bool:
    """Whether what is in the store is what this machine put there, so that its own is as new or newer."""
    from search.mirror import saved_records

    try:
        # where this machine has one more, it began to go on, and ended before the store could know
        if own.drivers[: len(theirs.drivers)] != theirs.drivers:
            return False
        if not theirs.database.exists():
            return own.database.exists()
        digest = hashlib.sha256(theirs.database.read_bytes()).hexdigest()
    except OSError:
        return False
    return own.database.exists() and digest in saved_records(own)


def _replace(own: RunFolder, theirs: RunFolder) -> None:
    """What this machine had is put aside, not away, until the next time."""
    aside = own.path.with_name(f".{own.path.name}.before")
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(FileNotFoundError):
        own.path.rename(aside)
    theirs.path.rename(own.path)


def make_room(folder: RunFolder) -> None:
    """Remove what this machine has left of a run of this address that is in the store no more.

    Raises UsageError where a driver is at work on it.
    """
    from search.resume import DriverLock

    if folder.address:
        DriverLock(folder).check_free()
        shutil.rmtree(folder.path, ignore_errors=True)


@contextmanager
def opened(run: Path | str, parts: Sequence[str] = ()) -> Iterator[RunFolder]:
    """The folder of a run for a command. Of one in an object store it is a copy that is gone afterwards: of
    the files in the run's folder itself, and of those in the folders `parts`. What the command wrote
    is put back, but for the record.

    Raises UsageError where there is no run, and where the store cannot be used.
    """
    where = location_of(run)
    if isinstance(where, Path):
        yield RunFolder(where)
        return
    from search.mirror import put_back

    folder, scratch = downloaded(where, parts)
    with scratch:
        try:
            with put_back(folder, COMMAND_PATIENCE):
                yield folder
        except StorageError as error:
            raise UsageError(str(error)) from error


def downloaded(address: str, parts: Sequence[str]) -> tuple[RunFolder, tempfile.TemporaryDirectory[str]]:
    """A copy of what `fetch` copies, and the temporary folder that it is gone with."""
    scratch = tempfile.TemporaryDirectory(prefix="search-run-")
    try:
        folder = RunFolder(Path(scratch.name) / address.rpartition("/")[2], address)
        fetch(folder, parts)
    except BaseException:
        scratch.cleanup()
        raise
    return folder, scratch


def location_of(run: Path | str, option: str = "") -> Path | str:
    """What a user called a run by: a path, or an address. Raises UsageError, naming `option`."""
    try:
        where = location(str(run))
    except ValueError as error:
        raise UsageError(f"{option or 'a run'} {error}") from error
    if isinstance(where, str) and where.count("/") < 3:
        raise UsageError(f"{option or 'a run'} must name a run in its bucket, {where}/NAME")
    return where


def fetch(folder: RunFolder, parts: Sequence[str]) -> None:
    """Copy what the store has of a run to this machine: the files in its folder, and those of the folders
    `parts` that are no checkpoints or events. Raises UsageError where there is none."""
    from trainables.remote import RemotePlace

    store = RemotePlace(folder.address, patience=COMMAND_PATIENCE)
    try:
        names = store.names()
        if not names:
            raise UsageError(
                f"there is no run at {folder.address}: give the address of one, such as s3://bucket/runs/NAME"
            )
        for part in parts:
            below = ((store / part).tree()) if part in store.folders() else []
            names += [f"{part}/{name}" for name in below if _is_kept(name)]
        names = [name for name in names if ".." not in name.split("/")]  # a key may say so; none of ours does
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: _fetch_file(store, folder.path, name), names))
    except StorageError as error:
        raise UsageError(str(error)) from error


def _is_kept(name: str) -> bool:
    return not name.rpartition("/")[2].startswith(("checkpoint-", "events."))


def _fetch_file(store: RemotePlace, folder: Path, name: str) -> None:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # gone since: a driver that is at work deletes some
        target.write_bytes(store.read(name))
