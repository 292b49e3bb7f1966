import sys
import textwrap

import pytest

import spaces
from spaces import SpaceError, load_space


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module into the current directory, which is not yet on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name: str, source: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(source))

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("name", spaces.SPACES)
def test_every_named_space_loads(name):
    space = load_space(name)
    assert (space.name, space.module) == (name, spaces.SPACES[name])


def test_module_of_the_current_directory_is_a_space(write):
    write("mine_alone.py", "def suggest(trial, task): return 7")
    space = load_space("mine_alone")
    assert space.suggest(None, None) == 7
    assert space.baselines == {}


def test_module_of_a_package_is_a_space_with_its_baselines(write):
    write("mine_pack/__init__.py", "")
    write("mine_pack/small.py", "BASELINES = {'one': {'width': 1}}\ndef suggest(trial, task): return 7")
    space = load_space("mine_pack.small")
    assert (space.name, space.module) == ("mine_pack.small", "mine_pack.small")
    assert space.baselines == {"one": {"width": 1}}


def test_unknown_name_is_answered_with_the_nearest(write):
    with pytest.raises(SpaceError, match="no space cmn: did you mean cnn"):
        load_space("cmn")


def test_unknown_name_like_no_other_lists_what_there_is(write):
    with pytest.raises(SpaceError, match=r"no space zzz: spaces are cnn.* no module zzz"):
        load_space("zzz")


def test_unknown_module_of_a_package_is_named(write):
    write("mine_empty/__init__.py", "")
    with pytest.raises(SpaceError, match=r"no module mine_empty\.gone"):
        load_space("mine_empty.gone")
    with pytest.raises(SpaceError, match="no module nowhere"):
        load_space("nowhere.gone")


def test_file_name_is_answered_with_the_module(write):
    with pytest.raises(SpaceError, match=r"--space my\.small instead of \./my/small\.py"):
        load_space("./my/small.py")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "x = 1\nraise KeyError('width')",
            r"mine_bad cannot be imported: KeyError: 'width' \(.*mine_bad\.py:2\)",
        ),
        ("import nothing_such", r"ModuleNotFoundError: No module named 'nothing_such' \(.*mine_bad\.py:1\)"),
        ("\ndef suggest(:", r"SyntaxError: .* \(.*mine_bad\.py:2\)"),
        ("import json\njson.loads('{')", r"JSONDecodeError: .* \(.*mine_bad\.py:2\)"),
    ],
)
def test_module_that_fails_is_named_with_the_line(write, source, message):
    write("mine_bad.py", source)
    with pytest.raises(SpaceError, match=message) as caught:
        load_space("mine_bad")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", r"mine_odd is no space: it has no function suggest\(trial, task\)"),
        ("suggest = 3", "mine_odd.suggest must be a function, but is 3"),
        ("BASELINES = [1]\ndef suggest(trial, task): ...", r"BASELINES must be a dict, but is \[1\]"),
        ("BASELINES = {'one': 1}\ndef suggest(trial, task): ...", "dicts of parameters, but has 'one': 1"),
        (
            "BASELINES = {1: {}}\ndef suggest(trial, task): ...",
            "must map names to dicts of parameters, but has 1",
        ),
    ],
)
def test_module_against_the_convention_is_refused(write, source, message):
    write("mine_odd.py", source)
    with pytest.raises(SpaceError, match=message):
        load_space("mine_odd")


def test_pretrained_networks_of_a_space_are_noted(write):
    write("mine_nets.py", "ARCHITECTURES = ('resnet18',)\ndef suggest(trial, task): return 7")
    assert load_space("mine_nets").architectures == ("resnet18",)
    assert load_space("cnn").architectures == ()


@pytest.mark.parametrize("value", ["'resnet18'", "('resnet19',)", "7"])
def test_unknown_pretrained_networks_are_refused(write, value):
    write("mine_odd.py", f"ARCHITECTURES = {value}\ndef suggest(trial, task): return 7")
    with pytest.raises(SpaceError, match=r"ARCHITECTURES must be a tuple of some of resnet18, mobilenet_v2"):
        load_space("mine_odd")
