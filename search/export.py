"""`python -m search.export results/NAME`: the best configurations as a table, during and after a search."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

PROG = "python -m search.export"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of an export."""

    format: Literal["md", "csv", "json", "yaml", "latex", "html"] = "md"
    """What to write."""
    top: int = 10
    """How many of the best trials; baselines are always there."""
    output: Path | None = None
    """File to write; None is standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, read, render; returns the exit status."""
    import tyro

    from search.command_line import fail

    def command(run: Annotated[Path, tyro.conf.Positional], options: ExportOptions) -> int:
        """Write the best configurations of a run as a table, also while it is still searching.

        Args:
            run: Folder of the run, such as results/NAME.
            options: What to write.
        """
        from search.results import RunFolder
        from search.study import load_study
        from search.tables import render

        try:
            if options.top < 1:
                raise ValueError(f"--top must be at least 1, but is {options.top}")
            text = render(load_study(RunFolder(run).database), options.format, options.top)
            if options.output is None:
                sys.stdout.write(text)
            else:
                options.output.write_text(text, encoding="utf-8")
        except OSError as error:
            return fail(ValueError(f"{options.output} cannot be written: {error.strerror}"), PROG)
        except ValueError as error:
            return fail(error, PROG)
        return 0

    return tyro.cli(command, args=argv, prog=PROG, config=(tyro.conf.OmitArgPrefixes,))


if __name__ == "__main__":
    sys.exit(main())
