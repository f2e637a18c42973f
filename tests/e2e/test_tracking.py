"""References resolved against real MLflow: a SQLite store, MLflow's client, and its protocol."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow_server import MlflowServer

from salver import Checkpoint, best_checkpoint, checkpoint
from salver.errors import (
    CheckpointCorrupt,
    CheckpointError,
    ExperimentNotFound,
    MetricNotFound,
    ModelNotFound,
    NoRuns,
    RunNotFound,
    TrackingError,
    TrackingUnavailable,
)
from salver.models import mlflow_client
from salver.models.cache import CheckpointCache
from salver.models.description import Description
from salver.models.mlflow_client import MlflowStore
from salver.models.mlflow_sqlite import SqliteStore
from salver.models.reference import CheckpointReference, ModelVersion
from salver.models.runs import TrackingStore
from salver.models.tracking import best_run, resolve

NAMES = (f"experiment-{number}" for number in itertools.count())


class Lab:
    """A real MLflow store in which tests train pretended models."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = root / "mlflow.db"
        self.uri = f"sqlite:///{self.database}"
        self.artifacts = root / "artifacts"
        self.client = MlflowClient(self.uri)

    def experiment(self, *, proxied: bool = False) -> str:
        """A new experiment; with its artefacts behind the server if it is proxied."""
        name = next(NAMES)
        location = f"mlflow-artifacts:/{name}" if proxied else str(self.artifacts / name)
        self.client.create_experiment(name, artifact_location=location)
        return name

    def run(
        self,
        experiment: str,
        status: str | None = "FINISHED",
        start_time: int | None = None,
        **metrics: float | list[float],
    ) -> str:
        """A run that logged `metrics`, one value per step; without status it stays open."""
        found = self.client.get_experiment_by_name(experiment)
        run_id = str(self.client.create_run(found.experiment_id, start_time).info.run_id)
        for metric, values in metrics.items():
            for step, value in enumerate(values if isinstance(values, list) else [values]):
                self.client.log_metric(run_id, metric, value, step=step)
        if status:
            self.client.set_terminated(run_id, status)
        return run_id

    def folder(self, experiment: str, run_id: str, name: str = "checkpoint") -> Path:
        """Where the artefacts of a run lie, on this machine."""
        return self.artifacts / experiment / run_id / "artifacts" / name

    def trained(self, experiment: str, weights: bytes = b"weights", **metrics: float) -> str:
        """A finished run with a checkpoint."""
        run_id = self.run(experiment, **metrics)
        folder = self.folder(experiment, run_id)
        (folder / "tokenizer").mkdir(parents=True)
        (folder / "model.pt").write_bytes(weights)
        (folder / "tokenizer" / "vocab.txt").write_text("a b c")
        Checkpoint.create(folder, {"run_id": run_id, "class_to_index": {"mlops": 0}})
        return run_id

    def log_booster(self, name: str, run_id: str) -> Path:
        """A folder of the run with a model as MLflow would have written it."""
        lightgbm = pytest.importorskip("lightgbm")
        folder = self.artifacts / name / run_id / "artifacts" / "model"
        (folder / "data").mkdir(parents=True)
        rows = np.arange(40.0).reshape(20, 2)
        dataset = lightgbm.Dataset(rows, rows[:, 0])
        found = lightgbm.train({"verbose": -1, "min_data": 1}, dataset, 1)
        found.save_model(folder / "data" / "model.lgb")
        (folder / "MLmodel").write_text("flavors: {lightgbm: {data: data/model.lgb}}")
        return folder

    def logged(self, run_id: str, name: str) -> Any:
        """A model that MLflow 3 has logged for a run, without files."""
        experiment_id = self.client.get_run(run_id).info.experiment_id
        made = self.client.create_logged_model(experiment_id, name, source_run_id=run_id)
        self.client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
        return made

    def register(self, source: str, alias: str | None = None, name: str | None = None) -> str:
        """The name of a registered model with a version made from `source`."""
        if name is None:
            name = f"model-{next(NAMES)}"
            self.client.create_registered_model(name)
        version = self.client.create_model_version(name, source=source)
        if alias:
            self.client.set_registered_model_alias(name, alias, version.version)
        return name


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One store for all tests: MLflow takes seconds to make one."""
    return Lab(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def server(lab: Lab) -> Iterator[MlflowServer]:
    """MLflow's protocol over the store of the lab."""
    with MlflowServer(lab.uri, lab.artifacts).running() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> CheckpointCache:
    """An empty cache."""
    return CheckpointCache(tmp_path / "cache")


@pytest.fixture(params=["sqlite", "client", "server"])
def store(request: pytest.FixtureRequest, lab: Lab) -> TrackingStore:
    """Each way to ask the one store: the answers must be the same."""
    if request.param == "sqlite":
        return SqliteStore(lab.uri)
    if request.param == "client":
        return MlflowStore(lab.uri)
    return MlflowStore(request.getfixturevalue("server").uri)


def run_entry(
    references: list[CheckpointReference], cache: CheckpointCache
) -> subprocess.Popen[str]:
    """Starts `python -m salver.models.resolve` on `references`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "salver.models.resolve"],
        env={**os.environ, "SALVER_CACHE_DIR": str(cache.root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps([reference.to_json() for reference in references]))
    process.stdin.close()
    process.stdin = None
    return process


def results(process: subprocess.Popen[str], timeout_s: float = 60) -> list[dict[str, Any]]:
    """What the entry answered."""
    stdout, stderr = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, stderr
    return list(json.loads(stdout))


class TestBestRun:
    """The choice of a run, the same for every store."""

    def test_mode_decides_between_lowest_and_highest(self, lab: Lab, store: TrackingStore) -> None:
        """min takes the lowest value and max the highest, with the value and its artefacts."""
        name = lab.experiment()
        runs = [lab.run(name, loss=value, f1=1 - value) for value in (0.5, 0.25, 0.75)]

        lowest = store.best_run(name, "loss", "min")
        assert (lowest.run_id, lowest.value, lowest.metric) == (runs[1], 0.25, "loss")
        assert lowest.artifact_uri == str(lab.artifacts / name / runs[1] / "artifacts")
        assert store.best_run(name, "loss", "max").run_id == runs[2]
        assert store.best_run(name, "f1", "max").run_id == runs[1]

    def test_the_last_value_counts(self, lab: Lab, store: TrackingStore) -> None:
        """A run that was better once and ended worse is judged by its end."""
        name = lab.experiment()
        lab.run(name, loss=[0.1, 0.9])
        steady = lab.run(name, loss=[0.6, 0.5])

        assert store.best_run(name, "loss", "min").run_id == steady

    @pytest.mark.parametrize("mode", ["min", "max"])
    def test_a_diverged_run_never_wins(self, lab: Lab, store: TrackingStore, mode: Any) -> None:
        """NaN and both infinities lose to any number."""
        name = lab.experiment()
        for value in (float("nan"), float("inf"), float("-inf")):
            lab.run(name, loss=[0.1, value])
        honest = lab.run(name, loss=7.0)

        assert store.best_run(name, "loss", mode).run_id == honest

    def test_only_finished_runs_count(self, lab: Lab, store: TrackingStore) -> None:
        """Open, failed, killed and deleted runs are not served, however good."""
        name = lab.experiment()
        lab.run(name, status=None, loss=0.0)
        lab.run(name, status="FAILED", loss=0.0)
        lab.run(name, status="KILLED", loss=0.0)
        lab.client.delete_run(lab.run(name, loss=0.0))
        finished = lab.run(name, loss=0.5)

        assert store.best_run(name, "loss", "min").run_id == finished

    def test_of_equals_the_first_wins(self, lab: Lab, store: TrackingStore) -> None:
        """Training the same again does not change what is served."""
        name = lab.experiment()
        lab.run(name, start_time=3_000, loss=0.5)
        first = lab.run(name, start_time=1_000, loss=0.5)
        lab.run(name, start_time=2_000, loss=0.5)

        assert store.best_run(name, "loss", "min").run_id == first
        assert store.best_run(name, "loss", "max").run_id == first

    def test_many_runs_are_all_seen(
        self, lab: Lab, store: TrackingStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The best is found behind pages of runs that cannot win."""
        monkeypatch.setattr(mlflow_client, "_PAGE", 2)
        name = lab.experiment()
        for _ in range(5):
            lab.run(name, loss=float("inf"))
        best = lab.run(name, loss=2.0)
        lab.run(name, loss=1.0)

        assert store.best_run(name, "loss", "max").run_id == best

    def test_names_are_not_query_language(self, lab: Lab, store: TrackingStore) -> None:
        """Metrics and experiments with quotes, dots, slashes and blanks are names like others."""
        name = f'it\'s "a" 100% {next(NAMES)}'
        lab.client.create_experiment(name, artifact_location=str(lab.artifacts))
        run_id = lab.run(name, **{"val/f1.macro: top-1": 0.5})

        assert store.best_run(name, "val/f1.macro: top-1", "max").run_id == run_id
        for strange in ("x' OR 1=1 --", "`", '"', "é"):
            with pytest.raises(MetricNotFound):
                store.best_run(name, strange, "min")

    def test_a_missing_experiment_names_the_nearest(self, lab: Lab, store: TrackingStore) -> None:
        """A misspelt experiment is an error that names its neighbour; a deleted one is missing."""
        name = lab.experiment()
        with pytest.raises(ExperimentNotFound, match=f"no experiment .*'{name}'"):
            store.best_run(name.replace("m", "n", 1), "loss", "min")
        found = lab.client.get_experiment_by_name(name)
        lab.client.delete_experiment(found.experiment_id)
        with pytest.raises(ExperimentNotFound):
            store.best_run(name, "loss", "min")

    def test_no_finished_runs_says_what_there_is(self, lab: Lab, store: TrackingStore) -> None:
        """An empty experiment and one that is still training are told apart."""
        name = lab.experiment()
        with pytest.raises(NoRuns, match="none at all"):
            store.best_run(name, "loss", "min")
        lab.run(name, status=None, loss=0.5)
        lab.run(name, status="FAILED", loss=0.5)
        with pytest.raises(NoRuns, match="1 FAILED, 1 RUNNING"):
            store.best_run(name, "loss", "min")

    def test_a_missing_metric_names_those_there_are(self, lab: Lab, store: TrackingStore) -> None:
        """A misspelt metric is an error that lists the logged ones, and NaN is not missing."""
        name = lab.experiment()
        lab.run(name, val_loss=0.5, f1=0.5, broken=float("nan"))
        with pytest.raises(MetricNotFound, match=r"Metrics there: broken, f1, val_loss\."):
            store.best_run(name, "loss", "min")
        with pytest.raises(MetricNotFound, match="NaN"):
            store.best_run(name, "broken", "min")

    def test_the_function_asks_the_same(self, lab: Lab) -> None:
        """`best_run` is the store's answer for a URI."""
        name = lab.experiment()
        run_id = lab.run(name, loss=0.5)

        assert best_run(name, "loss", tracking_uri=lab.uri).run_id == run_id


class TestRunsAndModels:
    """What a run id, a version or an alias names, the same for every store."""

    def test_a_run_has_artifacts(self, lab: Lab, store: TrackingStore) -> None:
        """A run is found by id, whatever its status; a wrong or deleted one is not."""
        name = lab.experiment()
        run_id = lab.run(name, status=None)

        assert store.artifact_uri(run_id) == str(lab.artifacts / name / run_id / "artifacts")
        lab.client.delete_run(run_id)
        with pytest.raises(RunNotFound, match=r"was deleted"):
            store.artifact_uri(run_id)
        with pytest.raises(RunNotFound, match=r"no run 'abc'"):
            store.artifact_uri("abc")

    def test_an_alias_is_a_version(self, lab: Lab, store: TrackingStore) -> None:
        """An alias leads to the version that bears it now, by number and with its source."""
        model = lab.register("runs:/aaa/checkpoint", alias="champion")
        lab.register("runs:/bbb/checkpoint", name=model)

        pinned = (ModelVersion(model, 1, None), "runs:/aaa/checkpoint")
        assert store.model_source(ModelVersion(model, None, "champion")) == pinned
        assert store.model_source(ModelVersion(model, 1, None)) == pinned
        lab.client.set_registered_model_alias(model, "champion", "2")
        moved = store.model_source(ModelVersion(model, None, "champion"))
        assert moved == (ModelVersion(model, 2, None), "runs:/bbb/checkpoint")

    def test_what_is_not_registered_is_named(self, lab: Lab, store: TrackingStore) -> None:
        """A wrong name, version or alias is a model that does not exist."""
        model = lab.register("runs:/aaa/checkpoint", alias="champion")
        for wrong in (
            ModelVersion(model, 2, None),
            ModelVersion(model, None, "champoin"),
            ModelVersion("no such model", 1, None),
            ModelVersion("no such model", None, "champion"),
        ):
            with pytest.raises(ModelNotFound, match=f"There is no {wrong}"):
                store.model_source(wrong)

    def test_a_model_that_a_run_has_logged_is_found_by_its_name(
        self, lab: Lab, store: TrackingStore
    ) -> None:
        """The last of that name, wherever MLflow keeps it; a deleted one is gone."""
        run_id = lab.run(lab.experiment())
        lab.logged(run_id, "tagger")
        last = lab.logged(run_id, "tagger")
        other = lab.logged(run_id, "other")

        assert store.model_of_run(run_id, "tagger") == last.artifact_location
        assert store.logged_model(other.model_id) == other.artifact_location
        assert store.model_of_run(run_id, "checkpoint") is None
        with pytest.raises(ModelNotFound, match="no model 'm-0123456789abcdef'"):
            store.logged_model("m-0123456789abcdef")


class TestResolve:
    """From a reference to a verified folder."""

    def test_the_best_run_is_fetched(self, lab: Lab, cache: CheckpointCache) -> None:
        """The folder of the best run arrives whole, pinned to its run and digest."""
        name = lab.experiment()
        lab.trained(name, b"worse", loss=0.5)
        best = lab.trained(name, b"better", loss=0.25)

        found = resolve(best_checkpoint(name, metric="loss", tracking_uri=lab.uri), cache)

        assert not found.stale
        assert found.checkpoint.source == f"runs:/{best}/checkpoint"
        assert found.checkpoint.file("model.pt").read_bytes() == b"better"
        assert found.checkpoint == Checkpoint.open(found.checkpoint, found.checkpoint.digest)
        assert found.checkpoint.metadata["run_id"] == best
        assert cache.root in found.checkpoint.path.parents

    def test_files_are_fetched_once(
        self, lab: Lab, server: MlflowServer, cache: CheckpointCache
    ) -> None:
        """A second start asks which checkpoint it is, and fetches no more than its manifest."""
        name = lab.experiment(proxied=True)
        run_id = lab.trained(name, loss=0.5)
        reference = checkpoint(f"runs:/{run_id}/checkpoint", tracking_uri=server.uri)

        first = resolve(reference, cache)
        fetched = [Path(path).name for path in server.served]
        again = resolve(reference, cache)

        assert sorted(fetched) == ["manifest.json", "model.pt", "vocab.txt"]
        assert [Path(path).name for path in server.served[3:]] == ["manifest.json"]
        assert first == again

    def test_an_alias_is_followed_at_each_start(self, lab: Lab, cache: CheckpointCache) -> None:
        """An alias that moved means another checkpoint, named by its version."""
        name = lab.experiment()
        runs = [lab.trained(name, weights) for weights in (b"one", b"two")]
        model = lab.register(f"runs:/{runs[0]}/checkpoint", alias="champion")
        # MLflow's own register_model takes the path of an artefact folder, so that counts too.
        lab.register(str(lab.folder(name, runs[1])), name=model)
        reference = checkpoint(f"models:/{model}@champion", tracking_uri=lab.uri)

        one = resolve(reference, cache).checkpoint
        lab.client.set_registered_model_alias(model, "champion", "2")
        two = resolve(reference, cache).checkpoint

        assert (one.source, two.source) == (f"models:/{model}/1", f"models:/{model}/2")
        assert one.file("model.pt").read_bytes() == b"one"
        assert two.file("model.pt").read_bytes() == b"two"

    def test_a_promoted_version_is_the_original(
        self, lab: Lab, store: TrackingStore, cache: CheckpointCache
    ) -> None:
        """A version copied to another model, as MLflow promotes them, is the same checkpoint."""
        name = lab.experiment()
        run_id = lab.trained(name)
        staging = lab.register(f"runs:/{run_id}/checkpoint")
        production = f"production-{next(NAMES)}"
        lab.client.copy_model_version(f"models:/{staging}/1", production)

        assert store.model_source(ModelVersion(production, 1, None))[1] == (
            f"runs:/{run_id}/checkpoint"
        )
        found = resolve(checkpoint(f"models:/{production}/1", tracking_uri=lab.uri), cache)
        assert found.checkpoint.digest == Checkpoint.open(lab.folder(name, run_id)).digest

    @pytest.mark.parametrize("proxied", [False, True])
    def test_a_model_of_mlflow_becomes_a_checkpoint(
        self, lab: Lab, server: MlflowServer, cache: CheckpointCache, proxied: bool
    ) -> None:
        """By run, by version and by alias, from a folder or through a server; folders included."""
        name = lab.experiment(proxied=proxied)
        run_id = lab.run(name)
        lab.log_booster(name, run_id)
        model = lab.register(f"runs:/{run_id}/model", alias="champion")
        uri = server.uri if proxied else lab.uri

        resolved = [
            resolve(checkpoint(one, tracking_uri=uri), cache).checkpoint
            for one in (f"runs:/{run_id}/model", f"models:/{model}@champion", f"models:/{model}/1")
        ]

        assert ["lightgbm"] * 3 == [Description.of(one).framework for one in resolved]
        assert f"models:/{model}/1" == resolved[1].source
        assert resolved[1].digest == resolved[2].digest
        assert {"MLmodel", "data/model.lgb"} == set(resolved[0].files)

    def test_a_model_of_mlflow_is_fetched_once(
        self, lab: Lab, server: MlflowServer, cache: CheckpointCache
    ) -> None:
        """A second start asks for its MLmodel only; one that was logged anew is another model."""
        name = lab.experiment(proxied=True)
        run_id = lab.run(name)
        folder = lab.log_booster(name, run_id)
        reference = checkpoint(f"runs:/{run_id}/model", tracking_uri=server.uri)
        first = resolve(reference, cache)
        assert "model.lgb" in {Path(path).name for path in server.served}
        server.served.clear()

        again = resolve(reference, cache)
        assert ["MLmodel"] == [Path(path).name for path in server.served]
        assert first == again
        (folder / "MLmodel").write_text("flavors: {lightgbm: {data: data/model.lgb, v: 2}}")
        assert first.checkpoint.digest != resolve(reference, cache).checkpoint.digest

    def test_a_run_without_checkpoint_says_what_it_has(
        self, lab: Lab, server: MlflowServer, cache: CheckpointCache
    ) -> None:
        """A folder without manifest, locally and behind a server, says how to log one with."""
        for proxied, uri in ((False, lab.uri), (True, server.uri)):
            name = lab.experiment(proxied=proxied)
            run_id = lab.trained(name)
            (lab.folder(name, run_id) / "manifest.json").unlink()
            with pytest.raises(CheckpointError, match=r"no manifest\.json \(there: model\.pt"):
                resolve(checkpoint(f"runs:/{run_id}/checkpoint", tracking_uri=uri), cache)

    def test_artifacts_behind_a_server_need_the_server(
        self, lab: Lab, cache: CheckpointCache
    ) -> None:
        """The database of a server names artefacts that only the server can read."""
        run_id = lab.trained(lab.experiment(proxied=True))

        with pytest.raises(TrackingError, match="behind the MLflow server") as caught:
            resolve(checkpoint(f"runs:/{run_id}/checkpoint", tracking_uri=lab.uri), cache)
        assert not isinstance(caught.value, TrackingUnavailable)

    @pytest.mark.parametrize("victim", ["model.pt", "tokenizer/vocab.txt", "manifest.json"])
    def test_one_flipped_byte_is_refused(
        self, lab: Lab, cache: CheckpointCache, victim: str
    ) -> None:
        """An artefact that was damaged in the store is not served, and leaves nothing behind."""
        name = lab.experiment()
        run_id = lab.trained(name)
        path = lab.folder(name, run_id) / victim
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

        with pytest.raises(CheckpointCorrupt):
            resolve(checkpoint(f"runs:/{run_id}/checkpoint", tracking_uri=lab.uri), cache)
        assert list((cache.root / "checkpoints").glob("*")) == []

    def test_a_manifest_cannot_make_others_files_arrive(
        self, lab: Lab, cache: CheckpointCache, tmp_path: Path
    ) -> None:
        """A manifest that names a file elsewhere is refused before anything is fetched."""
        (tmp_path / "secret").write_text("secret")
        name = lab.experiment()
        run_id = lab.trained(name)
        manifest = lab.folder(name, run_id) / "manifest.json"
        up = os.path.relpath(tmp_path / "secret", manifest.parent)
        for path in (up, str(tmp_path / "secret")):
            manifest.write_text(manifest.read_text().replace('"model.pt"', json.dumps(path)))
            with pytest.raises(CheckpointError):
                resolve(checkpoint(f"runs:/{run_id}/checkpoint", tracking_uri=lab.uri), cache)

    def test_reading_leaves_no_trace_in_the_store(self, lab: Lab, cache: CheckpointCache) -> None:
        """The database is the same to the byte after it was read."""
        name = lab.experiment()
        lab.trained(name, loss=0.5)
        before = hashlib.sha256(lab.database.read_bytes()).digest()
        files = sorted(os.listdir(lab.root))

        resolve(best_checkpoint(name, metric="loss", tracking_uri=lab.uri), cache)

        assert before == hashlib.sha256(lab.database.read_bytes()).digest()
        assert files == sorted(os.listdir(lab.root))

    def test_a_store_that_is_being_written_is_read(self, lab: Lab, cache: CheckpointCache) -> None:
        """A training run that logs at the same time disturbs nobody."""
        name = lab.experiment()
        lab.trained(name, loss=0.5)
        stop = threading.Event()
        open_run = lab.run(name, status=None)

        def log() -> None:
            for step in itertools.count():
                if stop.is_set():
                    return
                lab.client.log_metric(open_run, "loss", 0.1, step=step)

        writer = threading.Thread(target=log)
        writer.start()
        try:
            reference = best_checkpoint(name, metric="loss", tracking_uri=lab.uri)
            assert not any(resolve(reference, cache).stale for _ in range(20))
        finally:
            stop.set()
            writer.join()


class TestOutage:
    """What a tracking server that is down, hangs or dies halfway costs."""

    def test_a_store_that_is_gone_is_no_outage(
        self, lab: Lab, cache: CheckpointCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The last known copy is served, marked stale, until the store is back."""
        name = lab.experiment()
        lab.trained(name, loss=0.5)
        database = tmp_path / "copy.db"
        shutil.copyfile(lab.database, database)
        reference = best_checkpoint(name, metric="loss", tracking_uri=f"sqlite:///{database}")

        fresh = resolve(reference, cache)
        database.rename(tmp_path / "away.db")
        with caplog.at_level(logging.WARNING):
            stale = resolve(reference, cache)
        (tmp_path / "away.db").rename(database)

        assert (fresh.stale, stale.stale) == (False, True)
        assert fresh.checkpoint == stale.checkpoint
        assert fresh.checkpoint.source == stale.checkpoint.source
        assert "is served from the copy of" in caplog.text
        assert not resolve(reference, cache).stale

    def test_a_copy_that_is_damaged_is_not_served_stale(
        self, lab: Lab, cache: CheckpointCache, tmp_path: Path
    ) -> None:
        """An outage is no excuse to serve what is not verified."""
        name = lab.experiment()
        lab.trained(name, loss=0.5)
        database = tmp_path / "copy.db"
        shutil.copyfile(lab.database, database)
        reference = best_checkpoint(name, metric="loss", tracking_uri=f"sqlite:///{database}")
        resolve(reference, cache).checkpoint.file("model.pt").write_bytes(b"wEights")
        database.unlink()

        with pytest.raises(CheckpointCorrupt, match=r"model\.pt"):
            resolve(reference, cache)

    def test_a_server_that_is_down_is_no_outage(self, lab: Lab, cache: CheckpointCache) -> None:
        """With a copy the service starts; without one it says so quickly."""
        name = lab.experiment(proxied=True)
        run_id = lab.trained(name)
        with MlflowServer(lab.uri, lab.artifacts).running() as server:
            known = checkpoint(f"runs:/{run_id}/checkpoint", tracking_uri=server.uri)
            unknown = best_checkpoint(name, metric="loss", tracking_uri=server.uri)
            fresh = resolve(known, cache)

        started = time.monotonic()
        stale = resolve(known, cache)
        with pytest.raises(TrackingUnavailable, match="no earlier copy"):
            resolve(unknown, cache)

        assert time.monotonic() - started < 5
        assert stale.stale
        assert stale.checkpoint == fresh.checkpoint

    def test_a_server_that_dies_during_the_download_is_no_outage(
        self, lab: Lab, server: MlflowServer, cache: CheckpointCache
    ) -> None:
        """A new best run whose files cannot be had leaves the old one in service."""
        name = lab.experiment(proxied=True)
        lab.trained(name, b"old", loss=0.5)
        reference = best_checkpoint(name, metric="loss", tracking_uri=server.uri)
        old = resolve(reference, cache)
        lab.trained(name, b"new", loss=0.25)

        def die(path: str) -> None:
            if path.endswith("model.pt"):
                raise OSError("the server is killed")

        server.before_artifact = die
        stale = resolve(reference, cache)
        server.before_artifact = lambda path: None

        assert stale.stale
        assert stale.checkpoint == old.checkpoint
        assert resolve(reference, cache).checkpoint.file("model.pt").read_bytes() == b"new"

    @pytest.mark.timeout(120)
    def test_a_server_that_hangs_costs_a_bounded_time(
        self, lab: Lab, cache: CheckpointCache
    ) -> None:
        """The entry gives up a server that accepts and never answers, for all references at once."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
            references = [checkpoint(f"models:/m/{n}", tracking_uri=uri) for n in range(1, 4)]
            started = time.monotonic()
            answers = results(run_entry(references, cache))

        assert {answer["error"]["code"] for answer in answers} == {"tracking_unavailable"}
        assert time.monotonic() - started < 20  # 10 s of waiting and the import of MLflow

    def test_a_killed_download_leaves_nothing(
        self, lab: Lab, server: MlflowServer, cache: CheckpointCache
    ) -> None:
        """A process killed in the middle of a file leaves no checkpoint, and the next one works."""
        name = lab.experiment(proxied=True)
        run_id = lab.trained(name, os.urandom(1_000_000))
        reference = checkpoint(f"runs:/{run_id}/checkpoint", tracking_uri=server.uri)
        halfway, killed = threading.Event(), threading.Event()

        def stall(path: str) -> None:
            if path.endswith("model.pt"):
                halfway.set()
                killed.wait(60)

        server.before_artifact = stall
        process = run_entry([reference], cache)
        assert halfway.wait(60)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed.set()

        assert list((cache.root / "staging").iterdir())  # it was in the middle
        assert not (cache.root / "checkpoints").exists()
        assert not (cache.root / "references").exists()
        server.before_artifact = lambda path: None
        found = resolve(reference, cache)
        assert found.checkpoint.digest == Checkpoint.open(lab.folder(name, run_id)).digest
        assert list((cache.root / "staging").iterdir()) == []

    def test_concurrent_resolutions_share_one_download(
        self, lab: Lab, server: MlflowServer, cache: CheckpointCache
    ) -> None:
        """Two processes that want the same checkpoint at once both get it, fetched once."""
        name = lab.experiment(proxied=True)
        run_id = lab.trained(name, os.urandom(1_000_000))
        reference = checkpoint(f"runs:/{run_id}/checkpoint", tracking_uri=server.uri)
        # The first to fetch the weights waits until both have asked for the manifest.
        both = threading.Barrier(2, timeout=60)

        def meet(path: str) -> None:
            if path.endswith("manifest.json"):
                both.wait()

        server.before_artifact = meet
        processes = [run_entry([reference], cache) for _ in range(2)]
        (one,), (two,) = (results(process) for process in processes)

        assert one == two
        assert not one["stale"]
        assert [Path(path).name for path in server.served].count("model.pt") == 1
        assert Checkpoint.open(one["path"], one["digest"])


class TestEntry:
    """`python -m salver.models.resolve` against real stores."""

    def test_a_best_checkpoint_is_answered_fast(self, lab: Lab, cache: CheckpointCache) -> None:
        """The default store costs far less than importing MLflow would."""
        name = lab.experiment()
        run_id = lab.trained(name, loss=0.5)
        reference = best_checkpoint(name, metric="loss", tracking_uri=lab.uri)

        started = time.monotonic()
        (answer,) = results(run_entry([reference], cache))
        elapsed = time.monotonic() - started

        assert answer["source"] == f"runs:/{run_id}/checkpoint"
        assert answer["digest"] == Checkpoint.open(lab.folder(name, run_id)).digest
        assert elapsed < 2.5

    def test_errors_keep_their_codes(self, lab: Lab, server: MlflowServer, tmp_path: Path) -> None:
        """Every way of finding nothing arrives with its own code, whichever store is asked."""
        name = lab.experiment()
        empty = lab.experiment()
        lab.run(name, loss=0.5)
        for uri in (lab.uri, server.uri):
            references = [
                best_checkpoint("no such", metric="loss", tracking_uri=uri),
                best_checkpoint(empty, metric="loss", tracking_uri=uri),
                best_checkpoint(name, metric="accuracy", tracking_uri=uri),
                best_checkpoint(name, metric="loss", tracking_uri=uri),
                checkpoint("runs:/abc/checkpoint", tracking_uri=uri),
                checkpoint("models:/none@champion", tracking_uri=uri),
            ]
            answers = results(run_entry(references, CheckpointCache(tmp_path)))
            assert [answer["error"]["code"] for answer in answers] == [
                "experiment_not_found",
                "no_runs",
                "metric_not_found",
                "checkpoint_error",
                "run_not_found",
                "model_not_found",
            ]
