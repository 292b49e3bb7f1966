from pathlib import Path

import pytest

from search.image_files import find_images


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "cat/1.png", "cat/deep/2.png", ".hidden.png", ".cache/x.png", "Thumbs.db"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return Path("photos")


def found(*words: str) -> tuple[list[str], list[str]]:
    """Paths, and complaints."""
    complaints: list[str] = []
    paths = [path.as_posix() for path in find_images(words, complaints.append)]
    return paths, complaints


def test_folder_is_all_files_below_by_name(photos):
    expected = ["photos/a.png", "photos/b.png", "photos/cat/1.png", "photos/cat/deep/2.png"]
    assert found("photos") == (expected, [])


def test_files_come_in_the_order_given(photos):
    assert found("photos/b.png", "photos/a.png") == (["photos/b.png", "photos/a.png"], [])


def test_file_that_is_not_there_is_handed_on_for_its_reader_to_name(photos):
    assert found("none.png") == (["none.png"], [])
    assert found("x" * 5000) == (["x" * 5000], [])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.png", ["photos/a.png", "photos/b.png"]),
        ("photos/c*", ["photos/cat/1.png", "photos/cat/deep/2.png"]),
        ("photos/**/*.png", ["photos/a.png", "photos/b.png", "photos/cat/1.png", "photos/cat/deep/2.png"]),
        (
            "photos/**",
            ["photos/Thumbs.db", "photos/a.png", "photos/b.png", "photos/cat/1.png", "photos/cat/deep/2.png"],
        ),
    ],
)
def test_pattern_that_no_shell_expanded(photos, pattern, expected):
    assert found(pattern) == (expected, [])


def test_file_that_looks_like_a_pattern_is_itself(photos):
    (photos / "[a].png").touch()
    assert found("photos/[a].png") == (["photos/[a].png"], [])


def test_pattern_and_folder_of_nothing_are_complained_of(photos):
    (photos / "empty").mkdir()
    paths, complaints = found("photos/*.gif", "photos/empty", "photos/a.png")
    assert paths == ["photos/a.png"]
    assert complaints == ["photos/*.gif: nothing matches", "photos/empty: the folder holds no images"]


def test_links_that_lead_in_circles_end(photos):
    (photos / "cat" / "up").symlink_to("..", target_is_directory=True)
    assert len(found("photos")[0]) == 4
