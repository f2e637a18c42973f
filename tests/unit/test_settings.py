from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salver import settings
from salver.errors import ConfigError, UnknownOption
from salver.options import DEPLOYMENT_OPTIONS, SERVER_OPTIONS, DeploymentOptions
from salver.settings import gather_overrides

NAMES = ["Tagger", "Urgency"]


def gather(yaml=None, env=(), sets=(), names=NAMES, folder: Path | None = None):
    config = None
    if yaml is not None:
        assert folder is not None
        config = folder / "salver.yaml"
        config.write_text(yaml, encoding="utf-8")
    return gather_overrides(names, config, sets, dict(env))


@pytest.mark.parametrize("name", [*DEPLOYMENT_OPTIONS, *SERVER_OPTIONS])
def test_a_misspelt_option_names_its_neighbour(name):
    """Dropping the last letter of any option is answered with the option itself."""
    with pytest.raises(UnknownOption, match=repr(name)):
        gather(sets=[f"{name[:-1]}=1"])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["yaml", "env", "set"]),
            st.sampled_from([None, *NAMES]),
            st.sampled_from(["max_batch_size", "num_replicas"]),
            st.integers(1, 99),
        ),
        unique_by=lambda given: given[:3],
    )
)
def test_layers_grow_in_strength(tmp_path_factory, given_options):
    """YAML < environment < --set; within a layer an option of one deployment beats that of all."""
    yaml, env, sets = [], {}, []
    for layer, owner, name, value in given_options:
        if layer == "yaml":
            yaml.append(f"{owner}: {{{name}: {value}}}" if owner else f"{name}: {value}")
        elif layer == "env":
            env[
                f"SALVER_{owner.upper()}__{name.upper()}" if owner else f"SALVER_{name.upper()}"
            ] = str(value)
        else:
            sets.append(f"{owner}.{name}={value}" if owner else f"{name}={value}")
    merged: dict[str, str] = {}
    for line in yaml:
        key, _, rest = line.partition(": ")
        merged[key] = f"{merged[key][:-1]}, {rest[1:]}" if key in merged else rest
    text = "\n".join(f"{key}: {rest}" for key, rest in merged.items())
    found = gather(text, env, sets, folder=tmp_path_factory.getbasetemp())
    for deployment in NAMES:
        for name in ("max_batch_size", "num_replicas"):
            candidates = [
                (("yaml", "env", "set").index(layer), owner is not None, value)
                for layer, owner, option, value in given_options
                if option == name and owner in (None, deployment)
            ]
            expected = max(candidates)[2] if candidates else None
            assert found.deployments[deployment].get(name) == expected


def test_overrides_reach_options_and_server(tmp_path):
    """Options go to deployments and to the server by their names, and win over the code."""
    found = gather(
        "port: 9000\nTagger:\n  max_batch_size: 2\nUrgency:\n",
        {"SALVER_API_KEY": "0123", "SALVER_TAGGER__NUM_CPUS": "1.5", "OTHER": "x"},
        ["Tagger.policy={Threshold: {p: 0.9}}"],
        folder=tmp_path,
    )
    assert found.server == {"port": 9000, "api_key": "0123"}
    options = found.options_for("Tagger", DeploymentOptions(max_batch_size=8))
    assert (options.max_batch_size, options.num_cpus) == (2, 1.5)
    assert options.policy == {"Threshold": {"p": 0.9}}
    assert found.options_for("Urgency", DeploymentOptions()) == DeploymentOptions()


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("0.5", 0.5), ("true", True), ("null", None), ("auto", "auto"), ("{", "{")],
)
def test_a_value_is_a_yaml_scalar(text, value):
    """Values of variables and --set have the types that YAML gives them."""
    assert gather(sets=[f"num_replicas={text}"]).deployments["Tagger"]["num_replicas"] == value


def test_a_text_that_yaml_cannot_make_a_date_of_stays_a_text():
    """An impossible date is the text that it is, not an error of the parser."""
    found = gather(sets=["batch_format=2024-13-45"])
    assert found.deployments["Tagger"]["batch_format"] == "2024-13-45"


def test_keys_and_hosts_are_texts():
    """An API key of digits keeps its leading zeros, a host is never a number."""
    found = gather(sets=["api_key=007", "host=0"])
    assert found.server == {"api_key": "007", "host": "0"}


WRONG = [
    # yaml, environment, --set, kind of error, words
    ("num_replica: 2", {}, [], UnknownOption, "'num_replicas'"),
    ("Tager: {num_replicas: 2}", {}, [], UnknownOption, "'Tagger'"),
    ("Tagger: {num_replica: 2}", {}, [], UnknownOption, "'num_replicas'"),
    ("Tagger: {port: 2}", {}, [], UnknownOption, "for Tagger"),
    ("Tagger: {1: 2}", {}, [], UnknownOption, "'1'"),
    ("Tagger: 5", {}, [], ConfigError, "mapping"),
    ("1: 2", {}, [], UnknownOption, "'1'"),
    ("- a", {}, [], ConfigError, "mapping"),
    ("[]", {}, [], ConfigError, "mapping"),
    ("false", {}, [], ConfigError, "mapping"),
    ("a: [", {}, [], ConfigError, "not valid YAML"),
    ("a: 2024-13-45", {}, [], ConfigError, "not valid YAML"),
    ("!!python/object/apply:os.getcwd []", {}, [], ConfigError, "not valid YAML"),
    (None, {"SALVER_NUM_REPLICA": "2"}, [], UnknownOption, "'num_replicas'"),
    (None, {"SALVER_TAGER__NUM_REPLICAS": "2"}, [], UnknownOption, "Tagger"),
    (None, {"SALVER_TAGGER__PORT": "2"}, [], UnknownOption, "for Tagger"),
    (None, {}, ["num_replica=2"], UnknownOption, "--set"),
    (None, {}, ["Tager.num_replicas=2"], UnknownOption, "Tagger"),
    (None, {}, ["Tagger.num_replica=2"], UnknownOption, "'num_replicas'"),
    (None, {}, ["num_replicas"], ConfigError, "NAME=VALUE"),
    (None, {}, ["=2"], ConfigError, "NAME=VALUE"),
]


@pytest.mark.parametrize(("yaml", "env", "sets", "kind", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_misspelt_or_broken_is_refused(tmp_path, yaml, env, sets, kind, words):
    """Nothing given outside the code is dropped silently."""
    with pytest.raises(kind, match=words):
        gather(yaml, env, sets, folder=tmp_path)


def test_the_file_may_be_named_by_the_environment(tmp_path):
    """SALVER_CONFIG names the file, an argument wins over it, a missing one is an error."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("port: 1")
    two.write_text("\ufeff# comments only\n", encoding="utf-8")
    env = {"SALVER_CONFIG": str(one)}
    assert gather_overrides(NAMES, None, (), env).server == {"port": 1}
    assert gather_overrides(NAMES, two, (), env).server == {}
    for unreadable in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            gather_overrides(NAMES, unreadable, (), {})
    two.write_bytes(b"port: \xff")
    with pytest.raises(ConfigError, match="not valid YAML"):
        gather_overrides(NAMES, two, (), {})


def test_variables_of_the_process_count(monkeypatch):
    """Without an argument the process's own environment is read; reserved names are no options."""
    monkeypatch.setenv("SALVER_PORT", "1234")
    monkeypatch.setenv("SALVER_CACHE_DIR", "/somewhere")
    monkeypatch.setenv("SALVER_TRACKING_URI", "sqlite:///x")
    assert gather_overrides(NAMES).server == {"port": 1234}


# --- the environment itself


def test_places_come_from_the_environment(monkeypatch, tmp_path):
    """The cache and the tracking server have variables, and defaults without them."""
    assert settings.cache_dir() == Path.home() / ".cache" / "salver"
    assert settings.tracking_uri() == "sqlite:///mlflow.db"
    monkeypatch.setenv("SALVER_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    assert settings.cache_dir() == tmp_path
    assert settings.tracking_uri() == "http://mlflow"
    monkeypatch.setenv("SALVER_TRACKING_URI", "http://own")
    assert settings.tracking_uri() == "http://own"


@pytest.mark.parametrize(
    ("value", "devices"), [(None, None), ("", []), ("0", ["0"]), ("0,GPU-a", ["0", "GPU-a"])]
)
def test_devices_are_those_that_cuda_may_see(monkeypatch, value, devices):
    """An empty list of devices means none, an absent one says nothing."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert settings.visible_devices() == devices


def test_a_child_inherits_the_environment_with_changes(monkeypatch):
    """A child process gets everything, and what is changed for it."""
    monkeypatch.setenv("SALVER_PORT", "1")
    child = settings.child_environment({"OMP_NUM_THREADS": "1", "SALVER_PORT": "2"})
    assert (child["OMP_NUM_THREADS"], child["SALVER_PORT"]) == ("1", "2")
    assert "PATH" in child
    assert settings.available_cores() >= 1
