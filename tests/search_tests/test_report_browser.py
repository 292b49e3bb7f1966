"""The page in a real Chromium: every figure drawn, nothing on the console, nothing asked of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import headless_chromium
import pytest
from headless_chromium import Browser, browser
from made_up_run import evaluation, make_run, write_evaluation

from search.reporting.page import write_report
from search.results import Results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        headless_chromium.PROGRAM is None, reason="no Chromium: install chromium to try the page in a browser"
    ),
]
NAMES = ["<script>alert(1)</script>", "$x$ <b>bold</b>", "猫と犬", "n" * 200]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[Path], None]) -> Path:
    folder = make_run(
        tmp_path_factory.mktemp("browser") / "mine",
        new_database,
        attributes={"run": NAMES[0], "note": NAMES[1]},
        baselines={NAMES[0]: {"rate": 0.02, "width": 9, "norm": "none", "flip": True}},
    )
    write_evaluation(folder, evaluation({0: NAMES[0]}, Results(folder.path).best["trial"], NAMES))
    return write_report(Results(folder.path))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_figure_is_drawn_without_a_complaint_or_a_request(
    chromium: Browser, page: Path, width: int, dark: bool
) -> None:
    chromium.complaints.clear()
    chromium.requests.clear()
    chromium.open(page, width=width, dark=dark, touch=width < 500)
    drawn = chromium.run(
        "[...document.querySelectorAll('[data-figure]')].map(place => ["
        "place.id, place.querySelectorAll('.trace, .heatmaplayer image').length, place.clientWidth])"
    )
    assert len(drawn) == 10
    for name, traces, wide in drawn:
        assert traces > 0, name
        assert wide > 200, name
    assert chromium.run("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert chromium.complaints == []
    assert chromium.requests == [page.resolve().as_uri()]
    assert chromium.run("document.querySelectorAll('.samples img').length") == 4
    assert chromium.run("[...document.images].every(image => image.naturalWidth > 0)")


def test_colours_follow_the_scheme_while_the_page_is_open(chromium: Browser, page: Path) -> None:
    ink = "getComputedStyle(document.querySelector('#figure-survivors .ytick text')).fill"
    chromium.open(page)
    light = chromium.run(ink)
    chromium.scheme("dark")
    chromium.drawn("dark")
    assert chromium.run(ink) != light


def test_names_are_seen_as_they_are(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert chromium.run("document.querySelector('h1').innerText") == NAMES[0]
    ticks = chromium.run(
        "[...document.querySelectorAll('#figure-confusion .ytick text')].map(text => text.textContent)"
    )
    assert ticks == ["<script>alert(1)<…", "$x$ <b>bold</b>", "猫と犬", "n" * 17 + "…"]
    assert chromium.run("document.querySelectorAll('b').length") == 4, "those of the samples"


def test_a_script_that_is_none_of_the_page_would_not_run(
    chromium: Browser, page: Path, tmp_path: Path
) -> None:
    text = page.read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(text.replace("</h1>", "</h1><script>window.ran = 1</script>", 1), encoding="utf-8")
    chromium.open(spoilt)
    assert chromium.run("window.ran === undefined")
    assert any("Content Security Policy" in complaint for complaint in chromium.complaints)
