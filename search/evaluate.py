"""`python -m search.evaluate results/NAME`: what the final models are worth on the test part."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from search.command_line import fail

if TYPE_CHECKING:
    from search.results import RunFolder

PROG = "python -m search.evaluate"
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Test the final models of a run on images that no trial has seen. Each reading of the test part is
    noted in the run."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Folder of the run, such as results/NAME or s3://bucket/runs/NAME."""
    data_dir: Path | None = None
    """Where data sets are kept; None is where the run had them."""
    networks: str | None = None
    """Module with networks of your own that the run was made with, such as small_space; several have commas
    between. No other code runs because a run names it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What the models run on; auto is the GPU if there is one."""
    batch_size: int = 500
    """Images a pass, 1 to 500: fewer where memory is short."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, evaluate, show; returns the exit status."""
    options = tyro.cli(EvaluateOptions, args=argv, prog=PROG)
    try:
        _evaluate(options)
    except ValueError as error:
        return fail(error, PROG)
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _evaluate(options: EvaluateOptions) -> None:
    if not 1 <= options.batch_size <= 500:
        raise ValueError(f"--batch-size must be from 1 to 500, but is {options.batch_size}")
    from search.copies import MODELS, opened

    with opened(options.run, MODELS) as folder:
        _evaluate_in(folder, options)


def _evaluate_in(folder: RunFolder, options: EvaluateOptions) -> None:
    from search.results import Results

    results = Results(folder)
    from search.evaluation import evaluate, models_to_evaluate
    from search.evaluation_table import show
    from search.progress import DataProgress

    models_to_evaluate(results)  # a refusal comes before torch is imported
    if options.networks is not None:
        from spaces import load_networks

        load_networks(options.networks)
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 100  # a log has no width of its own
    document = evaluate(
        results,
        data_dir=options.data_dir,
        device=options.device,
        batch_size=options.batch_size,
        progress=DataProgress(console, quiet=False),
    )
    show(document, results.folder, console)


if __name__ == "__main__":
    sys.exit(main())
