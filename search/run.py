"""`python -m search.run`: a whole search, from the command line or from Python.

from search.run import run
from search.settings import Settings

results = run(Settings(space="cnn", dataset="digits", trials=4))
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.command_line import arguments_for, arguments_from_file, fail, parse, take_path
from search.settings import Settings
from trainables.storage import StorageError

if TYPE_CHECKING:
    from rich.console import Console

    from search.cluster import Cluster
    from search.preflight import Request
    from search.results import Results, RunFolder

PROG = "python -m search.run"
INTERRUPTED = 130


def run(settings: Settings, *, console: Console | None = None) -> Results:
    """Search as `settings` say and return what was found; everything is in the run folder too.

    Shows progress on `console`, standard output by default. Ctrl-C ends the search and returns what
    there is. Raises ValueError (UsageError, DataError, SpaceError) for what a user can put right, and
    StorageError where the run folder's disk is full or failing; the search can then be resumed.
    """
    return _search(settings, console or default_console(), resume=False)


def resume(folder: RunFolder | Path | str, *, console: Console | None = None, **changes: Any) -> Results:
    """Go on with the search in `folder`, as `run` does; `changes` are settings that a resume may change.

    `folder` may be an address, s3://bucket/runs/NAME: nothing of the machine that began is needed.

    Raises UsageError where something else is to be changed, where the data set, the space or the training
    code is not what it was, and where another driver is at work.
    """
    from search.copies import to_resume
    from search.resume import check_changes, saved_settings

    saved = saved_settings(to_resume(folder))
    settings = replace(saved, **changes)
    check_changes(saved, settings)
    return _search(settings, console or default_console(), resume=True)


def default_console() -> Console:
    """Standard output."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 100  # a log has no width of its own; the tables are made for this one
    return console


def _search(settings: Settings, console: Console, *, resume: bool) -> Results:
    from search.conclude import announce, conclude
    from search.preflight import check_request, prepare
    from search.progress import DataProgress
    from search.resume import check_unchanged

    request = check_request(settings, resume=resume)
    with _ray_for(request, console) as (request, ray_is_up, cluster):
        prepared = prepare(request, DataProgress(console, quiet=settings.quiet))
        if resume:
            prepared = check_unchanged(prepared)
        if not settings.quiet:
            announce(prepared, console, cluster)
        from search.launch import search  # torch and more: not before everything else has been checked

        dashboard = ray_is_up()
        if dashboard and not settings.quiet:
            console.print(dashboard_line(dashboard), highlight=False, soft_wrap=True)
        results = search(prepared, console, resume=resume, cluster=cluster)
    conclude(results, settings, console)
    _write_report(results, console)
    return results


def dashboard_line(address: str) -> str:
    """Where Ray's dashboard is, and how to get in."""
    asks = os.environ.get("RAY_AUTH_MODE") == "token"  # Ray sets it where it starts one of our own
    token = "; it asks for the token that `uv run ray get-auth-token` prints" if asks else ""
    return f"look    http://{address} has Ray's dashboard{token}"


@contextmanager
def _ray_for(
    request: Request, console: Console
) -> Iterator[tuple[Request, Callable[[], str], Cluster | None]]:
    """A Ray for the search: the request with its slots, what waits until Ray is there, and the cluster."""
    settings = request.settings
    if request.slots is not None:
        from search.early_ray import early_ray

        with early_ray(request.slots, dashboard=settings.dashboard) as ray_is_up:
            yield request, ray_is_up, None
        return
    from search.joining import joined
    from search.preflight import with_slots

    def say(text: str) -> None:
        if not settings.quiet:
            console.print(text, highlight=False, markup=False, soft_wrap=True)

    with joined(settings, say) as cluster:
        yield with_slots(request, cluster.slots), lambda: "", cluster


def _write_report(results: Results, console: Console) -> None:
    """Write report.html, or say why it cannot be: nothing of the search is lost by that."""
    from search.mirror import put_back
    from search.reporting.page import write_report

    try:
        with put_back(results.folder):
            path = write_report(results)
        said = f"the report is in  {results.folder.shown(path.name)}"
    except (OSError, ValueError) as error:
        said = f"no report: {error}"
    console.print(said, highlight=False, soft_wrap=True, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, search, report; returns the exit status.

    0; 1 where nothing was found or the disk was full; 2 for wrong usage; 130 after Ctrl-C.
    """
    try:
        folder, words = take_path(sys.argv[1:] if argv is None else argv, "--resume")
        if folder is None:
            results = run(parse(words, PROG))
        else:
            from search.copies import to_resume

            there = to_resume(folder)
            results = resume(there, **_changes(there, words))
    except ValueError as error:
        return fail(error, PROG)
    except StorageError as error:
        fail(error, PROG)
        return 1
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted before the search began", file=sys.stderr)
        return INTERRUPTED
    if results.stopped == "interrupted":
        return INTERRUPTED
    return 0 if results.has_best else 1


def _changes(folder: RunFolder, words: list[str]) -> dict[str, Any]:
    """What the command line asks for besides `--resume`, over the settings of the run in `folder`."""
    from search.resume import saved_settings

    saved = saved_settings(folder)
    file, words = take_path(words, "--config")
    from_file = [] if file is None else arguments_from_file(Path(file))
    asked = parse([*arguments_for(saved), *from_file, *words], PROG)
    return {
        field.name: getattr(asked, field.name)
        for field in fields(Settings)
        if getattr(asked, field.name) != getattr(saved, field.name)
    }


if __name__ == "__main__":
    sys.exit(main())
