import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.command_line import command_for, fail, parse, resume_command
from search.settings import GROUPS, Settings, UsageError, defaults


def parsed(*words: str) -> Settings:
    return parse(words, "prog")


def helped(capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        parsed("--help")
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_without_options_everything_is_at_its_default():
    assert parsed() == Settings()


def test_help_shows_every_setting_in_its_group_with_its_default(capsys):
    words = " ".join(word for word in helped(capsys).split() if word not in "│|")  # no sides of boxes
    assert "--config FILE.yaml" in words
    names = [group.__name__.removesuffix("Settings").lower() for group in GROUPS]
    starts = [words.index(f" {name} options ") for name in names]
    assert starts == sorted(starts)
    for group, start, end in zip(GROUPS, starts, [*starts[1:], None], strict=True):
        box = words[start:end]
        for field in dataclasses.fields(group):
            text = re.split(rf"--{field.name.replace('_', '-')}[ ,]", box)[1]
            assert text[text.index("(default: ") :].startswith(f"(default: {field.default})"), field.name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--trials", "3"], {"trials": 3}),
        (["--trials=auto"], {"trials": "auto"}),
        (["--gpus-per-trial", "0.5"], {"gpus_per_trial": 0.5}),
        (["--max_epochs", "4"], {"max_epochs": 4}),
        (["--quiet"], {"quiet": True}),
        (["--no-quiet"], {"quiet": False}),
        (["--trials", "3", "--trials", "5"], {"trials": 5}),
        (["--data-dir", "a/b"], {"data_dir": Path("a/b")}),
        (["--max-params", "None"], {"max_params": None}),
    ],
)
def test_options_become_settings(words, expected):
    assert parsed(*words) == Settings(**expected)


@pytest.mark.parametrize(
    "words",
    [
        ["--trails", "3"],
        ["--trials", "many"],
        ["--trials"],
        ["--quiet", "yes"],
        ["stray"],
        ["--metric", "f1"],
    ],
)
def test_what_cannot_be_parsed_ends_with_status_2_and_is_named(words, capsys):
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    assert caught.value.code == 2
    assert words[-1] in capsys.readouterr().err


def test_unknown_option_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit):
        parsed("--trails", "3")
    assert "--trials" in capsys.readouterr().err


def test_impossible_value_is_a_value_error():
    with pytest.raises(ValueError, match=r"--trials .* is 0"):
        parsed("--trials", "0")


def test_settings_file_takes_names_with_dash_or_underscore(write):
    write("s.yaml", "max-epochs: 4\nmin_epochs: 2\nquiet: true\nstorage: runs\ntime_budget: 1h\n")
    expected = Settings(max_epochs=4, min_epochs=2, quiet=True, storage=Path("runs"), time_budget="1h")
    assert parsed("--config", "s.yaml") == expected
    assert parsed("--config=s.yaml") == expected


def test_command_line_wins_over_the_settings_file_in_any_order(write):
    write("s.yaml", "trials: 4\nquiet: true\nbaselines: false")
    expected = Settings(trials=5, quiet=False, baselines=True, seed=3)
    options = ["--trials", "5", "--no-quiet", "--baselines", "--seed", "3"]
    assert parsed(*options, "--config", "s.yaml") == expected
    assert parsed("--config", "s.yaml", *options) == expected


def test_file_without_content_changes_nothing(write):
    write("empty.yaml", "# nothing yet\n")
    assert parsed("--config", "empty.yaml") == Settings()


def test_name_without_a_value_stays_at_its_default(write):
    write("s.yaml", "name:\ntrials: null\ndataset: ~\nmax_params:\n")
    assert parsed("--config", "s.yaml") == Settings()


def test_value_that_begins_with_a_dash_is_a_value(write):
    write("s.yaml", "dataset: -odd\nstorage: --odder\n")
    assert parsed("--config", "s.yaml") == Settings(dataset="-odd", storage=Path("--odder"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_epoch: 3", r"s\.yaml has an unknown option 'max_epoch'; did you mean max_epochs\?"),
        ("zzz: 3", r"unknown option 'zzz'$"),
        ("3: 3", r"unknown option 3$"),
        ("- trials", r"must hold `name: value` lines, but holds a list"),
        ("trials", r"must hold `name: value` lines, but holds a str"),
        ("trials: [1, 2]", r"trials must be one value, but is \[1, 2\]"),
        ("trials: {a: 1}", r"trials must be one value, but is \{'a': 1\}"),
        ("trials: yes", r"trials must be a value, but is True"),
        ("name: no", r"name must be a value, but is False"),
        ("quiet: 'yes'", r"quiet must be true or false, but is 'yes'"),
        ("quiet: 1", r"quiet must be true or false, but is 1"),
        ("max-epochs: 3\nmax_epochs: 4", r"has max_epochs twice"),
        ("trials: [", r"s\.yaml is not YAML: "),
        ("a: b: c", r"s\.yaml is not YAML: "),
        ("name: 2024-13-45", r"s\.yaml is not YAML: "),
        ("? [a]\n: b", r"s\.yaml is not YAML: "),
    ],
)
def test_wrong_settings_file_is_refused_in_one_line(write, text, message):
    write("s.yaml", text)
    with pytest.raises(UsageError, match=message) as caught:
        parsed("--config", "s.yaml")
    assert "\n" not in str(caught.value)


def test_wrong_type_in_the_settings_file_is_named(write, capsys):
    write("s.yaml", "trials: many")
    with pytest.raises(SystemExit) as caught:
        parsed("--config", "s.yaml")
    assert caught.value.code == 2
    assert "--trials" in (shown := capsys.readouterr().err)
    assert "many" in shown


def test_settings_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"--config .*none\.yaml cannot be read: No such file"):
        parsed("--config", str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        parsed("--config", str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.yaml is not YAML"):
        parsed("--config", str(tmp_path / "binary.yaml"))


def test_config_without_or_with_two_files_is_refused(write):
    write("s.yaml", "trials: 4")
    for words in (["--config"], ["--config="], ["--trials", "3", "--config"]):
        with pytest.raises(UsageError, match="--config needs a path"):
            parsed(*words)
    with pytest.raises(UsageError, match=r"--config can be given once, but names s\.yaml and t\.yaml"):
        parsed("--config", "s.yaml", "--config=t.yaml")


WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs", "S")), min_size=1, max_size=12)
# ~ becomes the home folder; "None" is no folder but the absence of one
PATHS = WORDS.map(Path).filter(lambda path: str(path)[0] != "~" and str(path) != "None")
ADDRESSES = st.sampled_from(["s3://bucket", "s3://bucket/runs/of mine", "gs://bucket/runs"])
MANY = {
    "dataset": WORDS,
    "data_dir": st.none() | PATHS,
    "image_size": st.just("auto") | st.integers(4, 512),
    "val_fraction": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "weights": WORDS,
    "space": WORDS,
    "trials": st.just("auto") | st.integers(1, 10**6),
    "time_budget": st.sampled_from(["none", "90s", "1h30m", "45", "1.5h"]),
    "max_epochs": st.just("auto") | st.integers(9, 300),
    "min_epochs": st.integers(1, 9),
    "reduction_factor": st.integers(2, 9),
    "asha": st.sampled_from(["promote", "stop", "none"]),
    "sampler": WORDS,
    "start_from": st.none() | PATHS | ADDRESSES,
    "total_epochs": st.none() | st.integers(1, 10**6),
    "gpu_hours": st.none() | st.floats(0, 1e6, exclude_min=True),
    "study_storage": st.sampled_from(["auto", "postgresql://me@host:5433/studies", "postgres:///studies"]),
    "metric": st.sampled_from(["accuracy", "macro_f1", "loss"]),
    "max_macs": st.none() | st.just("auto") | st.integers(1, 10**12),
    "max_params": st.none() | st.integers(1, 10**9),
    "baselines": st.booleans(),
    "confirm": st.booleans(),
    "confirm_top": st.integers(1, 100),
    "confirm_seeds": st.integers(1, 100),
    "seed": st.integers(0, 2**40),
    "address": st.sampled_from(["local", "auto", "10.0.0.5:6379", "[::1]:6379"]),
    "wait_for": st.sampled_from(["none", "8gpu", "8gpu,64cpu"]),
    "wait_timeout": st.sampled_from(["10m", "30s"]),
    "head_trains": st.booleans(),
    "cpus_per_trial": st.just("auto") | st.integers(1, 64),
    "gpus_per_trial": st.just("auto") | st.integers(0, 1) | st.floats(0.01, 0.99),
    "max_concurrent": st.just("auto") | st.integers(1, 64),
    "device": st.sampled_from(["auto", "cuda"]),
    "precision": st.sampled_from(["auto", "fp32", "bf16"]),
    "compile": st.sampled_from(["auto", "always", "never"]),
    "retries": st.integers(0, 9),
    "checkpoint_seconds": st.floats(0, 1e9),
    "name": st.just("auto") | st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z"),
    "storage": PATHS | ADDRESSES,
    "top": st.integers(1, 100),
    "quiet": st.booleans(),
    "dashboard": st.booleans(),
}


def that_go_together(chosen: dict[str, Any]) -> dict[str, Any]:
    """Without those that are about a cluster where there is none, or the other way round."""
    cluster = chosen.get("address", "local") != "local"
    left_out = {"dashboard"} if cluster else {"wait_for", "wait_timeout", "head_trains"}
    return {name: value for name, value in chosen.items() if name not in left_out}


@settings(max_examples=25)
@given(st.fixed_dictionaries({}, optional=MANY).map(that_go_together))
def test_command_for_settings_gives_them_back(chosen):
    asked = Settings(**chosen)
    program, *words = re.split(r"(?<=search.run) ", command_for(asked), maxsplit=1)
    assert program == ("uv run " if asked.address == "local" else "") + "python -m search.run"
    assert parse(shlex.split(*words), "prog") == asked


def test_round_trip_draws_every_setting():
    assert MANY.keys() <= defaults().keys()
    assert defaults().keys() - MANY.keys() == set()


def test_command_names_the_space_and_what_differs_alone():
    assert command_for(Settings()) == "uv run python -m search.run --space=cnn"
    assert command_for(Settings(trials=3, quiet=True)).endswith("--space=cnn --trials=3 --quiet")


def test_run_of_a_cluster_goes_on_there_by_a_command_that_its_nodes_have():
    assert resume_command("results/a b") == "uv run python -m search.run --resume 'results/a b'"
    asked = Settings(address="auto", head_trains=True, wait_for="8gpu", trials=7)
    there = "python -m search.run --resume s3://bucket/first --address=auto --wait-for=8gpu --head-trains"
    assert resume_command("s3://bucket/first", asked) == there


def test_failure_is_one_line_and_status_2(capsys):
    assert fail(ValueError("first\n  second"), "prog") == 2
    assert capsys.readouterr().err == "prog: first second\n"


def test_a_name_from_outside_does_not_command_the_terminal(capsys):
    fail(ValueError("train/\x1b[2Jred/0.png is no image"), "prog")
    assert capsys.readouterr().err == "prog: train/\ufffd[2Jred/0.png is no image\n"
