"""What a search says before it begins and when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.command_line import command_for
from search.settings import Settings
from search.tables import best_document, format_value, shown_rows

if TYPE_CHECKING:
    from rich.console import Console

    from search.preflight import Prepared
    from search.results import Results

WIDTH = 100


def announce(prepared: Prepared, console: Console) -> None:
    """What will be searched, on which data, with what."""
    data, task, settings, slots = prepared.dataset, prepared.task, prepared.settings, prepared.slots
    if data.note:
        console.print(f"Note: {data.note}", style="bold yellow", highlight=False)
    lines = [
        f"data    {data.name}: {len(data.train):,} training and {len(data.val):,} validation images, "
        f"{task.classes} classes, {task.image_size} px",
        f"search  space {prepared.space.name}, {settings.trials} trials of at most {task.max_epochs} epochs, "
        f"sampler {settings.sampler}, asha {settings.asha}",
        f"slots   {slots.count} at once, each {slots.cpus} CPU"
        + (f" and {slots.gpus:g} GPU" if slots.gpus else ""),
        f"run     {prepared.folder.path}",
    ]
    for name, reason in prepared.skipped.items():
        lines.append(f"baseline {name} is left out: {reason}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def conclude(results: Results, settings: Settings, console: Console) -> None:
    """The table of the best, the best configuration, and where everything is."""
    from rich.table import Table
    from rich.text import Text

    document = best_document(results.study, settings.top)
    rows = shown_rows(document)
    note = f"\n{document['note']}" if document["note"] else ""
    title = f"{document['run']}: space {document['space']} on {document['dataset']}{note}"
    table = Table(title=Text(title), width=WIDTH, title_justify="left")
    for name in rows[0] if rows else ("no trial",):
        table.add_column(name, justify="left" if name in ("baseline", "outcome") else "right")
    for row in rows:
        table.add_row(*(Text(value) for value in row.values()))
    console.print(table)
    if results.has_best:
        best = document["trials"][0]
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
        errors = [str(error).strip() for error in results.trials["error"] if error]
        reason = f"; the last error: {errors[-1].splitlines()[-1]}" if errors else ""
        console.print(Text(f"no trial has a score{reason}", style="bold red"))
    if results.stopped != "finished":
        console.print(f"ended early: {results.stopped}", highlight=False)
    path = results.folder.path
    command = command_for(settings)
    for text in (f"everything is in  {path}", f"repeat with       {command}"):
        console.print(text, highlight=False, soft_wrap=True, markup=False)
