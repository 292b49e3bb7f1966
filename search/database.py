"""A study on disk: Optuna's own tables in SQLite or PostgreSQL, written by one process."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search import rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

_versions: dict[str, str] = {}
"""Of Optuna's tables: `head` is what this Optuna makes; read once a process."""
COMMIT_SECONDS = 1.0
CONNECT_SECONDS = 10


class Database:
    """One study there: new trials and ends are written at once, reports and notes within a second."""

    def __init__(self, storage: optuna.storages.RDBStorage, study_id: int) -> None:
        self.storage, self.study_id = storage, study_id
        self.ids: dict[int, int] = {}
        """The storage's own id of each trial."""
        self._scores: list[tuple[int, int, float]] = []
        self._notes: dict[tuple[int, str], Any] = {}  # a later note of the same name replaces the earlier
        self._written = time.monotonic()

    @classmethod
    def create(cls, url: str, name: str, direction: str) -> Database:
        """A new study. Raises ValueError where one of this name is there already."""
        if url.startswith("sqlite"):
            _make_file(url)
        storage = open_storage(url, writes=True)
        if name in optuna.get_all_study_names(storage):
            raise ValueError(f"a study called {name!r} is there already: choose another --name")
        directions = [StudyDirection.MAXIMIZE if direction == "maximize" else StudyDirection.MINIMIZE]
        return cls(storage, storage.create_new_study(directions, name))

    @classmethod
    def open(cls, url: str, name: str | None = None) -> tuple[Database, str]:
        """An earlier study and its name; without `name` the only one. ValueError where there is none."""
        storage = open_storage(url, writes=True)
        name = _search_name(storage, url, name)
        return cls(storage, storage.get_study_id_from_name(name)), name

    def add(self, trial: FrozenTrial) -> None:
        """Commit a new trial with its parameters and what is noted so far, in one transaction."""
        with self.storage.engine.begin() as connection:
            trial_id = rows.insert_trial(connection, self.study_id, trial)
        self.ids[trial.number] = trial_id
        for key in trial.user_attrs:
            self._notes.pop((trial.number, key), None)

    def note(self, number: int, key: str, value: Any) -> None:
        """Note a fact, to be written within a second, after all that was noted before."""
        self._notes.pop((number, key), None)
        self._notes[number, key] = value

    def report(self, number: int, epoch: int, score: float) -> None:
        """Note a score, to be written within a second."""
        self._scores.append((number, epoch, score))

    def finish(self, number: int, trial: FrozenTrial, constraint: str | None) -> None:
        """Commit all that is noted and the end of a trial; `constraint` is one that it broke."""
        trial_id = self.ids[number]
        broken = [
            (trial_id, key, value)
            for key, value in trial.system_attrs.items()
            if constraint is not None and key.endswith(f":{constraint}")
        ]
        with self._noted() as connection:
            rows.put_marks(connection, broken)
            rows.end_trial(connection, trial_id, trial)

    def flush(self, *, force: bool) -> bool:
        """Write what is noted; without `force` only if the last time was a second ago. Whether it did."""
        if not force and time.monotonic() - self._written < COMMIT_SECONDS:
            return False
        with self._noted():
            return True

    @contextmanager
    def _noted(self) -> Iterator[Connection]:
        """A transaction that has written what is noted, and takes more; all of it is kept, or nothing."""
        # a trial that is not there yet: its notes go with `add`
        notes = {key: value for key, value in self._notes.items() if key[0] in self.ids}
        scores = len(self._scores)
        with self.storage.engine.begin() as connection:
            rows.put_notes(connection, ((self.ids[n], key, value) for (n, key), value in notes.items()))
            rows.put_scores(connection, ((self.ids[n], epoch, score) for n, epoch, score in self._scores))
            yield connection
        for written in notes:
            del self._notes[written]
        del self._scores[:scores]
        self._written = time.monotonic()

    def close(self) -> None:
        """Write everything and let the connections go."""
        self.flush(force=True)
        self.storage.engine.dispose()


def open_storage(url: str, *, writes: bool = False) -> optuna.storages.RDBStorage:
    """The database at `url`, made if it is not there; SQLite is set up for the one that `writes`, beside many
    readers.
    """
    import sqlalchemy

    is_sqlite = url.startswith("sqlite")
    arguments: dict[str, Any] = {"connect_args": {"timeout": 60}}
    if not is_sqlite:
        # a connection that broke meanwhile is made anew; a server that is not there is given up on
        arguments = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
        url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    # Optuna's own check reads all its migrations, at every opening; it is left for the words of a refusal
    storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments, skip_compatibility_check=True)
    if "head" not in _versions:
        _versions["head"] = storage.get_head_version()
    if not storage.get_current_version() == _versions["head"] == rows.SCHEMA:
        try:
            optuna.storages.RDBStorage(url, engine_kwargs=arguments)
        except RuntimeError as error:  # its tables are of another Optuna
            raise ValueError(" ".join(str(error).split())) from error
        raise ValueError(
            f"Optuna {optuna.__version__} has tables of version {_versions['head']}, and not of "
            f"{rows.SCHEMA}, which is written here: install an Optuna that this project was tested with"
        )
    if is_sqlite and writes:
        # a log makes a commit cheap, and readers never wait for the writer; a killed process loses nothing, a
        # power cut at most the last commits. But its readers must be on this machine (sqlite.org/wal.html)
        here = not on_network(Path(str(sqlalchemy.make_url(url).database)))

        @sqlalchemy.event.listens_for(storage.engine, "connect")
        def _set_up(connection: Any, _: Any) -> None:
            connection.execute(f"PRAGMA journal_mode={'WAL' if here else 'DELETE'}")
            connection.execute(f"PRAGMA synchronous={'NORMAL' if here else 'FULL'}")

        storage.engine.dispose()  # connections made before this hook
    return storage


def on_network(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether a file is, or would be, on a disk that other machines may see; False where nothing tells."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    kinds: dict[Path, str] = {}
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        kinds[Path(place.replace("\\040", " "))] = kind  # of two at one place, the later hides the earlier
    path = path.resolve()
    kind = next((kinds[place] for place in (path, *path.parents) if place in kinds), "")
    return kind in _NETWORK or kind.startswith("fuse.")


_NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "afs", "9p", "virtiofs"),
    *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "ocfs2", "gfs2"),
)
"""File systems of networks and of clusters."""


def _make_file(url: str) -> None:
    """Make a SQLite file with Optuna's tables, whole or not at all, where there is none yet.

    Whoever opens one that is still without its tables makes them too, and the two fail by each other: a table
    of results asked for at that moment would end the search.
    """
    import sqlalchemy

    path = Path(str(sqlalchemy.make_url(url).database))
    if path.exists():
        return
    begun = path.with_name(f"{path.name}.new")
    begun.unlink(missing_ok=True)  # of a process that was killed here
    open_storage(sqlite_url(begun)).engine.dispose()
    begun.rename(path)


def remove_study(url: str, name: str) -> None:
    """Remove the study called `name`, if there is one, and those that followed it."""
    storage = open_storage(url)
    for known in optuna.get_all_study_names(storage):
        if _belongs(known, name):
            optuna.delete_study(study_name=known, storage=storage)
    storage.engine.dispose()


def _belongs(study: str, name: str) -> bool:
    """Whether a study is that of the run called `name`, or one that followed it."""
    return study == name or study.startswith(f"{name}/")


def sqlite_url(path: Path) -> str:
    """Address of a SQLite file, whatever characters its path has."""
    import sqlalchemy

    address = sqlalchemy.URL.create("sqlite", database=str(path.resolve()))
    return address.render_as_string(hide_password=False)


def load_study(path: Path) -> optuna.Study:
    """The study in a SQLite file, for reading; also while a search writes it.

    Raises ValueError where there is none.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give the folder of a run, such as results/NAME")
    return load_study_at(sqlite_url(path), place=str(path))


def load_study_at(url: str, name: str | None = None, *, place: str | None = None) -> optuna.Study:
    """The study called `name` at `url`, or the only one; an error calls it `place`.

    Raises ValueError where there is none.
    """
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = place or url
    try:
        storage = open_storage(url)
        return optuna.load_study(study_name=_search_name(storage, place, name), storage=storage)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise ValueError(f"{place} {_UNREADABLE[url.startswith('sqlite')]}: {reason(error)}") from error


_UNREADABLE = {True: "is damaged, or no study", False: "cannot be used"}


def reason(error: Exception) -> str:
    """What the database itself said, in one line, without what libraries put around it."""
    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    return " ".join(str(first).split())


def check_database(url: str, name: str, *, resume: bool) -> None:
    """Raise ValueError unless the database at `url` answers, with no study `name` yet unless one goes on."""
    import sqlalchemy

    try:
        storage = open_storage(url)
        names = optuna.get_all_study_names(storage)
        storage.engine.dispose()
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise ValueError(f"--study-storage {url} cannot be used: {reason(error)}") from error
    taken = [known for known in names if _belongs(known, name)]
    if taken and not resume:
        raise ValueError(
            f"--study-storage {url} has a study called {taken[0]!r} already: choose another --name"
        )


def _search_name(storage: optuna.storages.RDBStorage, place: str, name: str | None) -> str:
    """The name of the search's own study, whatever its folder is called by now."""
    names = optuna.get_all_study_names(storage)
    searches = [known for known in names if "/" not in known]  # the others are what followed a search
    if name is None and searches:
        return searches[0]
    if name is None or name not in names:
        raise ValueError(
            f"{place} holds no study{f' called {name!r}' if name else ''}: it ended before it began"
        )
    return name
