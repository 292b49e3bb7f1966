"""What a search says before it begins and when it is done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from search.best_document import CONFIRMED, SHOWN, best_row, confirmed_rows, shown_rows, verdict
from search.command_line import resume_command
from search.formats import counted, format_value
from search.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from search.cluster import Cluster
    from search.preflight import Prepared
    from search.results import Results

WIDTH = 100


def announce(prepared: Prepared, console: Console, cluster: Cluster | None = None) -> None:
    """What will be searched, on which data, with what."""
    from rich.text import Text

    data, task, settings, slots = prepared.dataset, prepared.task, prepared.settings, prepared.slots
    if data.note:
        console.print(Text(f"Note: {data.note}", style="bold yellow"), soft_wrap=True)
    trials, enough = (
        ("trials", ", as many as the budget allows")
        if settings.trials == "auto"
        else (counted(settings.trials, "trial"), "")
    )
    lines = [
        f"data    {data.name}: {len(data.train):,} training and {len(data.val):,} validation images, "
        f"{task.classes} classes, {task.image_size} px",
        f"search  space {prepared.space.name}, {trials} of at most {counted(task.max_epochs, 'epoch')}"
        f"{enough}, sampler {settings.sampler}, asha {settings.asha}",
        ("slots   " + (f"{slots.count} at once" if cluster is None else f"on {cluster.described()}"))
        + f", each {slots.cpus} CPU"
        + (f" and {slots.gpus:g} GPU" if slots.gpus else ""),
        f"run     {prepared.folder.location}",
    ]
    if prepared.space.architectures:
        lines.append(f"weights {prepared.weights.note or 'none: pretrained networks begin from scratch'}")
    if prepared.transfer.note:
        lines.append(f"start   {prepared.transfer.note}")
    if isinstance(settings.max_macs, int):
        lines.append(f"limit   {settings.max_macs:,} multiply-adds an image (--max-macs)")
    if settings.confirm:
        budgeted = settings.budget_seconds() is not None or settings.gpu_hours is not None
        kept = "; up to half of the budget is kept for that, two thirds if need be" if budgeted else ""
        top, seeds = settings.confirm_top, counted(settings.confirm_seeds, "new seed")
        best, then = ("best is", "and") if top == 1 else (f"best {top} are", "the winner of them")
        lines.append(
            f"finish  the {best} trained again with {seeds}, {then} on all images{kept} (--no-confirm)"
        )
    for name, reason in prepared.skipped.items():
        lines.append(f"baseline {name} is left out: {reason}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def conclude(results: Results, settings: Settings, console: Console) -> None:
    """The table of the best, the best configuration, and where everything is."""
    from rich.table import Table
    from rich.text import Text

    document = results.document(settings.top)
    note = f"\n{document['note']}" if document["note"] else ""
    title = f"{document['run']}: space {document['space']} on {document['dataset']}{note}"
    table = Table(title=Text(title), width=WIDTH, title_justify="left")
    for name in SHOWN:
        table.add_column(name, justify="left" if name in ("baseline", "outcome") else "right")
    for row in shown_rows(document):
        table.add_row(*(Text(value) for value in row.values()))
    console.print(table)
    best = best_row(document)
    if best is not None:
        _show_confirmed(document, console)
        config = Table(title=Text(f"best configuration: trial {best['trial']}"), title_justify="left")
        for _ in range(2):
            config.add_column("parameter")
            config.add_column("value", justify="right")
        cells = [(name, format_value(value)) for name, value in best["config"].items()]
        half = (len(cells) + 1) // 2
        for left, right in zip(cells[:half], [*cells[half:], ("", "")][:half], strict=True):
            config.add_row(*(Text(cell) for cell in (*left, *right)))
        console.print(config)
    else:
        lines = [line for error in results.trials["error"] for line in str(error).strip().splitlines()]
        reason = f"; the last error: {lines[-1]}" if lines else ""
        console.print(Text(f"no trial has a score{reason}", style="bold red"))
    if results.stopped != "finished":
        console.print(f"ended early: {results.stopped}", highlight=False)
    path = results.folder.location
    if results.stopped != "finished":
        console.print(
            f"go on with        {resume_command(path, settings)}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    command = json.loads(results.folder.settings.read_text(encoding="utf-8"))["command"]
    for text in (f"everything is in  {path}", f"repeat with       {command}"):
        console.print(text, highlight=False, soft_wrap=True, markup=False)


def _show_confirmed(document: dict[str, Any], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    if document["confirmed"] or document["not_confirmed"]:
        table = Table(title="confirmed with new seeds", title_justify="left")
        for name in CONFIRMED:
            table.add_column(name, justify="left" if name in ("baseline", "seeds") else "right")
        for row in confirmed_rows(document):
            table.add_row(*(Text(value) for value in row.values()))
        console.print(table)
    console.print(verdict(document), highlight=False, soft_wrap=True, markup=False)
