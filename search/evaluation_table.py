"""An evaluation as the terminal shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search.formats import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from search.results import RunFolder

WEAKEST = 10
MODELS = ("model", "of", "accuracy", "95 %", "top 3", "loss", "F1", "ECE", "images/s", "params", "MB")
CLASSES = ("class", "images", "precision", "recall", "F1")


def show(document: dict[str, Any], folder: RunFolder, console: Console) -> None:
    """The models side by side, the weakest classes of the winner, and how far all that can be trusted."""
    from rich.text import Text

    from search.evaluation import EVALUATION, PICTURE

    note = f"\n{document['note']}" if document["note"] else ""
    part = "test" if document["part"] == "test" else "VALIDATION"
    images = f"{document['images']:,} {part} images of {printable(document['dataset'])}"
    title = f"{document['run']}: {images}, accuracies in %{note}"
    console.print(_table(title, MODELS, [_model_cells(model) for model in document["models"]]))
    first = document["models"][0]
    weakest = sorted(first["per_class"], key=lambda row: row["f1"])[:WEAKEST]
    title = f"classes of {first['folder']}, the weakest first"
    console.print(_table(title, CLASSES, [_class_cells(row) for row in weakest]))
    lines = verdict(document)
    if first["confused"]:
        pairs = [f"{pair['true']} for {pair['predicted']} ({pair['images']:,})" for pair in first["confused"]]
        lines.insert(0, printable(f"most often taken: {', '.join(pairs[:5])}"))
    lines += [f"written  {folder.shown(name)}" for name in (EVALUATION, PICTURE)]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def verdict(document: dict[str, Any]) -> list[str]:
    """What was found, and how far it can be trusted."""
    part, read = document["part"], document["read"]
    lines = [f"winner: {part} accuracy {_accuracy(document['winner'])}"]
    if not document["confirmed"]:
        lines.append("unconfirmed: the model as the search left it, chosen also for the luck of its one seed")
    if part == "validation":
        lines.append(
            "VALIDATION figures: the data set has no test part, and the search chose its winner by these "
            "images, so they flatter it"
        )
    elif read["count"] == 1:
        lines.append("the test part was read for the first time")
    else:
        lines.append(
            f"the test part was read for the {_ordinal(read['count'])} time (first {read['times'][0]}): "
            "what is chosen by these figures needs a new test"
        )
    return lines


def _accuracy(winner: dict[str, Any]) -> str:
    mean = f"{100 * winner['accuracy_mean']:.2f} %"
    if winner["models"] == 1:
        return f"{mean} (one seed)"
    return (
        f"{mean} ± {100 * winner['accuracy_deviation']:.2f} (standard deviation of {winner['models']} seeds)"
    )


def _ordinal(count: int) -> str:
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{ending}"


def _model_cells(model: dict[str, Any]) -> tuple[str, ...]:
    return (
        model["folder"],
        printable(model["baseline"], 12) or f"trial {model['trial']}",
        f"{100 * model['accuracy']:.2f}",
        f"{100 * model['accuracy_low']:.1f}-{100 * model['accuracy_high']:.1f}",
        f"{100 * model['top_k']['3']:.2f}" if "3" in model["top_k"] else "-",
        _number(model["loss"]),
        _number(model["f1"]),
        _number(model["calibration_error"]),
        f"{model['images_per_second']:,.0f}",
        _count(model["parameters"]),
        f"{model['bytes'] / 1e6:.1f}",
    )


def _class_cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        printable(row["class"]),
        f"{row['images']:,}",
        *(_number(row[key]) for key in ("precision", "recall", "f1")),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # no lines between columns: eleven of them have to fit the screen
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for position, name in enumerate(columns):
        left = position == 0 or name == "of"
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
