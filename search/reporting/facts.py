"""A value on the page: what it is, where it comes from, and how it reads.

A source names a place in the record: `trial:17:score`, `search:dataset`, `confirm:17:mean`,
`settings:/task/classes`, `evaluation:/models/0/accuracy`, `time:training`. The page carries it beside each
value, so that any of them can be looked up.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from search.formats import format_score, format_value

NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Fact:
    """A value that the page shows; a template writes it with its source, everything escaped."""

    source: str
    value: Any
    """As the record has it, a JSON type; None where there is none."""
    text: str

    def __str__(self) -> str:
        return self.text

    def __html__(self) -> str:
        value = None if isinstance(self.value, float) and not math.isfinite(self.value) else self.value
        return str(
            Markup('<span data-source="{}" data-value="{}">{}</span>').format(
                self.source, json.dumps(value), self.text
            )
        )


def is_number(value: Any) -> bool:
    """Whether a value is a number and finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count(source: str, value: Any) -> Fact:
    """A whole number: 12,345."""
    return Fact(source, value, f"{value:,}" if is_number(value) else NOTHING)


def score(source: str, value: Any, metric: str) -> Fact:
    """A score in the metric of the search."""
    return Fact(source, value, format_score(value, metric) if is_number(value) else NOTHING)


def percent(source: str, value: Any) -> Fact:
    """A share: 91.25 %."""
    return score(source, value, "accuracy")


def difference(source: str, value: Any, metric: str) -> Fact:
    """A deviation of a score, or how far two of them lie apart; shares in points of a percent."""
    if not is_number(value):
        return Fact(source, value, NOTHING)
    return Fact(source, value, f"{value:.4f}" if metric == "loss" else f"{100 * value:.2f}")


def number(source: str, value: Any, digits: int = 4) -> Fact:
    """A number with so many digits after the point."""
    return Fact(source, value, f"{value:,.{digits}f}" if is_number(value) else NOTHING)


def text(source: str, value: Any) -> Fact:
    """A name or a sentence from the record, or the value of a parameter."""
    return Fact(source, value, NOTHING if value in (None, "") else format_value(value))


def duration(source: str, seconds: Any) -> Fact:
    """A time: 42 s, 3 min 20 s, 2 h 5 min."""
    return Fact(source, seconds, format_duration(seconds) if is_number(seconds) else NOTHING)


def moment(source: str, iso: Any) -> Fact:
    """A date and time, to the minute."""
    return Fact(source, iso, str(iso)[:16].replace("T", " ") if iso else NOTHING)


def size(source: str, value: Any) -> Fact:
    """Bytes as megabytes: 3.21 MB."""
    return Fact(source, value, f"{value / 1e6:,.2f} MB" if is_number(value) else NOTHING)


def format_duration(seconds: float) -> str:
    """Seconds for reading, in one or two units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"


def pointer(*keys: str | int) -> str:
    """A place in a JSON document as RFC 6901 writes it: /models/0/accuracy."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)
