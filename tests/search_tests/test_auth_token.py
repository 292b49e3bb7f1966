"""The file with Ray's token, which lets whoever reads it run programs as its owner."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from search.auth_token import keep_token_private


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the token is, or will be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray" / "auth_token"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_for_its_owner_alone(token: Path) -> None:
    before = os.umask(0)
    try:
        keep_token_private()
    finally:
        os.umask(before)
    assert mode(token) == 0o600
    first = token.read_text()
    assert len(bytes.fromhex(first)) == 32
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]
    keep_token_private()
    assert token.read_text() == first, "other Rays of this user have it"


def test_a_token_that_others_could_read_is_closed_to_them(token: Path) -> None:
    token.parent.mkdir()
    token.write_text("0123")
    token.chmod(0o644)
    keep_token_private()
    assert (mode(token), token.read_text()) == (0o600, "0123")


def test_a_file_system_without_links_has_a_private_token_too(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: str, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    keep_token_private()
    assert (mode(token), len(token.read_text())) == (0o600, 64)
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_a_home_that_cannot_be_written_is_left_to_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    keep_token_private()


def test_a_user_without_a_home_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    keep_token_private()
