import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def ask(trained: tuple[Path, str], dataset: Path) -> Iterator[Ask]:
    """Asks the running service: (status, parsed answer) of a route."""
    folder = trained[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("SALVER_CACHE_DIR", str(folder / "cache"))
        patch.setenv("SALVER_REPLICA", "thread")
        patch.setenv("MADEWITHML_DATA_DIRS", str(dataset.parent))
        patch.delitem(sys.modules, "madewithml.service", raising=False)
        from madewithml.service import service

        service.run(blocking=False, port=port)
        try:
            yield lambda route, body=None: _ask(f"http://127.0.0.1:{port}{route}", body)
        finally:
            service.shutdown()
            sys.modules.pop("madewithml.service")  # it is bound to a store that goes away


def _ask(url: str, body: Any) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_lessons_routes_answer(ask: Ask, trained: tuple[Path, str]) -> None:
    """Health is as in the lesson, and the run id is that of the best run."""
    assert ask("/") == (200, {"message": "OK", "status-code": 200, "data": {}})
    assert ask("/run_id/") == (200, {"run_id": json.loads(trained[1])["run_id"]})


def test_unsure_answers_are_other_and_probabilities_stay(ask: Ask) -> None:
    """Below the threshold the prediction is `other`; the probabilities are the model's own."""
    status, answer = ask("/predict/", [{"title": "image camera"}, {"title": " 65n7r5675"}])
    assert status == 200
    for result in answer["results"]:
        probabilities = result["probabilities"]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        top = max(probabilities, key=probabilities.__getitem__)
        assert result["prediction"] == (top if probabilities[top] >= 0.9 else "other")


def test_a_file_is_evaluated_by_the_served_model(ask: Ask, dataset: Path) -> None:
    """The metrics are the deployment's, with and without the threshold."""
    status, answer = ask("/evaluate/", {"dataset": dataset.name})
    assert status == 200
    assert answer["overall"]["num_samples"] == answer["with_threshold"]["num_samples"] == 48
    assert set(answer["per_class"]) >= {"mlops", "other"}
    assert answer["failed_rows"] == 0
    assert 0 <= answer["answered"] <= 1


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("../projects.csv", 422),
        ("/etc/passwd", 422),
        ("file:///etc/passwd", 422),
        ("a\0b", 422),
        ("", 422),
        ("missing.csv", 404),
        ("broken.csv", 422),
    ],
)
def test_only_files_of_the_data_folders_are_read(
    ask: Ask, dataset: Path, name: str, status: int
) -> None:
    """Paths that lead out, missing and broken files are refused, without telling any path."""
    (dataset.parent / "broken.csv").write_text("id,title\n1,T\n")
    code, answer = ask("/evaluate/", {"dataset": name})
    assert code == status
    assert str(dataset.parent) not in json.dumps(answer)
