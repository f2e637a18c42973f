"""MLflow's REST protocol over a real MLflow store, as much of it as a reader of models needs.

MLflow's own server needs packages that reading models does not, so the tests put this face before
the real SQLite store: the answers are MLflow's own messages, and artefacts are files in a folder.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.protos.service_pb2 import SearchRuns
from mlflow.utils.proto_json_utils import message_to_json

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


class MlflowServer:
    """A tracking server on loopback.

    Attributes:
        uri: Its tracking URI.
        served: Paths of the artefacts that were asked for, in order.
        before_artifact: Called with the path of an artefact once its first half was sent.
    """

    def __init__(self, store_uri: str, artifacts: Path) -> None:
        self.client = MlflowClient(store_uri)
        self.artifacts = artifacts
        self.served: list[str] = []
        self.before_artifact: Callable[[str], object] = lambda path: None
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._http.server_port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[MlflowServer]:
        """Answers until the block ends; then the port is closed."""
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()

    def answer(self, path: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        """The JSON answer to one call of the API."""
        if path == "experiments/get-by-name":
            found = self.client.get_experiment_by_name(query["experiment_name"])
            if found is None:
                raise MlflowException("no such experiment", RESOURCE_DOES_NOT_EXIST)
            return {"experiment": _json(found)}
        if path == "experiments/search":
            return {"experiments": [_json(e) for e in self.client.search_experiments()]}
        if path == "runs/get":
            return {"run": _json(self.client.get_run(query["run_id"]))}
        if path == "runs/search":
            page = self.client.search_runs(
                body["experiment_ids"],
                body.get("filter", ""),
                ViewType.ACTIVE_ONLY,
                body["max_results"],
                body.get("order_by"),
                body.get("page_token") or None,
            )
            message = SearchRuns.Response(next_page_token=page.token or "")
            message.runs.extend(run.to_proto() for run in page)
            return dict(json.loads(message_to_json(message)))
        return self._answer_of_models(path, query)

    def _answer_of_models(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        if path.startswith("logged-models/"):
            found = self.client.get_logged_model(path.removeprefix("logged-models/"))
            return {"model": _json(found)}
        if path == "registered-models/alias":
            return {
                "model_version": _json(
                    self.client.get_model_version_by_alias(query["name"], query["alias"])
                )
            }
        if path == "registered-models/get":
            return {"registered_model": _json(self.client.get_registered_model(query["name"]))}
        if path == "model-versions/get":
            version = self.client.get_model_version(query["name"], query["version"])
            return {"model_version": _json(version)}
        if path == "model-versions/get-download-uri":
            uri = self.client.get_model_version_download_uri(query["name"], query["version"])
            return {"artifact_uri": uri}
        raise MlflowException(f"this face has no {path}")

    def listing(self, path: str) -> dict[str, Any]:
        """The files of one artefact folder."""
        folder = self.artifacts / path
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        return {"files": [{"path": e.name, "is_dir": e.is_dir()} for e in entries]}


def _json(entity: Any) -> Any:
    return json.loads(message_to_json(entity.to_proto()))


def _handler(server: MlflowServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            if url.path == ARTIFACTS:
                self._send(200, server.listing(query["path"]))
            elif url.path.startswith(ARTIFACTS + "/"):
                self._send_file(url.path.removeprefix(ARTIFACTS + "/"))
            else:
                try:
                    self._send(200, server.answer(url.path.removeprefix(API), query, body))
                except MlflowException as error:
                    self._send(error.get_http_status_code(), json.loads(error.serialize_as_json()))

        do_POST = do_GET

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _send_file(self, path: str) -> None:
            data = (server.artifacts / path).read_bytes()
            server.served.append(path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(OSError):  # a client that was killed
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                server.before_artifact(path)
                self.wfile.write(data[len(data) // 2 :])

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test's output is about the test."""

    return Handler
