"""From the command line, and a settings file that it may name, to `Settings`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import asdict, field, make_dataclass
from pathlib import Path
from typing import Any

from search.settings import GROUPS, Settings, UsageError, option_names

DESCRIPTION = """Search for the best image classifier that a budget can find.

A settings file, --config FILE.yaml, holds the same options by the same names (max_epochs: 20);
what the command line says wins."""


def parse(argv: Sequence[str], prog: str) -> Settings:
    """Settings from `argv`. Prints help or a usage error and exits as argparse does.

    Raises UsageError for a settings file that cannot be read, and ValueError for impossible values.
    """
    import tyro

    argv = list(argv)
    if (argv and argv[0] == "--config") or any(a == "--config" or a.startswith("--config=") for a in argv):
        path, argv = _take_config(argv)
        argv = _arguments_from_file(path) + argv
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
    import shlex

    words = ["uv", "run", "python", "-m", "search.run"]
    defaults = asdict(Settings())
    for name, value in asdict(settings).items():
        if value == defaults[name] and name != "space":
            continue
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [option, str(value)]
    return shlex.join(words)


def _take_config(argv: list[str]) -> tuple[Path, list[str]]:
    for position, word in enumerate(argv):
        if word.startswith("--config="):
            return Path(word.split("=", 1)[1]), argv[:position] + argv[position + 1 :]
        if word == "--config":
            if position + 1 == len(argv):
                raise UsageError("--config needs the path of a settings file, such as search.yaml")
            return Path(argv[position + 1]), argv[:position] + argv[position + 2 :]
    raise AssertionError("called without --config")


def _arguments_from_file(path: Path) -> list[str]:
    """The options of a YAML settings file, spelled as on the command line so that one parser judges both."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--config {path} is not YAML: {reason}") from error
    if document is None:
        return []
    if not isinstance(document, dict):
        raise UsageError(
            f"--config {path} must hold `name: value` lines, but holds a {type(document).__name__}"
        )
    words: list[str] = []
    for key, value in document.items():
        name = str(key).replace("-", "_")
        if name not in option_names():
            near = difflib.get_close_matches(name, option_names(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"--config {path} has an unknown option {key!r}{hint}")
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list | dict):
            raise UsageError(f"--config {path}: {key} must be one value, but is {value!r}")
        else:
            words += [option, str(value)]
    return words


def fail(error: Exception, prog: str) -> int:
    """Print what a user did wrong as one line on standard error; returns the exit status."""
    print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
