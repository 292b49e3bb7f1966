"""The token that whoever talks to a Ray of ours must have: for its owner's eyes only."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def keep_token_private() -> None:
    """Make `~/.ray/auth_token`, where there is none, before Ray does: Ray's can be read by every user of the
    machine, and who has it can run programs as its owner. One that is there is closed to others.

    Where that cannot be done Ray itself says what is in the way, or uses what is there.
    """
    with suppress(OSError, RuntimeError):  # RuntimeError: a user without a home
        path = Path.home() / ".ray" / "auth_token"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write_new(path, secrets.token_hex(32))
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)


def _write_new(path: Path, text: str) -> None:
    """Whole or not at all, for nobody else to read; what another process has written meanwhile stays."""
    file, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(file, "w") as opened:
            opened.write(text)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            Path(temporary).rename(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
