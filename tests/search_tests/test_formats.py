import pytest

from search.formats import check_run_name, parse_duration


@pytest.mark.parametrize("name", ["a", "A1", "cnn-digits_2.5", "x" * 100, "None", "1"])
def test_plain_run_names_are_taken(name):
    check_run_name(name)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("2h", 7200),
        ("90s", 90),
        ("1h30m", 5400),
        ("45", 45),
        ("1.5h", 5400),
        ("0.5", 0.5),
        ("1D", 86400),
        (" 2h ", 7200),
        ("1d2h3m4s", 93784),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
