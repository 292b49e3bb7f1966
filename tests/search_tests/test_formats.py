import pytest

from search.formats import (
    check_run_name,
    format_score,
    format_value,
    is_host_and_port,
    parse_duration,
    parse_resources,
    printable,
)


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


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("größer 猫", None, "größer 猫"),
        ("a\x1b[31m\nb\udcff", None, "a�[31m�b�"),
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
    ],
)
def test_foreign_name_is_one_line_that_no_terminal_obeys(name, width, expected):
    assert printable(name, width) == expected


@pytest.mark.parametrize(
    ("score", "metric", "text"),
    [
        (0.81236, "accuracy", "81.24 %"),
        (0.5, "macro_f1", "50.00 %"),
        (1.23456, "loss", "1.2346"),
        (None, "loss", "-"),
    ],
)
def test_scores_for_reading(score, metric, text):
    assert format_score(score, metric) == text


def test_values_for_reading():
    values = (0.00012345678, 1.0, 3, True, None, "batch")
    assert [format_value(value) for value in values] == ["0.0001235", "1", "3", "True", "None", "batch"]


def test_resources():
    assert parse_resources("8gpu") == {"GPU": 8.0}
    assert parse_resources("32cpu") == {"CPU": 32.0}
    assert parse_resources("8GPUs,64cpu") == {"GPU": 8.0, "CPU": 64.0}


@pytest.mark.parametrize("text", ["", "gpu", "8", "8tpu", "8gpu,", "0gpu", "8gpu 4cpu", "8gpu,8gpu", "-1gpu"])
def test_what_names_no_resources_is_refused(text):
    with pytest.raises(ValueError, match="must look like 8gpu"):
        parse_resources(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("10.0.0.5:6379", True),
        ("head.local:6379", True),
        ("[::1]:6379", True),
        ("head", False),
        ("head:0", False),
        ("head:99999", False),
        ("ray://head:10001", False),
        (":6379", False),
    ],
)
def test_host_and_port(text, answer):
    assert is_host_and_port(text) == answer
