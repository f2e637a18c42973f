from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import re
import subprocess
import sys
import textwrap

import pytest

import salver

NAMES = [
    "Checkpoint",
    "ConformalSet",
    "Coverage",
    "Deployment",
    "Failure",
    "Novelty",
    "Outcome",
    "Policy",
    "Precision",
    "SalverError",
    "Scored",
    "Service",
    "Threshold",
    "best_checkpoint",
    "checkpoint",
    "deployment",
    "model",
]
# Heavy or foreign: `import salver` and `salver --help` must stay instant.
HEAVY = {"fastapi", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "torch", "uvicorn"}


def in_fresh_process(code: str) -> object:
    """What the code prints as JSON, in an interpreter that has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_public_names_are_these():
    """A name that users import is neither lost nor added by accident."""
    assert salver.__all__ == NAMES
    assert set(NAMES) <= set(dir(salver))


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_can_be_imported(name):
    """Each name leads to the object that bears it."""
    assert getattr(salver, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt import fails as it does for any module."""
    with pytest.raises(AttributeError, match="deploymnet"):
        salver.deploymnet  # noqa: B018
    with pytest.raises(ImportError):
        from salver import deploymnet  # noqa: F401


def test_no_submodule_hides_a_public_name():
    """After every submodule was imported, the names are still those of the interface."""
    found = in_fresh_process(
        """
        import importlib, json, pkgutil, salver
        for module in pkgutil.walk_packages(salver.__path__, "salver."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        from salver import deployment
        kinds = {name: type(getattr(salver, name)).__name__ for name in salver.__all__}
        print(json.dumps([kinds, callable(deployment)]))
        """
    )
    assert found[1] is True
    assert "module" not in found[0].values()
    assert found[0]["deployment"] == "function"


def test_importing_salver_imports_nothing_heavy():
    """`import salver` loads no library that a user may not need."""
    loaded = in_fresh_process("import json, sys, salver; print(json.dumps(sorted(sys.modules)))")
    assert HEAVY & set(loaded) == set()
    assert [name for name in loaded if name.startswith("salver")] == ["salver"]


def test_asking_for_help_imports_nothing_heavy():
    """`salver --help` answers before any heavy library is loaded."""
    loaded = in_fresh_process(
        """
        import contextlib, io, json, sys
        from salver.cli import main
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            sys.argv = ["salver", "--help"]
            main()
        assert "predict" in shown.getvalue()
        print(json.dumps(sorted(sys.modules)))
        """
    )
    assert HEAVY & set(loaded) == set()


def test_the_package_says_that_it_is_typed():
    """The marker file ships with the package, so that type checkers read its annotations."""
    assert (importlib.resources.files("salver") / "py.typed").is_file()


def test_the_package_alone_brings_no_framework():
    """They are extras, each named by the error that wants it."""
    needed = {
        re.split(r"[^\w-]", line)[0].lower()
        for line in importlib.metadata.requires("salver") or []
        if "extra ==" not in line
    }
    frameworks = {
        "catboost", "flax", "jax", "keras", "langchain-core", "lightgbm", "onnx", "onnxruntime",
        "pandas", "ray", "scikit-learn", "tensorflow", "torch", "transformers", "xgboost",
    }  # fmt: skip
    assert "mlflow-skinny" in needed
    assert set() == needed & frameworks
