"""A trained network and what it takes to use it: a folder of safetensors and JSON, no study and no Ray.

from pathlib import Path
import numpy as np
from trainables.classifier import load_classifier
from trainables.data.images import decode_file

classifier = load_classifier("results/NAME/best")
files = sorted(Path("photos").glob("*.jpg"))
images = np.stack([decode_file(file, classifier.task.image_size) for file in files])
for file, chances in zip(files, classifier.probabilities(images)):
    print(file, classifier.class_names[chances.argmax()], f"{chances.max():.1%}")
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from trainables.augment import normalize
from trainables.config import Task, TrialConfig, from_json, require, to_json

_BATCH = 500
LONGEST_REASON = 400


@dataclass(frozen=True)
class Classifier:
    """A network with its classes and the colours it was trained on."""

    model: nn.Module
    config: TrialConfig
    task: Task
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    """Per channel, 0 to 1, of the training part."""
    std: tuple[float, float, float]
    """Per channel, 0 to 1, of the training part."""

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, classes) of uint8 images (N, size, size, 3). Raises ValueError for another shape."""
        expected = (self.task.image_size, self.task.image_size, self.task.channels)
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 of shape (N, {', '.join(map(str, expected))}), "
                f"but are {images.dtype} of shape {images.shape}"
            )
        self.model.eval()
        device = next(self.model.parameters()).device
        mean = torch.tensor(self.mean, device=device) * 255
        std = torch.tensor([s or 1 / 255 for s in self.std], device=device) * 255
        parts = [
            self.model(normalize(batch.to(device), mean, std)).float().softmax(1).cpu()
            # a copy, for torch takes no view from back to front
            for batch in torch.from_numpy(images.copy()).split(
                min(_BATCH, self.config.model.evaluation_batch)
            )
        ]
        return torch.cat(parts).numpy()

    def predict(self, images: np.ndarray) -> list[str]:
        """The most probable class of each of uint8 images (N, size, size, 3)."""
        return [self.class_names[i] for i in self.probabilities(images).argmax(1)]


def save_classifier(
    folder: Path,
    weights: dict[str, torch.Tensor],
    *,
    config: TrialConfig,
    task: Task,
    class_names: tuple[str, ...],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    about: dict[str, Any],
) -> None:
    """Write `model.safetensors` and `config.json`; `about` is kept as it is, for the reader."""
    document = {
        "config": to_json(config),
        "task": asdict(task),
        "class_names": class_names,
        "mean": mean,
        "std": std,
        "about": about,
    }
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "model.safetensors.tmp"
    save_file(weights, temporary)
    (folder / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / "model.safetensors")


def load_classifier(folder: Path | str) -> Classifier:
    """The classifier in a `best/` folder, on the CPU.

    Raises ValueError naming the file that is missing or does not fit.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no {name}: give the best/ folder of a finished run")
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config, task = from_json(document["config"]), Task(**document["task"])
        classifier = Classifier(
            model=config.model.build(task).to(memory_format=torch.channels_last).eval(),
            config=config,
            task=task,
            class_names=tuple(document["class_names"]),
            mean=tuple(document["mean"]),
            std=tuple(document["std"]),
        )
        names, classes = len(classifier.class_names), task.classes
        require(names == classes, f"{names} class names for {classes} classes")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / 'config.json'} describes no classifier: {error}") from error
    try:
        classifier.model.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, SafetensorError) as error:
        reason = textwrap.shorten(str(error), LONGEST_REASON, placeholder=" ...")  # torch names every tensor
        raise ValueError(f"{folder / 'model.safetensors'} does not fit config.json: {reason}") from error
    return classifier
