"""A run in an object store: the driver writes to its own disk, and what it wrote is copied there.

Checkpoints and events are no part of it: workers put those there themselves.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from search.results import RunFolder
from trainables import checkpoint
from trainables.place import Folder
from trainables.remote import PATIENCE_SECONDS, RemotePlace
from trainables.storage import StorageError, TakenOverError

SAVE_SECONDS = 20.0
"""Longest that a change waits; one that ended a trial waits for no more than the copy before it."""
LEAST_PAUSE = 1.0
SHORT_PATIENCE = 10.0
"""Seconds that a store which fails is waited for before that is said; the search and the tries go on."""
DROPS_AT_ONCE = 50
SAVED = ".saved.json"
"""On this machine alone: what the copies of the record were that it put into the store last."""
_RECORD = "study.db"
"""What the names of the record's files begin with: SQLite has some beside it."""

Listing = Mapping[str, tuple[int, int]]
"""When each file of a run was changed, in nanoseconds, and its size in bytes."""


class Mirror:
    """Keeps a run in an object store up to date, in a thread of its own. Does nothing for one on a disk."""

    def __init__(self, folder: RunFolder, say: Callable[[str], None]) -> None:
        """`say` shows the user a line."""
        self.folder, self.say = folder, say
        self._files: Listing = {}
        self._record = (0, 0)
        self._drops: deque[Folder] = deque()
        self._wake, self._leave = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._failing_since: float | None = None
        self._superseded = ""

    def begin(self) -> None:
        """Have the store hold what there is, the number of this sitting above all, and keep it up to date.

        Raises StorageError.
        """
        if self.folder.address:
            self._save(PATIENCE_SECONDS)
            self.check()
            self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
            self._thread.start()

    def trial_ended(self) -> None:
        """Copy what has changed as soon as may be."""
        self._wake.set()

    def drop(self, checkpoints: Folder) -> None:
        """Delete a trial's checkpoints; those in a store when there is time."""
        if isinstance(checkpoints, Path):
            checkpoint.remove(checkpoints)
        else:
            # with little patience: copies wait meanwhile
            self._drops.append(replace(checkpoints, patience=SHORT_PATIENCE))

    def check(self) -> None:
        """Raise StorageError where another driver has taken the run over: this one must write no more."""
        if self._superseded:
            raise TakenOverError(self._superseded)

    def close(self) -> None:
        """Copy what is left. Raises StorageError where the store does not take it."""
        if self._thread is None:
            return
        self._leave.set()
        self._wake.set()
        self._thread.join()
        self._thread = None
        self.check()
        failing = 0.0 if self._failing_since is None else time.monotonic() - self._failing_since
        try:
            self._save(max(SHORT_PATIENCE, PATIENCE_SECONDS - failing))
        except StorageError as error:
            raise StorageError(f"{error} (this machine has everything in {self.folder.path})") from error
        self.check()
        with suppress(StorageError):
            while self._drops:
                self._drop_some(len(self._drops))

    def _run(self) -> None:
        began = time.monotonic()
        while not self._leave.is_set():
            self._wake.wait(0.0 if self._drops else max(0.0, SAVE_SECONDS - (time.monotonic() - began)))
            self._wake.clear()
            began = time.monotonic()
            try:
                due = len(self._drops)  # of trials whose end this copy of the record has
                self._save(SHORT_PATIENCE)
                if not self._superseded:
                    self._drop_some(due)
            except Exception as error:  # the disk may be full, the database locked: tried again, too
                if self._failing_since is None:
                    self.say(f"{error}; the search goes on, and what is new is kept in {self.folder.path}")
                    self._failing_since = began
            else:
                if self._failing_since is not None:
                    self.say(f"{self.folder.address} is up to date again")
                    self._failing_since = None
            # however long a copy takes, the disk and the network are free for most of the time
            self._leave.wait(max(LEAST_PAUSE, 2 * (time.monotonic() - began)))

    def _save(self, patience: float) -> None:
        store = RemotePlace(self.folder.address, patience=patience)
        if self._taken_over(store):
            return
        self._files = put_changes(self.folder, self._files, patience)
        record = _record_state(self.folder)
        if record != self._record and self.folder.database.exists():
            save_record(self.folder, patience)
            self._record = record

    def _taken_over(self, store: RemotePlace) -> bool:
        """Whether a driver that took this one for dead goes on with the run, or one that began with it."""
        with suppress(FileNotFoundError, ValueError):
            there = json.loads(store.read(self.folder.settings.name)).get("drivers", [])
            if self.folder.drivers[: len(there)] != there:
                self._superseded = (
                    f"another driver goes on with {self.folder.address}, for this one had not been heard of"
                )
        return bool(self._superseded)

    def _drop_some(self, due: int) -> None:
        for _ in range(min(DROPS_AT_ONCE, due)):
            checkpoint.remove(self._drops[0])
            self._drops.popleft()


def save_record(folder: RunFolder, patience: float = PATIENCE_SECONDS) -> None:
    """Put the record of a run into its store as it stands, also while it is written. Raises StorageError."""
    content = _snapshot(folder.database)
    digest = hashlib.sha256(content).hexdigest()
    # noted beforehand: killed in between, or where a try fails, the store has one of them
    folder.write_json(SAVED, [*saved_records(folder), digest])
    RemotePlace(folder.address, patience=patience).write(folder.database.name, content)
    folder.write_json(SAVED, [digest])


def saved_records(folder: RunFolder) -> list[str]:
    """Digests of the copies of the record of which this machine put one into the store last."""
    try:
        digests: list[str] = json.loads((folder.path / SAVED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return digests


@contextmanager
def put_back(folder: RunFolder, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Have the store get what is written into the folder inside, the record excepted. Raises StorageError."""
    before = listing(folder)
    yield
    if folder.address:
        put_changes(folder, before, patience)


def put_changes(folder: RunFolder, before: Listing, patience: float) -> Listing:
    """Copy the files that are not as they were, delete those that are gone; returns what there is now."""
    store, now = RemotePlace(folder.address, patience=patience), listing(folder)
    done = dict(now)
    for name in now:
        if before.get(name) != now[name]:
            try:
                store.write(name, (folder.path / name).read_bytes())
            except FileNotFoundError:
                del done[name]  # gone since: the next time it is missed there
    for name in before.keys() - now.keys():
        store.delete(name)
    return done


def listing(folder: RunFolder) -> dict[str, tuple[int, int]]:
    """The files of a run that are whole, but for its record, by their paths in it."""
    found = {}
    for path in folder.path.rglob("*"):
        name = path.relative_to(folder.path).as_posix()
        if path.name.startswith(".") or path.suffix == ".tmp" or name.startswith(_RECORD):
            continue
        with suppress(FileNotFoundError):
            state = path.stat()
            if path.is_file():
                found[name] = (state.st_mtime_ns, state.st_size)
    return found


def _record_state(folder: RunFolder) -> tuple[int, int]:
    """Changes with every commit."""
    times, sizes = [0], 0
    for name in (_RECORD, f"{_RECORD}-wal"):
        with suppress(FileNotFoundError):
            state = (folder.path / name).stat()
            times.append(state.st_mtime_ns)
            sizes += state.st_size
    return max(times), sizes


def _snapshot(database: Path) -> bytes:
    """A SQLite database as it stands, commits in its log included, as the content of one file."""
    with tempfile.TemporaryDirectory(prefix="search-record-") as scratch:
        copy = Path(scratch) / database.name
        with (
            closing(sqlite3.connect(database, timeout=60)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        return copy.read_bytes()
