import functools
import hashlib
import http.server
import pickle
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from trainables.config import OptimizerConfig, Task, TrialConfig
from trainables.data.dataset import DataError
from trainables.models.pretrained import ARCHITECTURES, PretrainedConfig
from trainables.training import Training
from trainables.weights import IMAGENET, NO_WEIGHTS, Source, check_weights, initialize, load_weights

TASK = Task(image_size=8, classes=3, train_images=60, max_epochs=1)
RESNET = ("resnet18",)
State = dict[str, torch.Tensor]


def random_state(architecture: str, classes: int = 7) -> State:
    torch.manual_seed(1)
    network = torchvision.models.get_model(architecture, weights=None, num_classes=classes)
    return {name: t + 0.5 if t.is_floating_point() else t for name, t in network.state_dict().items()}


@pytest.fixture(scope="session")
def state() -> State:
    """A ResNet18 of 7 classes, its values unlike those that a new one has."""
    return random_state("resnet18")


@pytest.fixture
def pth(state, tmp_path) -> Path:
    torch.save(state, tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def refused(name: Any, architectures: tuple[str, ...] = RESNET, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_weights(str(name), architectures, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- a user's file


def test_backbone_begins_with_the_values_of_the_file_and_the_head_does_not(pth, state):
    weights = load_weights(str(pth), RESNET)
    config = PretrainedConfig(architecture="resnet18", weights=weights.name)
    network = config.build(TASK)
    head = network.head[-1].weight.clone()
    initialize(network, config, weights)
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, state[name])
    assert torch.equal(network.head[-1].weight, head)
    assert network.head[-1].out_features == 3


def test_weights_share_a_hash_whatever_file_they_come_from(pth, state, tmp_path):
    save_file(state, tmp_path / "mine.safetensors")
    save_file(state | {"fc.bias": state["fc.bias"] + 1}, tmp_path / "head.safetensors")
    save_file(state | {"bn1.bias": state["bn1.bias"] + 1}, tmp_path / "other.safetensors")
    names = [load_weights(str(tmp_path / f"{n}.safetensors"), RESNET).name for n in ("mine", "head", "other")]
    assert load_weights(str(pth), RESNET).name == names[0] == names[1]  # the head is not used
    assert names[2] != names[0]
    assert len(names[0]) == 16


def test_file_of_half_precision_is_read(state, tmp_path):
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    torch.save(half, tmp_path / "half.pth")
    found = load_weights(str(tmp_path / "half.pth"), RESNET).states["resnet18"]["conv1.weight"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half["conv1.weight"].float().numpy())


def test_network_that_this_project_saved_is_read(state, tmp_path):
    own = {f"backbone.{name}": t for name, t in state.items() if not name.startswith("fc.")}
    save_file(own | {"head.1.weight": torch.zeros(3, 512)}, tmp_path / "model.safetensors")
    weights = load_weights(str(tmp_path / "model.safetensors"), RESNET)
    np.testing.assert_array_equal(weights.states["resnet18"]["conv1.weight"], state["conv1.weight"].numpy())


def test_file_from_before_batches_were_counted_is_read(state, tmp_path):
    old = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    assert load_weights(str(tmp_path / "old.pth"), RESNET).states["resnet18"]["bn1.num_batches_tracked"] == 0


def test_old_names_of_densenet_are_read(tmp_path):
    state = random_state("densenet121")
    old = {}
    for name, tensor in state.items():
        old[re.sub(r"(norm|conv)([12])\.(?=\w+$)", r"\1.\2.", name) if "layer" in name else name] = tensor
    assert set(old) != set(state)
    torch.save(old, tmp_path / "old.pth")
    found = load_weights(str(tmp_path / "old.pth"), ("densenet121",)).states["densenet121"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, state[name].numpy())


def test_one_file_serves_the_network_that_it_fits(pth):
    weights = load_weights(str(pth), ARCHITECTURES)
    assert list(weights.states) == ["resnet18"]
    assert str(pth) in weights.note


def test_folder_has_a_file_for_each_network(state, tmp_path):
    torch.save(state, tmp_path / "resnet18.pth")
    save_file(random_state("mobilenet_v2"), tmp_path / "mobilenet_v2.safetensors")
    weights = load_weights(str(tmp_path), ARCHITECTURES)
    assert list(weights.states) == ["resnet18", "mobilenet_v2"]
    assert load_weights(str(tmp_path), RESNET).name != weights.name


# ---- what is refused


def test_weights_of_another_network_are_refused_naming_the_keys(pth, tmp_path):
    message = refused(pth, ("densenet121",))
    assert message.startswith(f"{pth} does not fit densenet121: missing features.conv0.weight, ")
    assert "unexpected conv1.weight, " in message
    assert " more" in message


def test_weights_of_another_shape_are_refused_naming_them(state, tmp_path):
    torch.save(state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "three.pth")
    message = refused(tmp_path / "three.pth", ARCHITECTURES)
    assert (
        "three.pth does not fit resnet18: of another shape conv1.weight is (64, 3, 3, 3), not (64, 3, 7, 7)"
        in message
    )


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("left", [0, 100, 1_000_000])
def test_truncated_file_is_refused(ending, left, state, tmp_path):
    path = tmp_path / f"cut.{ending}"
    if ending == "pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:left])
    assert refused(path).startswith(f"{path} cannot be read as weights, it may be cut off")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"conv1.weight": Bomb(tmp_path / "crater")}, tmp_path / "bomb.pth")
    assert "cannot be read as weights" in refused(tmp_path / "bomb.pth")
    assert not (tmp_path / "crater").exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {"a": torch.zeros(1)}}, {1: torch.zeros(1)}])
def test_what_is_no_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "odd.pth")
    assert "holds no state dict" in refused(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "there is no file ''"),
        ("imagnet", "weights must be imagenet, none, or the path of a file, but there is no file 'imagnet'"),
        ("none.pth", "there is no file 'none.pth'"),
        ("x" * 300, "cannot be read: File name too long"),
        ("notes.txt", "must be a file that ends in .pth, .pt, .safetensors, but notes.txt does not"),
        ("empty", "empty holds no weights: a file called resnet18 is needed"),
    ],
)
def test_wrong_name_is_refused(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no weights")
    (tmp_path / "empty").mkdir()
    assert expected in refused(name)


def test_no_weights_are_read_where_none_are_needed(tmp_path):
    assert load_weights("none", RESNET) is NO_WEIGHTS
    assert load_weights("imagenet", (), data_dir=tmp_path) is NO_WEIGHTS
    check_weights("none")
    assert list(tmp_path.iterdir()) == []


def test_training_with_other_weights_than_its_configuration_asks_for_is_refused(pth, data):
    weights = load_weights(str(pth), RESNET)
    for architecture, name, given in (
        ("resnet18", "imagenet", NO_WEIGHTS),
        ("resnet18", "imagenet", weights),
        ("mobilenet_v2", weights.name, weights),
    ):
        config = TrialConfig(
            model=PretrainedConfig(architecture=architecture, weights=name, input_size=32),
            optimizer=OptimizerConfig(name="sgd", learning_rate=0.1),
        )
        with pytest.raises(
            ValueError, match=f"{architecture} is to begin with weights {name}, but given are"
        ):
            Training(config, TASK, data, seed=0, weights=given)


# ---- imagenet


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server for the files of a folder, and the paths asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def source(address: str, path: Path) -> dict[str, Source]:
    begins = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return {"resnet18": Source(url=f"{address}/{path.name}", sha256=begins)}


def test_imagenet_weights_are_downloaded_once(pth, tmp_path):
    seen: list[tuple[str, int]] = []

    @contextmanager
    def progress(description: str, total: int) -> Iterator[Any]:
        class Bar:
            def advance(self, amount: int) -> None:
                seen.append((description, amount))

        yield Bar()

    with serving(tmp_path) as (address, asked):
        options = {"data_dir": tmp_path / "data", "sources": source(address, pth), "progress": progress}
        first = load_weights("imagenet", RESNET, **options)
        again = load_weights("imagenet", RESNET, **options)
    assert asked == ["/mine.pth"]
    assert first.name == again.name == "imagenet"
    assert sum(amount for _, amount in seen) == pth.stat().st_size
    assert {description for description, _ in seen} == {"Downloading mine.pth"}
    assert (tmp_path / "data" / "weights" / "mine.pth").read_bytes() == pth.read_bytes()


def test_what_comes_with_another_sum_is_refused_and_deleted(pth, tmp_path):
    with serving(tmp_path) as (address, _):
        wrong = {"resnet18": Source(url=f"{address}/mine.pth", sha256="00000000")}
        message = refused("imagenet", data_dir=tmp_path / "data", sources=wrong)
    assert "has SHA-256" in message
    assert "expected 00000000" in message
    assert list((tmp_path / "data" / "weights").iterdir()) == []


def test_damaged_file_in_the_cache_is_named(pth, tmp_path):
    sources = source("http://127.0.0.1:9", pth)
    cached = tmp_path / "data" / "weights" / "mine.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(pth.read_bytes()[:-1])
    message = refused("imagenet", data_dir=tmp_path / "data", sources=sources)
    assert str(cached) in message
    assert "delete it to download it again" in message
    cached.write_bytes(pth.read_bytes())
    assert load_weights("imagenet", RESNET, data_dir=tmp_path / "data", sources=sources).name == "imagenet"


def test_without_a_network_the_file_the_folder_and_the_other_choices_are_named(tmp_path):
    began = time.monotonic()
    unreachable = {"resnet18": Source(url="http://127.0.0.1:9/resnet18-f37072fd.pth", sha256="f37072fd")}
    message = refused("imagenet", data_dir=tmp_path, sources=unreachable)
    assert time.monotonic() - began < 60
    assert f"place resnet18-f37072fd.pth in {tmp_path / 'weights'}" in message
    assert "--weights PATH" in message
    assert "--weights none" in message


def test_sources_are_those_of_torchvision():
    for architecture, ours in IMAGENET.items():
        first = torchvision.models.get_model_weights(architecture).IMAGENET1K_V1
        assert ours.url == first.url
        assert ours.file == f"{architecture}-{ours.sha256}.pth"
    assert tuple(IMAGENET) == ARCHITECTURES


def test_weights_survive_a_pickle_between_processes(pth):
    weights = load_weights(str(pth), RESNET)
    again = pickle.loads(pickle.dumps(weights, protocol=5))
    assert again.name == weights.name
    assert again.nbytes == weights.nbytes > 40_000_000
