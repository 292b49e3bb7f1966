"""Pretrained weights: fetched or read once by the driver, checked against the network, handed to every trial.

Names and shapes are those of torchvision's state dicts. What only fits the classes of the pretraining, the
last layer, is left out, so a file may come from a network of any number of classes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.config import ModelConfig
from trainables.data.dataset import DataError, ProgressFactory, silent
from trainables.data.names import default_data_dir
from trainables.models.pretrained import PretrainedConfig

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    State = Mapping[str, np.ndarray]

ENDINGS = (".pth", ".pt", ".safetensors")
_SHOWN = 3
"""Names that a refusal gives as examples."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a file of weights comes from."""

    url: str
    sha256: str
    """How its SHA-256 sum begins."""

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rpartition("/")[2]


def _torchvision(name: str, sha256: str) -> Source:
    return Source(url=f"https://download.pytorch.org/models/{name}-{sha256}.pth", sha256=sha256)


IMAGENET: dict[str, Source] = {
    "resnet18": _torchvision("resnet18", "f37072fd"),
    "mobilenet_v2": _torchvision("mobilenet_v2", "b0353104"),
    "mobilenet_v3_large": _torchvision("mobilenet_v3_large", "8738ca79"),
    "densenet121": _torchvision("densenet121", "a639ec97"),
}
"""torchvision's first weights of each. Its later ones, where there are any, classify ImageNet better, but
were trained with label smoothing, after which features transfer worse (Kornblith et al., 2021)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """What backbones begin with."""

    name: str = "none"
    """none, imagenet, or 16 hex digits that the same weights share, whatever file they come from."""
    states: Mapping[str, State]
    """By architecture: arrays by torchvision's names."""
    note: str = ""
    """Where they come from, in words."""

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return sum(array.nbytes for state in self.states.values() for array in state.values())


NO_WEIGHTS = Weights(states={})


def check_weights(name: str) -> None:
    """Raise DataError if `name` cannot be right, without reading any file."""
    if name in ("none", "imagenet"):
        return
    path = Path(name).expanduser()
    try:
        found = path.exists()
    except OSError as error:
        raise DataError(f"weights {name} cannot be read: {error.strerror}") from error
    if not name or not found:
        raise DataError(
            f"weights must be imagenet, none, or the path of a file, but there is no file {name!r}"
        )
    if path.is_file() and path.suffix not in ENDINGS:
        raise DataError(f"weights must be a file that ends in {', '.join(ENDINGS)}, but {name} does not")


def load_weights(
    name: str,
    architectures: Sequence[str],
    *,
    data_dir: Path | None = None,
    progress: ProgressFactory = silent,
    sources: Mapping[str, Source] = IMAGENET,
) -> Weights:
    """The weights called `name` for networks of these architectures.

    name: `none`; `imagenet`, downloaded to `data_dir` where they are not there yet; a file, which has to fit
        one of the architectures; or a folder of files called as the architectures (resnet18.pth).
    data_dir: default `default_data_dir()`.

    Raises DataError for everything that a user can put right.
    """
    check_weights(name)
    if name == "none" or not architectures:
        return NO_WEIGHTS
    if name == "imagenet":
        folder = (data_dir or default_data_dir()).expanduser().resolve() / "weights"
        files = {one: _fetched(sources[one], folder, progress) for one in architectures}
        return Weights(
            name=name,
            states={one: _fitting(_read(path), path, [one])[1] for one, path in files.items()},
            note=f"imagenet, from {folder}",
        )
    path = Path(name).expanduser()
    if path.is_dir():
        states = dict(_fitting(_read(file), file, [one]) for one, file in _files(path, architectures).items())
    else:
        states = dict([_fitting(_read(path), path, architectures)])
    return Weights(name=_hash(states), states=states, note=f"{', '.join(states)} from {path}")


def initialize(model: nn.Module, config: ModelConfig, weights: Weights) -> None:
    """Give a network's backbone the weights that its configuration asks for, if any.

    Raises ValueError where `weights` are others.
    """
    if not isinstance(config, PretrainedConfig) or config.weights == "none":
        return
    if config.weights != weights.name or config.architecture not in weights.states:
        given = ", ".join(weights.states) or "nothing"
        raise ValueError(
            f"{config.architecture} is to begin with weights {config.weights}, but given are {weights.name} "
            f"({given}): pass what load_weights returns"
        )
    import torch

    from trainables.models.pretrained_network import PretrainedNetwork

    assert isinstance(model, PretrainedNetwork)
    state = weights.states[config.architecture]
    model.load_backbone({name: torch.tensor(array) for name, array in state.items()})


def _fetched(source: Source, folder: Path, progress: ProgressFactory) -> Path:
    from trainables.data.download import DownloadError, download

    path = folder / source.file
    if not path.is_file():
        try:
            download(source.url, source.sha256, path, progress, algorithm="sha256")
        except DownloadError as error:
            raise DownloadError(
                f"{error}, or give a file of your own by --weights PATH, "
                "or train from scratch by --weights none"
            ) from error
        return path
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(source.sha256):
        raise DataError(
            f"{path} has SHA-256 {found[:16]}..., expected {source.sha256}...; delete it to download it again"
        )
    return path


def _files(folder: Path, architectures: Sequence[str]) -> dict[str, Path]:
    found = {
        one: folder / f"{one}{ending}"
        for one in architectures
        for ending in ENDINGS
        if (folder / f"{one}{ending}").is_file()
    }
    if not found:
        raise DataError(
            f"{folder} holds no weights: a file called {' or '.join(architectures)} is needed, "
            f"ending in {', '.join(ENDINGS)}"
        )
    return found


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, by name. No code in it is run."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make torch raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} cannot be read as weights, it may be cut off or hold more than a state dict: "
            f"{reason:.150}"
        ) from error
    named = isinstance(state, dict) and state and all(isinstance(name, str) for name in state)
    if not named or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"{path} holds no state dict: save model.state_dict(), tensors by name")
    return {_present_name(name): tensor for name, tensor in state.items()}


_DENSE_LAYER = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


def _present_name(name: str) -> str:
    """As torchvision calls it today: its file for densenet121 is older than its module names."""
    return _DENSE_LAYER.sub(r"\1\2", name)


def _fitting(
    state: Mapping[str, torch.Tensor], path: Path, architectures: Sequence[str]
) -> tuple[str, dict[str, np.ndarray]]:
    """The architecture that the weights fit, and those of its backbone. Raises DataError where none does."""
    from trainables.models.pretrained_network import HEADS

    problems = []
    for architecture in architectures:
        backbone = _without_head(state, HEADS[architecture])
        expected = _expected(architecture)
        misfits = _misfits(backbone, expected)
        if not misfits:
            return architecture, {name: _array(backbone.get(name), like) for name, like in expected.items()}
        alike = len(expected.keys() & backbone.keys())
        problems.append((alike, f"{path} does not fit {architecture}: {'; '.join(misfits)}"))
    raise DataError(max(problems)[1])


def _without_head(state: Mapping[str, torch.Tensor], head: str) -> dict[str, torch.Tensor]:
    ours = "backbone."  # as a network of this project is saved
    if any(name.startswith(ours) for name in state):
        return {name.removeprefix(ours): tensor for name, tensor in state.items() if name.startswith(ours)}
    return {name: tensor for name, tensor in state.items() if not name.startswith(head)}


def _expected(architecture: str) -> dict[str, torch.Tensor]:
    import torch

    from trainables.models.pretrained_network import build_backbone

    with torch.device("meta"):
        expected: dict[str, torch.Tensor] = build_backbone(architecture)[0].state_dict()
    return expected


def _misfits(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """What is wrong, kind by kind; counters of batches may lack, as in old files."""
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    wrong = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(like.shape)}"
        for name, like in expected.items()
        if name in state and state[name].shape != like.shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
    return [f"{kind} {_examples(names)}" for kind, names in kinds if names]


def _examples(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _array(tensor: torch.Tensor | None, like: torch.Tensor) -> np.ndarray:
    """As the network keeps it: float32 also where the file has half of that; zeros where it has nothing."""
    import torch

    given = torch.zeros(like.shape) if tensor is None else tensor
    array: np.ndarray = given.to(like.dtype).contiguous().numpy()
    return array


def _hash(states: Mapping[str, State]) -> str:
    digest = hashlib.sha256()
    for architecture in sorted(states):
        for name, array in _sorted(states[architecture].items()):
            digest.update(f"{architecture}/{name}/{array.shape}/{array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()[:16]


def _sorted(items: Iterable[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    return sorted(items, key=lambda item: item[0])
