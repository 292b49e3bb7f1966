"""What a node of a cluster has to have in common with the driver's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search import node_check
from search.node_fit import misfit, shared_word

OWN = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.15.0", "code": "abc", "storage": None}


def test_a_node_like_this_one_fits() -> None:
    assert misfit("other", "/shared", OWN, dict(OWN)) is None


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"ray": "2.59.0"}, "Ray is 2.59.0 there and 2.60.0 here"),
        ({"python": "3.12.1"}, "Python is 3.12.1 there and 3.11.7 here"),
        ({"code": "none (ModuleNotFoundError())"}, "the project's code is none"),
        ({"storage": "No such file or directory"}, "--storage /shared is not what node other sees: No such"),
    ],
)
def test_what_differs_is_named(changed: dict[str, Any], named: str) -> None:
    told = misfit("other", "/shared", OWN, {**OWN, **changed})
    assert told is not None
    assert named in told


def test_a_folder_is_shared_where_the_drivers_word_is_found(tmp_path: Path) -> None:
    with shared_word(tmp_path) as word:
        assert node_check.look(str(tmp_path), word)["storage"] is None
        for folder, asked in ((tmp_path, "another"), (tmp_path / "none", word)):
            assert node_check.look(str(folder), asked)["storage"] == "it is another folder there, or none"
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_searches_that_share_a_folder_have_words_of_their_own(tmp_path: Path) -> None:
    with shared_word(tmp_path) as word:
        with shared_word(tmp_path) as other:
            assert node_check.look(str(tmp_path), other)["storage"] is None
        assert node_check.look(str(tmp_path), word)["storage"] is None


def test_the_code_of_the_project_is_told(tmp_path: Path) -> None:
    found = node_check.look(str(tmp_path), "")
    assert len(found["code"]) == 16
    assert found["torch"].startswith("2.")
