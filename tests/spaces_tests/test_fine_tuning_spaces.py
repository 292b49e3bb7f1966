"""The spaces of pretrained networks, and the one of all families."""

import warnings
from dataclasses import replace

import optuna
import pytest

from search.multifidelity import MultifidelitySampler
from spaces import SPACES, check_space, load_space, misfits
from spaces import all as all_families
from trainables.config import AugmentConfig, FineTuneConfig, OptimizerConfig, Task, TrialConfig
from trainables.features import can_be_reused
from trainables.models.cnn import CnnConfig
from trainables.models.pretrained import ARCHITECTURES, PretrainedConfig

PRETRAINED = ("resnet18", "mobilenet", "densenet121")
TASK = Task(image_size=32, classes=10, train_images=45_000, max_epochs=9)
SCRATCH = replace(TASK, weights="none")
BASELINES = [(space, name) for space in (*PRETRAINED, "all") for name in load_space(space).baselines]


def baseline(space: str, name: str, task: Task = TASK) -> TrialConfig:
    loaded = load_space(space)
    trial = optuna.trial.FixedTrial(loaded.baselines[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = loaded.suggest(trial, task)
    assert trial.params == loaded.baselines[name]
    return config


def draws(space: str, task: Task, count: int = 60) -> list[tuple[dict, TrialConfig]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    suggest = load_space(space).suggest
    found = []
    for _ in range(count):
        trial = study.ask()
        config = suggest(trial, task)
        found.append((trial.params, config))
    return found


@pytest.mark.parametrize(("space", "name"), BASELINES)
@pytest.mark.parametrize("image_size", [28, 32, 64, 224])
def test_baseline_is_a_point_of_its_space(space, name, image_size):
    baseline(space, name, replace(TASK, image_size=image_size, classes=7, train_images=1000))


def test_resnet18_with_its_final_layers_fine_tuned():
    config = baseline("resnet18", "final_layers")
    assert config.model == PretrainedConfig(architecture="resnet18", unfrozen="last")
    assert config.optimizer == OptimizerConfig(name="adam", learning_rate=1e-3)
    assert config.fine_tune == FineTuneConfig(backbone_rate=0.1)


def test_resnet18_fine_tuned_in_full():
    config = baseline("resnet18", "full")
    assert config.model == PretrainedConfig(architecture="resnet18", unfrozen="all")
    assert config.fine_tune == FineTuneConfig()


@pytest.mark.parametrize(
    ("name", "architecture"), [("last_layers", "mobilenet_v2"), ("last_layers_v3", "mobilenet_v3_large")]
)
def test_mobilenet_with_its_last_layers_fine_tuned(name, architecture):
    config = baseline("mobilenet", name)
    assert (config.model.architecture, config.model.unfrozen) == (architecture, "last")
    assert config.optimizer.name == "adam"


def test_densenet121_with_a_new_head():
    config = baseline("densenet121", "new_head")
    expected = PretrainedConfig(architecture="densenet121", unfrozen="head", head_width=256, dropout=0.5)
    assert config.model == expected
    assert config.optimizer.name == "adam"
    assert can_be_reused(config)  # so its features are computed once


@pytest.mark.parametrize(
    "space",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("densenet121", "all") else name
        for name in SPACES
    ],
)
@pytest.mark.parametrize("weights", ["imagenet", "none"])
def test_random_points_build_networks(space, weights):
    loaded = load_space(space)
    task = replace(TASK, weights=weights if loaded.architectures else "none")
    check_space(loaded, task, draws=8, baselines=())


@pytest.mark.parametrize("space", PRETRAINED)
def test_every_choice_is_made(space):
    configs = [config for _, config in draws(space, TASK, 200)]
    models = [config.model for config in configs]
    assert {model.architecture for model in models} == set(load_space(space).architectures)
    assert {model.unfrozen for model in models} == {"head", "last", "last_two", "all"}
    assert {model.input_size for model in models} == set(range(32, 225, 32))
    assert {model.stem for model in models} == {"imagenet", "small"}
    assert {model.freeze_norms for model in models} == {False, True}
    assert {model.head_width > 0 for model in models} == {False, True}
    assert {config.optimizer.name for config in configs} == {"sgd", "adam", "adamw"}
    assert {config.optimizer.schedule for config in configs} == {"constant", "linear", "cosine"}
    assert {config.fine_tune.unfreeze_over for config in configs} == {0.0, 0.25, 0.5}
    assert min(config.fine_tune.backbone_rate for config in configs) < 0.1
    assert min(config.fine_tune.layer_decay for config in configs) < 0.5
    assert {can_be_reused(config) for config in configs} == {False, True}
    assert all(model.weights == "imagenet" for model in models)


def test_nothing_is_asked_that_changes_nothing():
    for params, config in draws("resnet18", TASK):
        head = config.model.unfrozen == "head"
        assert ("backbone.rate" in params) == ("freeze_norms" in params) == (not head)
        assert ("backbone.layer_decay" in params) == (config.model.unfrozen in ("last_two", "all"))
        assert ("stem" in params) == (config.model.input_size <= 64)
        assert ("flip" in params) == (config.augment != AugmentConfig() or params.get("augment", True))
        assert ("warmup" in params) == (config.optimizer.schedule != "constant")


@pytest.mark.parametrize("space", PRETRAINED)
def test_from_scratch_everything_is_trained(space):
    for params, config in draws(space, SCRATCH, 20):
        assert (config.model.weights, config.model.unfrozen) == ("none", "all")
        assert not config.model.freeze_norms
        assert config.fine_tune == FineTuneConfig()
        assert not {"unfreeze", "freeze_norms", "backbone.rate", "augment"} & params.keys()


def test_baselines_of_fine_tuning_do_not_fit_where_there_are_no_weights():
    for space in PRETRAINED:
        assert misfits(load_space(space), SCRATCH).keys() == load_space(space).baselines.keys()


def test_only_networks_that_there_are_weights_for_are_proposed():
    task = replace(TASK, weights="0123456789abcdef", architectures=("mobilenet_v3_large",))
    configs = [config for _, config in draws("mobilenet", task, 20)]
    assert {config.model.architecture for config in configs} == {"mobilenet_v3_large"}
    assert {config.model.weights for config in configs} == {"0123456789abcdef"}
    assert misfits(load_space("mobilenet"), task).keys() == {"last_layers"}
    with pytest.raises(ValueError, match="no weights for resnet18"):
        draws("resnet18", task, 1)
    families = {params["family"] for params, _ in draws("all", task, 40)}
    assert families == {"cnn", "mobilenet"}


def test_all_families_are_proposed_each_with_names_of_its_own():
    seen = set()
    for params, config in draws("all", TASK):
        family = params["family"]
        seen.add(family)
        assert next(iter(params)) == "family"
        assert all(name.startswith(f"{family}.") for name in params if name != "family")
        assert isinstance(config.model, CnnConfig if family == "cnn" else PretrainedConfig)
    assert seen == set(all_families.FAMILIES)
    assert set(all_families.ARCHITECTURES) == set(ARCHITECTURES)


def test_a_family_in_the_space_of_all_is_that_family():
    for space in PRETRAINED:
        for name in load_space(space).baselines:
            assert baseline("all", f"{space}.{name}") == baseline(space, name)


def test_sampler_learns_which_parameters_belong_to_which_family():
    """A proposal for one family has a value for each of its parameters: none is left to a random draw."""
    study = optuna.create_study(sampler=MultifidelitySampler(seed=0), direction="maximize")
    left_to_chance: list[int] = []
    for number in range(60):
        trial = study.ask()
        with pytest.MonkeyPatch.context() as patch:
            asked: list[str] = []
            independent = MultifidelitySampler.sample_independent

            def counted(self, study, trial, name, distribution, asked=asked, independent=independent):
                asked.append(name)
                return independent(self, study, trial, name, distribution)

            patch.setattr(MultifidelitySampler, "sample_independent", counted)
            config = all_families.suggest(trial, TASK)
        left_to_chance.append(len(asked))
        good = trial.params["family"] == "densenet121"
        study.tell(trial, (0.8 if good else 0.4) + 0.001 * (number % 7) + 1e-6 * config.batch_size)
    assert sum(left_to_chance[40:]) == 0
    families = [trial.params["family"] for trial in study.trials]
    assert families[40:].count("densenet121") > 12
