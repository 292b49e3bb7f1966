from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from search import preflight
from search.formats import check_run_name
from search.preflight import check_request, prepare
from search.settings import Settings
from search.slots import Machine
from spaces import SPACES

GOOD_SPACE = """
    from dataclasses import dataclass
    from torch import nn
    from trainables.config import ModelConfig, OptimizerConfig, TrialConfig

    @dataclass(frozen=True, kw_only=True)
    class Linear(ModelConfig):
        width: int

        def build(self, task):
            if task.image_size < self.width:
                raise ValueError(f"images of {task.image_size} pixels are too small for width {self.width}")
            return nn.Sequential(nn.Flatten(), nn.Linear(3 * task.image_size**2, task.classes))

    BASELINES = {"narrow": {"width": 2}, "wide": {"width": 16}}

    def suggest(trial, task):
        model = Linear(width=trial.suggest_int("width", 1, LARGEST))
        return TrialConfig(model=model, optimizer=OptimizerConfig(name="sgd", learning_rate=0.1))
"""


@pytest.fixture
def space(write):
    """The name of a user's space in the current directory, its widths at most `largest`."""

    def make(name: str, largest: str = "8") -> str:
        write(f"{name}.py", GOOD_SPACE.replace("LARGEST", largest))
        return name

    return make


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Two cores and no GPU, whatever runs the tests."""
    monkeypatch.setattr(preflight, "this_machine", lambda *, look_for_gpus: Machine(2, 0))


def refused(asked: dict, *, reading: bool = False) -> str:
    """The one line by which a request is refused; without reading data unless `reading`."""
    read = prepare if reading else lambda request: request
    with pytest.raises(ValueError, match=r".") as caught:
        read(check_request(Settings(**asked)))
    assert "\n" not in str(caught.value)
    assert not Path("results").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"space": "cmn"}, "there is no space cmn: did you mean cnn?"),
        ({"space": "cnn.py"}, "--space names a module, not a file: --space cnn instead"),
        ({"dataset": "cifar"}, "no data set is called 'cifar' (did you mean cifar10?)"),
        ({"dataset": "./none"}, "no such file or folder: "),
        ({"dataset": "."}, "has no train/ folder"),
        ({"dataset": ""}, "no data set is called ''"),
        ({"dataset": "x" * 300}, "cannot be read: File name too long"),
        ({"data_dir": "file"}, "the data folder file is a file"),
        ({"storage": "file"}, "--storage file must be a folder, but file is none"),
        ({"storage": "file/below"}, "--storage file/below must be a folder, but file is none"),
        ({"storage": "dangling"}, "--storage dangling must be a folder, but dangling is none"),
        ({"storage": "dangling/below"}, "must be a folder, but dangling is none"),
        ({"storage": "/proc"}, "--storage /proc cannot be written: no permission in /proc"),
        ({"storage": "/proc/none/below"}, "cannot be written: no permission in /proc"),
        ({"storage": "x" * 300}, "cannot be used: File name too long"),
        (
            {"name": "mine", "storage": "runs"},
            "a run called mine is there already: runs/mine; choose another",
        ),
        ({"name": "dead", "storage": "runs"}, "a run called dead is there already"),
    ],
)
def test_bad_request_is_refused_in_one_line_before_data(write, asked, expected):
    write("file", "")
    write("runs/mine/study.db", "")
    Path("dangling").symlink_to("nowhere")
    Path("runs/dead").symlink_to("nowhere")
    assert expected in refused({"dataset": "digits"} | asked)


def test_good_request_leaves_nothing_behind(write):
    write("file", "")
    space = check_request(Settings(dataset="digits", storage=Path("results"), name="mine")).space
    assert space.name == "cnn"
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_read_only_disk_is_found_by_writing(write, monkeypatch):
    write("file", "")
    monkeypatch.setattr(preflight.os, "access", lambda *_: True)

    def fail(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(preflight.tempfile, "TemporaryFile", fail)
    assert "--storage results cannot be written" in refused({"dataset": "digits"})


def test_storage_of_another_user_is_refused(write, monkeypatch):
    write("file", "")
    monkeypatch.setattr(preflight.os, "access", lambda *_: False)
    assert "no permission in" in refused({"dataset": "digits"})


def test_folder_that_may_not_be_looked_into_is_refused(write, monkeypatch):
    write("file", "")

    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", fail)
    with pytest.raises(ValueError, match="--storage results cannot be used: Permission denied"):
        check_request(Settings(dataset="digits"))


def test_full_disk_is_refused_with_both_sizes(write, monkeypatch):
    write("file", "")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100 * 2**20))
    assert "has 100 MiB free, and at least 500 MiB are needed" in refused({"dataset": "digits"})


def test_dashboard_without_its_packages_is_refused(write, monkeypatch):
    write("file", "")
    monkeypatch.setattr(preflight, "DASHBOARD_NEEDS", ("sys", "no_such_package_here"))
    assert "--dashboard needs packages" in refused({"dataset": "digits", "dashboard": True})
    monkeypatch.setattr(preflight, "DASHBOARD_NEEDS", ("sys",))
    check_request(Settings(dataset="digits", dashboard=True))


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("bad_import", "import nothing_such", "bad_import cannot be imported: ModuleNotFoundError"),
        ("bad_syntax", "def suggest(:", "bad_syntax cannot be imported: SyntaxError"),
        ("bad_empty", "", "bad_empty is no space: it has no function suggest"),
        ("bad_kind", "suggest = 3", "bad_kind.suggest must be a function"),
    ],
)
def test_space_that_cannot_be_loaded_is_refused_before_data(write, module, source, expected):
    write(f"{module}.py", source)
    assert expected in refused({"dataset": "digits", "space": module})


@pytest.mark.parametrize(
    ("module", "body", "expected"),
    [
        ("bad_raise", "raise RuntimeError('thir\\nteen')", "suggest fails for a random trial: RuntimeError"),
        ("bad_type", "return {'width': trial.suggest_int('width', 1, 3)}", "must return a TrialConfig"),
        ("bad_choice", "trial.suggest_float('lr', 1, 0)", "suggest fails for a random trial: ValueError"),
    ],
)
def test_space_that_fails_is_refused_before_a_trial(write, module, body, expected):
    write(f"{module}.py", f"def suggest(trial, task):\n    {body}\n")
    assert expected in refused({"dataset": "digits", "space": module}, reading=True)


def test_image_size_that_no_network_takes_is_refused(space):
    asked = {"space": space("linear_strict"), "dataset": "digits", "image_size": 4}
    error = refused(asked, reading=True)
    assert "images of 4 pixels are too small for width" in error


def test_data_that_cannot_be_searched_is_refused(write, images):
    write("file", "")
    Path("empty").mkdir()
    Path("hollow/train").mkdir(parents=True)
    images("single", cat=5)
    images("few", cat=1, dog=5)
    Path("bare/train/cat").mkdir(parents=True)
    Path("bare/train/dog").mkdir()
    for name, expected in {
        "empty": "has no train/ folder",
        "hollow": "has 0 class folders; at least 2 are needed",
        "single": "has 1 class folders; at least 2 are needed",
        "few": "class cat has 1 training image; at least 2 are needed",
        "bare": "train/cat holds no images",
    }.items():
        assert expected in refused({"dataset": f"./{name}", "data_dir": "cache"}, reading=True)


def test_gpus_that_are_not_there_are_refused_before_data(write, monkeypatch):
    write("file", "")
    monkeypatch.setattr(preflight, "load_dataset", None)
    for asked, expected in (
        ({"gpus_per_trial": 1}, "--gpus-per-trial 1 is more than this machine has: 0 GPUs"),
        ({"device": "cuda"}, "--device cuda needs a GPU"),
        ({"cpus_per_trial": 3}, "--cpus-per-trial 3 is more than this machine has: 2 cores"),
    ):
        assert expected in refused({"dataset": "digits", **asked})


@pytest.mark.parametrize("budget", [{"time_budget": "2h"}, {"total_epochs": 40}])
def test_budget_alone_limits_the_search(space, images, budget):
    images("pets", size=8)
    asked = Settings(space=space("linear_good"), dataset="./pets", data_dir=Path("cache"), **budget)
    assert prepare(check_request(asked)).settings.trials == "auto"
    assert prepare(check_request(replace(asked, trials=7))).settings.trials == 7


def test_prepared_search_knows_everything_that_was_auto(space, images):
    images("pets", size=8)
    asked = Settings(space=space("linear_good"), dataset="./pets", data_dir=Path("cache"), min_epochs=12)
    prepared = prepare(check_request(asked))
    assert (prepared.settings.trials, prepared.settings.max_epochs) == (12, 12)
    task = prepared.task
    assert (task.image_size, task.classes, task.train_images, task.max_epochs) == (8, 2, 10, 12)
    assert (prepared.slots.count, prepared.slots.cpus) == (2, 1)
    assert prepared.folder.path.parent == Path("results")
    assert prepared.folder.path.name.startswith("linear_good-pets-20")
    assert (prepared.baselines, prepared.skipped) == ({}, {})
    assert not Path("results").exists()


def test_baselines_that_do_not_fit_are_skipped_with_a_reason(space, images):
    images("pets", size=8)
    asked = {"space": space("linear_base"), "dataset": "./pets", "data_dir": "cache", "baselines": True}
    prepared = prepare(check_request(Settings(**asked)))
    assert prepared.baselines == {"narrow": {"width": 2}}
    assert prepared.skipped.keys() == {"wide"}
    assert "\n" not in prepared.skipped["wide"]


def test_baselines_of_which_none_fits_are_refused(space, images, write):
    images("pets", size=8)
    write("file", "")
    file = Path("linear_none.py")
    space("linear_none")
    file.write_text(file.read_text().replace('{"narrow": {"width": 2}, ', "{"))
    asked = {"space": "linear_none", "dataset": "./pets", "data_dir": "cache", "baselines": True}
    assert "--baselines: space linear_none has none that fits: " in refused(asked, reading=True)


def test_stand_in_data_set_is_the_one_to_repeat(space, monkeypatch):
    real = preflight.load_dataset

    def offline(name, **options):
        assert name == "auto"
        return real("digits", **options)

    monkeypatch.setattr(preflight, "load_dataset", offline)
    prepared = prepare(check_request(Settings(space=space("linear_auto"), dataset="auto", image_size=8)))
    assert prepared.settings.dataset == "digits"


@pytest.mark.parametrize(
    ("space", "data"),
    [("cnn", "digits"), ("mine._odd", "/x/.hidden"), ("räume", "/x/" + "ü" * 200), ("_", "/x/a b.tar.gz")],
)
def test_name_made_up_is_one_that_may_be_asked_for(tmp_path, space, data):
    settings = Settings(storage=tmp_path)
    name = preflight._free_name(settings, SimpleNamespace(name=space), SimpleNamespace(name=data))
    check_run_name(name)
    (tmp_path / name).mkdir()
    other = preflight._free_name(settings, SimpleNamespace(name=space), SimpleNamespace(name=data))
    check_run_name(other)
    assert other != name


def test_main_refuses_in_one_line_with_status_2_and_creates_nothing(
    write, capsys, images, monkeypatch, without_ray
):
    from search.run import main

    write("file", "")
    write("runs/mine/study.db", "")
    write("bad_main.py", "def suggest(trial, task): return 3")
    images("single", cat=5)
    for words, expected in (
        (["--trials", "0"], "--trials must be a whole number of at least 1, but is 0"),
        (["--config", "none.yaml"], "--config none.yaml cannot be read"),
        (["--space", "cmn"], "there is no space cmn"),
        (["--dataset", "cifar"], "no data set is called 'cifar'"),
        (["--dataset", "./single"], "at least 2 are needed"),
        (["--name", "mine", "--storage", "runs"], "a run called mine is there already"),
        (["--storage", "file"], "--storage file must be a folder"),
        (["--gpus-per-trial", "1"], "--gpus-per-trial 1 is more than this machine has: 0 GPUs"),
        (["--space", "bad_main"], "suggest must return a TrialConfig"),
        (["--image-size", "4"], "images of at least"),
    ):
        assert main(["--dataset", "digits", "--quiet", *words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("python -m search.run: ")
        assert expected in err
        assert not Path("results").exists()
        assert [path.name for path in Path("runs").iterdir()] == ["mine"]


def test_every_space_of_the_project_is_loaded_by_a_request(write):
    write("file", "")
    for name in SPACES:
        assert check_request(Settings(space=name, dataset="digits")).space.name == name


# ---- pretrained networks


@pytest.fixture
def weights_file(tmp_path):
    """A ResNet18's state dict."""
    import torch

    from trainables.models.pretrained_network import build_backbone

    torch.save(build_backbone("resnet18")[0].state_dict(), tmp_path / "mine.pth")
    return "mine.pth"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("imagnet", "weights must be imagenet, none, or the path of a file, but there is no file 'imagnet'"),
        ("file", "must be a file that ends in .pth, .pt, .safetensors, but file does not"),
    ],
)
def test_wrong_weights_are_refused_before_data(write, weights, expected):
    write("file", "")
    assert expected in refused({"dataset": "digits", "space": "resnet18", "weights": weights})
    check_request(Settings(dataset="digits", space="cnn", weights=weights))  # which has no use for them


def test_weights_of_another_network_are_refused_before_data_is_read(write, weights_file, monkeypatch):
    monkeypatch.setattr(preflight, "load_dataset", None)
    asked = {"dataset": "digits", "space": "densenet121", "weights": weights_file}
    assert "mine.pth does not fit densenet121: missing" in refused(asked, reading=True)


def test_weights_are_named_in_the_task_and_found_from_anywhere(write, weights_file, tmp_path):
    asked = Settings(dataset="digits", image_size=8, space="all", weights=weights_file, baselines=True)
    prepared = prepare(check_request(asked))
    assert prepared.settings.weights == str(tmp_path / "mine.pth")
    assert prepared.task.weights == prepared.weights.name
    assert len(prepared.task.weights) == 16
    assert prepared.task.architectures == ("resnet18",)
    assert prepared.baselines.keys() >= {"resnet18.final_layers", "resnet18.full"}
    assert {name.split(".")[0] for name in prepared.skipped} >= {"mobilenet", "densenet121"}


def test_space_without_pretrained_networks_has_no_weights(space, images):
    images("pets", size=8)
    prepared = prepare(check_request(Settings(space=space("linear_w"), dataset="./pets", data_dir=Path("c"))))
    assert (prepared.task.weights, prepared.task.architectures) == ("none", ())
    assert prepared.settings.weights == "imagenet"


def test_pretrained_networks_may_cost_more_on_a_cpu(write):
    write("file", "")
    asked = Settings(dataset="digits", image_size=8, space="resnet18", weights="none")
    assert prepare(check_request(asked)).settings.max_macs == preflight.CPU_PRETRAINED_MACS
    assert prepare(check_request(replace(asked, max_macs=7))).settings.max_macs == 7
