"""From the command line, and a settings file that it may name, to `Settings`."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any

from search.formats import printable
from search.settings import GROUPS, OF_A_SITTING, Settings, UsageError, defaults, option

DESCRIPTION = """Search for the best image classifier that a budget can find.

--config FILE.yaml reads the same options from a file, by the same names (max_epochs: 20);
what the command line says wins.
--resume results/NAME, or --resume s3://bucket/runs/NAME, goes on with an earlier search: nothing
else has to be given, and only budgets (--trials 200), resources and output may be changed."""

PATHS = {"--config": "a settings file, such as search.yaml", "--resume": "a run, such as results/NAME"}
"""Options that stand for others, and so belong to no group."""


def parse(argv: Sequence[str], prog: str) -> Settings:
    """Settings from `argv`. Prints help or a usage error and exits as argparse does.

    Raises UsageError for a settings file that cannot be read, and ValueError for impossible values.
    """
    import tyro

    path, argv = take_path(list(argv), "--config")
    if path is not None:
        argv = arguments_from_file(Path(path)) + argv  # of an option given twice the last counts
    groups = make_dataclass(
        "Options",
        [
            (group.__name__.removesuffix("Settings").lower(), group, field(default_factory=group))
            for group in GROUPS
        ],
        frozen=True,
    )
    options: Any = tyro.cli(
        groups,
        args=argv,
        prog=prog,
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    values: dict[str, Any] = {}
    for group in vars(options).values():
        values.update(vars(group))
    return Settings(**values)


def command_for(settings: Settings) -> str:
    """The command that asks for `settings`, without options that stand at their default."""
    words = _program(settings.address)
    for name, default in defaults().items():
        value = getattr(settings, name)
        if value != default or name == "space":
            words.append(_word(name, value))
    return shlex.join(words)


def resume_command(folder: Path | str, settings: Settings | None = None) -> str:
    """The command that goes on with the run in `folder`, or at that address: where `settings` have the search
    take place, or on this machine.
    """
    where = settings or Settings()
    words = [_word(n, getattr(where, n)) for n in OF_A_SITTING if getattr(where, n) != defaults()[n]]
    return shlex.join([*_program(where.address), "--resume", str(folder), *words])


def _program(address: str) -> list[str]:
    """On a cluster's nodes the environment is active, and uv may not be at hand."""
    return [*(("uv", "run") if address == "local" else ()), "python", "-m", "search.run"]


def arguments_for(settings: Settings) -> list[str]:
    """The words that ask for `settings`, every option among them."""
    words = {name: getattr(settings, name) for name in defaults()}
    return [_word(name, value) for name, value in words.items()]


def _word(name: str, value: Any) -> str:
    """A setting as one word of a command line, also where its value begins with a dash."""
    if isinstance(value, bool):
        return option(name) if value else option(f"no_{name}")
    return f"{option(name)}={value}"


def take_path(argv: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """The path or address that `argv` gives for the option `name`, if any, and `argv` without it.

    Raises UsageError where the path is missing or given twice.
    """
    path, rest = None, []
    words = iter(argv)
    for word in words:
        if word != name and not word.startswith(f"{name}="):
            rest.append(word)
            continue
        value = next(words, "") if word == name else word.partition("=")[2]
        if not value:
            raise UsageError(f"{name} needs a path: {PATHS[name]}")
        if path is not None:
            raise UsageError(f"{name} can be given once, but names {path} and {value}")
        path = value
    return path, rest


def arguments_from_file(path: Path) -> list[str]:
    """The options of a YAML settings file, spelled as on the command line so that one parser judges both."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that is none
        reason = " ".join(str(error).split())
        raise UsageError(f"--config {path} is not YAML: {reason}") from error
    if document is None:
        return []
    if not isinstance(document, dict):
        raise UsageError(
            f"--config {path} must hold `name: value` lines, but holds a {type(document).__name__}"
        )
    words: dict[str, str] = {}
    for key, value in document.items():
        name = str(key).replace("-", "_")
        if name not in defaults():
            near = difflib.get_close_matches(name, defaults(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"--config {path} has an unknown option {key!r}{hint}")
        if name in words:
            raise UsageError(f"--config {path} has {name} twice")
        if value is None:
            continue  # nothing after the colon: as if it were not there
        if isinstance(value, list | dict):
            raise UsageError(f"--config {path}: {key} must be one value, but is {value!r}")
        if isinstance(value, bool) != isinstance(defaults()[name], bool):
            kind = "a value" if isinstance(value, bool) else "true or false"
            raise UsageError(f"--config {path}: {key} must be {kind}, but is {value!r}")
        words[name] = _word(name, value)
    return list(words.values())


def fail(error: Exception, prog: str) -> int:
    """Print what a user did wrong as one line on standard error; returns the exit status."""
    print(f"{prog}: {printable(' '.join(str(error).split()))}", file=sys.stderr)
    return 2
