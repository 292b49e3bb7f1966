"""The TensorBoard events of a stint: a file that grows on a disk, or that an object store gets anew."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from trainables.place import Folder

SAVE_SECONDS = 30.0
"""At least so long after one copy in an object store comes the next, but for those beside a checkpoint."""
LAST_PATIENCE = 10.0
"""Seconds that a store which fails is waited for at the end of a stint, when nothing but events is left."""


class EventFile:
    """One file of events. Raises OSError, StorageError among them, where it cannot be written."""

    def __init__(self, folder: Folder, stint: int) -> None:
        """The name goes on with the second, the host and the stint, for two stints may share the former."""
        self._remote = None if isinstance(folder, Path) else folder
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
            self._folder = folder
        else:
            # an object cannot be added to: events gather here, and are put there whole
            self._folder = Path(tempfile.mkdtemp(prefix="search-events-"))
        # not SummaryWriter, whose queue and thread lose the last events when a worker is killed
        self._writer = EventsWriter(str(self._folder / "events"), f".{stint:03d}")
        self._saved, self._dirty = time.monotonic(), False

    def write(self, event: Event) -> None:
        """Add an event; on a disk it is there when this returns."""
        self._writer.write_event(event)
        self._writer.flush()
        self._dirty = True
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Have an object store hold every event so far."""
        if self._remote is not None and self._dirty:
            for file in self._folder.iterdir():
                self._remote.write(file.name, file.read_bytes())
            self._saved, self._dirty = time.monotonic(), False

    def close(self) -> None:
        """Write what is left, and let the file go."""
        try:
            self._writer.close()
            if self._remote is not None:
                self._remote = replace(self._remote, patience=LAST_PATIENCE)
                self.save()
        finally:
            if self._remote is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
