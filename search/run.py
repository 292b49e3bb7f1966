"""`python -m search.run`: a whole search, from the command line or from Python.

from search.run import run
from search.settings import Settings

results = run(Settings(space="cnn", dataset="digits", trials=4))
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.command_line import fail, parse
from search.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from search.results import Results

PROG = "python -m search.run"
INTERRUPTED = 130


def run(settings: Settings, *, console: Console | None = None) -> Results:
    """Search as `settings` say and return what was found; everything is in the run folder too.

    Shows progress on `console`, standard output by default. Ctrl-C ends the search and returns what
    there is. Raises ValueError (UsageError, DataError, SpaceError) for what a user can put right.
    """
    from rich.console import Console

    if console is None:
        console = Console()
        if not console.is_terminal:
            console.width = 100  # a log has no width of its own; the tables are made for this one
    from search.conclude import announce, conclude
    from search.launch import search
    from search.preflight import prepare
    from search.progress import DataProgress

    prepared = prepare(settings, DataProgress(console, quiet=settings.quiet))
    if not settings.quiet:
        announce(prepared, console)
    results = search(prepared, console)
    conclude(results, settings, console)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, search, report; returns the exit status: 0, 2 for wrong usage, 130 after Ctrl-C."""
    try:
        settings = parse(sys.argv[1:] if argv is None else argv, PROG)
        results = run(settings)
    except ValueError as error:
        return fail(error, PROG)
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted before the search began", file=sys.stderr)
        return INTERRUPTED
    if results.stopped == "interrupted":
        return INTERRUPTED
    return 0 if results.has_best else 1


if __name__ == "__main__":
    sys.exit(main())
