"""`python -m search.export results/NAME`: the best configurations as a table, during and after a search."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from search.command_line import fail

PROG = "python -m search.export"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write the best configurations of a run as a table, also while it is still searching."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Folder of the run, such as results/NAME or s3://bucket/runs/NAME."""
    format: Literal["md", "csv", "json", "yaml", "latex", "html"] = "md"
    """What to write."""
    top: int = 10
    """How many of the best trials; baselines are always there."""
    output: Path | None = None
    """File to write; None is standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, read, render; returns the exit status."""
    options = tyro.cli(ExportOptions, args=argv, prog=PROG)
    try:
        text = _render(options)
    except ValueError as error:
        return fail(error, PROG)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        return fail(ValueError(f"--output {options.output} cannot be written: {error.strerror}"), PROG)
    return 0


def _render(options: ExportOptions) -> str:
    if options.top < 1:
        raise ValueError(f"--top must be at least 1, but is {options.top}")
    from search.copies import opened
    from search.results import Results
    from search.table_formats import render

    with opened(options.run) as folder:
        return render(Results(folder).document(options.top), options.format)


if __name__ == "__main__":
    sys.exit(main())
