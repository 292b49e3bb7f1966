"""How durations, names of runs, addresses of databases, foreign names, scores and values are written."""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import urlsplit

from trainables.config import require

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str, what: str = "a duration") -> float:
    """Seconds of `90s`, `30m`, `2h`, `1d` or `1h30m`; a bare number is seconds.

    Raises ValueError, naming `what`, for anything else, and for nothing at all.
    """
    number = r"\d+(?:\.\d+)?"
    word = text.strip().lower()
    require(
        re.fullmatch(rf"{number}|({number}[smhd])+", word) is not None,
        f"{what} must look like 90s, 30m, 2h or 1h30m, but is {text!r}",
    )
    parts = re.findall(rf"({number})([smhd]?)", word)
    seconds = sum(float(count) * _UNITS[unit or "s"] for count, unit in parts)
    require(0 < seconds < math.inf, f"{what} must be longer than nothing and end, but is {text!r}")
    return seconds


def parse_resources(text: str, what: str = "resources") -> dict[str, float]:
    """What Ray calls the resources of `8gpu`, `32cpu` or `8gpu,64cpu`, and how many.

    Raises ValueError, naming `what`, for anything else.
    """
    found = re.findall(r"(?:^|,)(\d+)(cpu|gpu)s?(?=,|$)", text.strip().lower())
    wanted = {kind.upper(): float(count) for count, kind in found}
    require(
        len(wanted) == text.count(",") + 1 and all(wanted.values()),
        f"{what} must look like 8gpu, 32cpu or 8gpu,64cpu, but is {text!r}",
    )
    return wanted


def is_host_and_port(text: str) -> bool:
    """Whether a text names a host and a port on it, such as `10.0.0.5:6379` or `[::1]:6379`."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", text)
    return match is not None and 0 < int(match[2]) < 65536


def check_run_name(name: str) -> None:
    """Raise ValueError unless `name` can be a folder of its own: no path, nothing hidden."""
    require(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is not None,
        f"--name must be letters, digits, '.', '_' and '-', beginning with a letter or digit, "
        f"but is {name!r}",
    )


def check_database_address(url: str) -> None:
    """Raise ValueError unless `url` names a PostgreSQL database, and no password with it."""
    parts = urlsplit(url)
    require(
        parts.scheme in ("postgresql", "postgres") and parts.path.strip("/") != "",
        f"--study-storage must be auto or look like postgresql://user@host/database, but is {_masked(url)!r}",
    )
    require(
        _PASSWORD.search(url) is None and "password" not in parts.query.lower(),
        "--study-storage must not hold a password, since settings and commands are written down: "
        f"give {_masked(url)!r}, and the password by PGPASSWORD or ~/.pgpass",
    )


_PASSWORD = re.compile(r"(://[^:/]*):.*@")
"""As a database's library looks for it, to which a slash ends no password."""


def _masked(url: str) -> str:
    return re.sub(r"(?i)password=[^&]*&?", "", _PASSWORD.sub(r"\1@", url)).rstrip("?&")


def printable(text: str, width: int | None = None) -> str:
    """A name from outside in one line, without what a terminal would obey or a font cannot draw.

    `width`: most characters; a longer name ends in an ellipsis.
    """
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"


def format_score(score: float | None, metric: str) -> str:
    """A score for reading: losses to four digits, the others in percent."""
    if score is None:
        return "-"
    return f"{score:.4f}" if metric == "loss" else f"{100 * score:.2f} %"


def format_value(value: Any) -> str:
    """A parameter's value for reading, four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def counted(number: int, thing: str) -> str:
    """How many of a thing: 1 trial, 2 trials."""
    return f"{number} {thing}" + ("" if number == 1 else "s")
