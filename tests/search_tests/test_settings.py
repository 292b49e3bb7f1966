import dataclasses
import json
import math
from pathlib import Path

import pytest

from search.settings import GROUPS, Settings, defaults


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("trials", 0),
        ("trials", -3),
        ("trials", 1.5),
        ("trials", "many"),
        ("trials", True),
        ("trials", None),
        ("max_epochs", 0),
        ("max_epochs", None),
        ("min_epochs", 0),
        ("min_epochs", "auto"),
        ("min_epochs", None),
        ("reduction_factor", 1),
        ("reduction_factor", "auto"),
        ("reduction_factor", 2.5),
        ("max_params", 0),
        ("max_macs", 0),
        ("max_params", "auto"),
        ("seed", -1),
        ("seed", "auto"),
        ("seed", 0.0),
        ("image_size", 3),
        ("image_size", None),
        ("val_fraction", 0),
        ("val_fraction", 1),
        ("val_fraction", -0.5),
        ("val_fraction", 1.5),
        ("val_fraction", math.nan),
        ("val_fraction", "auto"),
        ("cpus_per_trial", 0),
        ("cpus_per_trial", 0.5),
        ("gpus_per_trial", 1.5),
        ("gpus_per_trial", 2),
        ("gpus_per_trial", -1),
        ("gpus_per_trial", 0.001),
        ("gpus_per_trial", math.nan),
        ("gpus_per_trial", math.inf),
        ("max_concurrent", 0),
        ("retries", -1),
        ("checkpoint_seconds", -1.0),
        ("checkpoint_seconds", math.nan),
        ("checkpoint_seconds", math.inf),
        ("top", 0),
        ("metric", "f1"),
        ("sampler", 3),
        ("gpu_hours", 0),
        ("total_epochs", 0),
        ("study_storage", "mysql://host/studies"),
        ("study_storage", "postgresql://host"),
        ("start_from", 3),
        ("asha", "promote!"),
        ("device", "tpu"),
        ("precision", "fp8"),
        ("compile", "maybe"),
        ("baselines", "deep"),
        ("baselines", ["deep"]),
        ("quiet", 1),
        ("dashboard", "no"),
        ("space", None),
        ("space", 3),
        ("dataset", None),
        ("storage", None),
        ("storage", 3),
        ("data_dir", 3),
        ("time_budget", 90),
        ("time_budget", None),
        ("time_budget", "soon"),
        ("time_budget", "0s"),
        ("time_budget", "-5m"),
        ("time_budget", "1h 30m"),
        ("time_budget", "1.h"),
        ("time_budget", ""),
        ("time_budget", "9" * 400),
        ("storage", "~nobody-called-this/results"),
        ("name", ""),
        ("name", None),
        ("name", "../x"),
        ("name", "a/b"),
        ("name", ".hidden"),
        ("name", ".."),
        ("name", "-x"),
        ("name", "näme"),
        ("name", "a b"),
        ("name", "a\n"),
        ("name", "x" * 101),
    ],
)
def test_impossible_value_is_refused_by_name_and_value(option, value):
    with pytest.raises(ValueError, match="^--" + option.replace("_", "-")) as caught:
        Settings(**{option: value})
    shown = repr(value)[1:-1] if isinstance(value, str) else repr(value)
    assert shown in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_least_than_most_epochs_are_refused_with_both():
    with pytest.raises(ValueError, match=r"--min-epochs must not exceed --max-epochs, but 9 > 3"):
        Settings(min_epochs=9, max_epochs=3)
    Settings(min_epochs=3, max_epochs=3)


def test_gpu_for_a_trial_on_the_cpu_is_refused():
    with pytest.raises(ValueError, match=r"--device cpu uses no GPU, but --gpus-per-trial is 0\.5"):
        Settings(device="cpu", gpus_per_trial=0.5)
    Settings(device="cpu", gpus_per_trial=0)


@pytest.mark.parametrize("gpus", [0, 0.01, 0.25, 1, 1.0, "auto"])
def test_possible_shares_of_gpus_are_taken(gpus):
    assert Settings(gpus_per_trial=gpus).gpus_per_trial == gpus


def test_time_budget_is_read_as_a_duration():
    assert Settings(time_budget="1h30m").budget_seconds() == 5400
    assert Settings().budget_seconds() is None


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().trials = 3


def test_loss_is_minimized_and_the_others_maximized():
    assert [Settings(metric=m).direction for m in ("accuracy", "macro_f1", "loss")] == [
        "maximize",
        "maximize",
        "minimize",
    ]


def test_paths_may_be_strings_and_know_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings(storage="~/runs", data_dir="data")
    assert (settings.storage, settings.data_dir) == (tmp_path / "runs", Path("data"))


def test_every_setting_is_in_one_group_and_documented():
    grouped = [field.name for group in GROUPS for field in dataclasses.fields(group)]
    assert sorted(grouped) == sorted(defaults())


def test_settings_go_to_json():
    document = Settings(max_params=5, storage=Path("a/b")).to_json()
    assert json.loads(json.dumps(document)) == document
    assert (document["storage"], document["max_params"], document["data_dir"]) == ("a/b", 5, None)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hidden@host/db",
        "postgresql://me:a/hidden@host/db",
        "postgresql://me:a@hidden@host/db",
        "postgresql://me@domain:hidden@host/db",
        "postgresql://host/db?password=hidden",
    ],
)
def test_password_in_an_address_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match="PGPASSWORD") as caught:
        Settings(study_storage=url)
    assert "hidden" not in str(caught.value)


def test_storage_may_be_in_an_object_store():
    settings = Settings(storage="s3://bucket/runs/", start_from="gs://bucket/first")
    assert (settings.storage, settings.start_from) == ("s3://bucket/runs", "gs://bucket/first")
    assert settings.to_json()["storage"] == "s3://bucket/runs"
    assert Settings(storage="file:///data/runs").storage == Path("/data/runs")


@pytest.mark.parametrize(
    "address", ["s4://bucket/runs", "s3:/bucket/runs", "s3://key:hidden@bucket", "s3://"]
)
def test_storage_that_can_never_work_is_refused_by_name(address):
    for option in ("storage", "start_from"):
        with pytest.raises(ValueError, match=f"^--{option.replace('_', '-')} must ") as caught:
            Settings(**{option: address})
        assert "hidden" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^--storage must have two slashes"):
        Settings(storage=Path("s3://bucket"))  # which is s3:/bucket
