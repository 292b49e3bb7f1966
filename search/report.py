"""`python -m search.report results/NAME`: a page about a run, during and after a search."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from search.command_line import fail

PROG = "python -m search.report"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write report.html into the folder of a run: what was found, how sure that is, and how it came about.

    One file that needs no network. Also writes confusion_matrix.png, where there is an evaluation, and
    learning_curves.png. A run that is still searching is reported as it stands.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Folder of the run, such as results/NAME or s3://bucket/runs/NAME."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, read, write; returns the exit status."""
    options = tyro.cli(ReportOptions, args=argv, prog=PROG)
    try:
        from search.copies import opened
        from search.results import Results

        with opened(options.run) as folder:
            results = Results(folder)
            from search.reporting.page import write_report  # not before there is something to report

            written = write_report(results)
        print(folder.shown(written.name))
    except ValueError as error:
        return fail(error, PROG)
    except OSError as error:
        return fail(ValueError(f"{error.filename or options.run} cannot be written: {error.strerror}"), PROG)
    return 0


if __name__ == "__main__":
    sys.exit(main())
