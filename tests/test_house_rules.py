"""Rules that hold for every module of the package; each says why in its docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import salver

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "salver"
UNIT = ROOT / "tests" / "unit"
FRAMEWORKS = ROOT / "tests" / "frameworks"
MODULES = sorted(SOURCE.rglob("*.py"))

# Modules that only mean something with real processes, sockets or services, and where their
# tests are. Any other module has its mirror in tests/unit.
TESTED_ELSEWHERE = {
    "__init__.py": "tests/test_public_api.py",
    "account/__init__.py": "tests/e2e/test_cli_report.py",
    "account/file.py": "tests/unit/account/test_store.py",
    "account/metrics.py": "tests/unit/account/test_account.py",
    "account/reading.py": "tests/unit/account/test_account.py",
    "account/results.py": "tests/unit/account/test_evaluation.py",
    "bare.py": "tests/parity",  # it is one of the paths that are compared
    "calibration/__init__.py": "tests/e2e/test_cli_calibrate.py",
    "calibration/page.py": "tests/unit/calibration/test_calibration_page.py",
    "calibration/pictures.py": "tests/unit/calibration/test_calibration_page.py",
    "calibration/results.py": "tests/unit/calibration/test_calibration_table.py",
    "calibration/table.py": "tests/unit/calibration/test_calibration_table.py",
    "calibration/run.py": "tests/e2e/test_cli_calibrate.py",  # it joins the others
    "cli/account.py": "tests/e2e/test_cli_report.py",
    "cli/calibrate.py": "tests/e2e/test_cli_calibrate.py",
    "cli/__init__.py": "tests/e2e",  # its commands start servers and jobs
    "cli/__main__.py": "tests/on_ray",
    "cli/on_ray.py": "tests/on_ray",
    "cli/shared.py": "tests/e2e",
    "cluster/beforehand.py": "tests/on_ray",
    "cluster/connection.py": "tests/on_ray",  # it starts Ray
    "cluster/data.py": "tests/on_ray",
    "cluster/handle.py": "tests/on_ray",
    "cluster/ingress.py": "tests/on_ray",
    "cluster/assigning.py": "tests/on_ray/test_variants_on_ray.py",
    "cluster/life.py": "tests/on_ray",
    "cluster/picture.py": "tests/on_ray/test_simulate.py",
    "monitoring/__init__.py": "tests/e2e/test_cli_report.py",
    "monitoring/feedback.py": "tests/e2e/test_cli_report.py",
    "monitoring/page.py": "tests/unit/monitoring/test_monitoring_page.py",
    "monitoring/pictures.py": "tests/unit/monitoring/test_monitoring_page.py",
    "monitoring/run.py": "tests/e2e/test_cli_report.py",  # it joins the others
    "monitoring/table.py": "tests/unit/monitoring/test_monitoring_table.py",
    "run.py": "tests/e2e",  # it joins all the others
    "subject.py": "tests/e2e/test_cli_calibrate.py",  # of verbs about one model
    "session.py": "tests/e2e/test_session.py",  # it starts engines and servers
    "policies/__init__.py": "tests/unit/policies",
    "trust/calibrators.py": "tests/unit/trust/test_calibration.py",
    "outputs.py": "tests/unit/test_pipeline.py",  # what a pipeline makes of a model's output
    "parity.py": "tests/parity",  # it compares the real paths with each other
    "predictions.py": "tests/e2e",  # it starts an engine and an offline job
    "engine/daemon.py": "tests/unit/engine/test_replica.py",  # the thread of a thread replica
    "engine/worker.py": "tests/contract",  # it is the main program of a child process
    "offline/columns.py": "tests/unit/offline/test_readers.py",  # which columns a file must have
    "offline/commit.py": "tests/unit/offline/test_job.py",  # what a job leaves when it ends
    "offline/csv_records.py": "tests/unit/offline/test_text_readers.py",  # through the CSV reader
    "offline/layout.py": "tests/unit/offline/test_writers.py",  # types of the written columns
    "offline/results.py": "tests/unit/offline/test_job.py",  # order and quarantine of a chunk
    "offline/rows.py": "tests/unit/offline/test_readers.py",  # what readers yield
    "models/frameworks/__init__.py": "tests/unit/models/test_adoption.py",
    "models/frameworks/exported.py": "tests/frameworks/test_pytorch.py",
    "models/frameworks/networks.py": "tests/frameworks/test_pytorch.py",
    "cli/optimize.py": "tests/e2e/test_cli_optimize.py",
    "models/variants/__init__.py": "tests/e2e/test_cli_optimize.py",
    "optimization/__init__.py": "tests/e2e/test_cli_optimize.py",
    "optimization/builder.py": "tests/e2e/test_cli_optimize.py",  # it starts the next one
    "optimization/building.py": "tests/unit/optimization/test_optimize.py",
    "optimization/export_torch.py": "tests/e2e/test_cli_optimize.py",
    "optimization/graphs.py": "tests/e2e/test_cli_optimize.py",
    "optimization/measuring.py": "tests/e2e/test_cli_optimize.py",  # it starts replicas
    "optimization/pictures.py": "tests/unit/optimization/test_page.py",
    "optimization/results.py": "tests/unit/optimization/test_table.py",
    "models/frameworks/protobuf.py": "tests/frameworks/test_saved_model.py",
    "models/frameworks/tables.py": "tests/frameworks/test_lightgbm.py",
    "models/frameworks/texts.py": "tests/frameworks/test_transformers.py",
    "models/signature.py": "tests/frameworks/test_signature.py",
    "models/unpickling.py": "tests/frameworks",
    "online/refusals.py": "tests/unit/online/test_predict.py",  # the errors of the short lane
    "online/http_deadlines.py": "tests/e2e",
    "online/http_protocol.py": "tests/e2e",
    "online/http_rules.py": "tests/e2e",
    "online/http_scope.py": "tests/e2e",
}
# os.environ outside of settings, and why.
ENVIRONMENT_ELSEWHERE = {
    "models/mlflow_client.py",  # MLflow takes its retries and timeouts from there only
}
# Modules whose classes users hold in their hands.
FOR_USERS = {
    "definition.py",
    "errors.py",
    "models/checkpoint.py",
    "models/reference.py",
    "policies/promises.py",
    "policies/scored.py",
    "policies/threshold.py",
    "schema.py",
    "service.py",
    "options.py",
    "settings.py",
    "testing.py",
    "types.py",
}
FORBIDDEN = {
    # what may not occur in code, and why
    r"\bshell\s*=\s*True\b": "a shell reads more into an argument than was meant",
    r"\bos\.(system|popen)\b": "a shell reads more into an argument than was meant",
    r"\bimport (pickle|dill|cloudpickle|joblib|marshal|shelve)\b": "loading data runs no code",
    r"\bfrom (pickle|dill|cloudpickle|joblib|marshal|shelve)\b": "loading data runs no code",
    r"\b(pickle|dill|cloudpickle|joblib|marshal)\.": "loading data runs no code",
    r"(?<![\w.])(eval|exec)\(": "data is not code",
    r"allow_pickle\s*=\s*True": "loading data runs no code",
    r"weights_only\s*=\s*False": "loading weights runs no code",
    r"\byaml\.(load|unsafe_load|full_load)\(": "loading options runs no code",
    r"verify\s*=\s*False": "certificates are checked",
    r"\bassert False\b": "raise an error that says what is wrong",
    r"\b(TODO|FIXME|XXX|HACK)\b": "what is left to do is an issue",
    r"#\s*type:\s*ignore(?!\[)": "an ignored type error says which one",
    r"^\s*from \.": "imports are absolute",
}


# Where some of these occur all the same: models whose code was allowed are loaded there.
ALLOWED_CODE = {"models/unpickling.py"}


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


every_module = pytest.mark.parametrize("path", MODULES, ids=relative)


def without_texts(path: Path) -> str:
    """The source with docstrings and other texts blanked, so that only code is looked at."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.end_lineno:
            for number in range(node.lineno - 1, node.end_lineno):
                raw = lines[number].encode()
                start = node.col_offset if number == node.lineno - 1 else 0
                end = node.end_col_offset if number == node.end_lineno - 1 else len(raw)
                blank = b" " * ((end or 0) - start)
                lines[number] = (raw[:start] + blank + raw[end:]).decode()
    return "\n".join(lines)


def public_nodes(tree: ast.Module, methods: bool) -> Iterator[Any]:
    """Public functions and classes of a module, and perhaps the public methods of such classes."""
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_") and not _is_overload(node):
            yield node
            if isinstance(node, ast.ClassDef) and methods:
                yield from (
                    inner
                    for inner in node.body
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                    and not inner.name.startswith("_")
                    and not _is_overload(inner)
                )


def _is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


@every_module
def test_a_module_is_short(path):
    """A module of more than 400 lines has two subjects."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@every_module
def test_a_module_has_its_tests(path):
    """Each module has a mirror in tests/unit, or stands in the list of those tested elsewhere."""
    name = relative(path)
    mirror = UNIT / path.relative_to(SOURCE).parent / f"test_{path.name}"
    if name.startswith("models/frameworks/"):  # adapters are tested with their frameworks
        mirror = FRAMEWORKS / f"test_{path.name}"
    if all(isinstance(n, ast.Expr) for n in ast.parse(path.read_text(encoding="utf-8")).body):
        return  # a package's __init__ that holds a docstring or nothing
    if name in TESTED_ELSEWHERE:
        where = ROOT / TESTED_ELSEWHERE[name]
        assert not mirror.exists(), f"{name} has a mirror; take it off the list"
        assert where.is_file() or list(where.glob("test_*.py")), f"{where} has no tests"
    else:
        assert mirror.exists(), f"write {mirror.relative_to(ROOT)}"


def test_the_lists_name_modules_that_exist():
    """An exception for a module that is gone is taken off its list."""
    names = {relative(path) for path in MODULES}
    assert set(TESTED_ELSEWHERE) <= names
    assert names >= ENVIRONMENT_ELSEWHERE | FOR_USERS | ALLOWED_CODE


@every_module
def test_the_environment_is_read_in_one_place(path):
    """Options that come from the environment are all to be found in settings."""
    reads = re.search(r"\benviron\b|\bgetenv\b|\bputenv\b", without_texts(path))
    if relative(path) in ENVIRONMENT_ELSEWHERE:
        assert reads, "take it off the list"
    elif relative(path) != "settings.py":
        assert not reads


@every_module
def test_dangerous_code_does_not_occur(path):
    """No shell, no unpickling, no evaluation of data, no unchecked certificate."""
    if relative(path) in ALLOWED_CODE:
        return
    code = without_texts(path)
    found = [why for words, why in FORBIDDEN.items() if re.search(words, code, re.MULTILINE)]
    assert found == []


@every_module
def test_public_things_are_documented(path):
    """Each module, public class and function says what it is for; before users, each method too."""
    source = path.read_text(encoding="utf-8")
    if not source.strip():
        return
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    nodes = public_nodes(tree, methods=relative(path) in FOR_USERS)
    missing = [node.name for node in nodes if not ast.get_docstring(node)]
    assert missing == []


@every_module
def test_a_module_does_not_speak_of_its_making(path):
    """The source holds no path of anybody's machine and no host of anybody's network."""
    source = path.read_text(encoding="utf-8")
    assert re.findall(r"(?:/work/|/home/\w+|/Users/\w+|/root\b|/tmp/\w+)", source) == []


def test_the_version_is_the_newest_in_the_changelog():
    """The package, its metadata and the changelog agree on the version."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.search(r'^version = "(.+)"$', metadata, re.MULTILINE)
    assert newest is not None
    assert declared is not None
    assert newest[1] == declared[1] == salver.__version__


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda p: p.stem)
def test_a_test_says_what_it_shows(path):
    """Each test has one sentence of behaviour as its docstring."""
    missing = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert missing == []


@pytest.mark.parametrize("path", sorted(UNIT.rglob("*.py")), ids=lambda p: p.stem)
def test_a_unit_test_does_not_sleep(path):
    """Unit tests wait for events or on a clock of their own, never for time."""
    assert not re.search(r"\btime\.sleep\(", without_texts(path))
