import json
from pathlib import Path

import numpy as np
import pytest

from madewithml import demo, evaluate, train
from madewithml.tagger import Tagger


def test_training_ends_with_one_json_object(trained: tuple[Path, str]) -> None:
    """Stdout is one JSON object with the best run and its metrics."""
    said = json.loads(trained[1])
    assert set(said["overall"]) == {"precision", "recall", "f1", "macro_f1", "num_samples"}
    assert len(said["per_class"]) == 4
    assert len(said["run_id"]) == 32
    assert said["evaluated_on"] == "validation"


def test_the_runs_are_logged_with_curves_and_artefacts(
    trained: tuple[Path, str], store: Path
) -> None:
    """Each run has its parameters, a loss per epoch, the checkpoint and a picture."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("madewithml")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["recipe"] for run in runs) == ["cls", "mean"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    best = min(runs, key=lambda run: (run.data.metrics["val_loss"], run.info.start_time))
    assert best.info.run_id == json.loads(trained[1])["run_id"]
    curve = client.get_metric_history(best.info.run_id, "val_loss")
    assert [point.step for point in curve] == [0, 1, 2]
    assert curve[-1].value == curve[1].value
    artefacts = {file.path for file in client.list_artifacts(best.info.run_id)}
    assert artefacts == {"checkpoint", "confusion_matrix.png"}


def test_the_checkpoint_says_what_it_is(trained: tuple[Path, str], store: Path) -> None:
    """The best run's checkpoint names its run and classes, and repeats its golden examples."""
    found = evaluate.find_checkpoint("madewithml")
    assert found.metadata["run_id"] == json.loads(trained[1])["run_id"]
    assert found.metadata["preprocessing"] == "none"
    assert found.metadata["params"]["train_rows"] == 44
    tagger = Tagger(found)
    assert tagger.classes_ == found.classes
    for example in found.metadata["examples"]:
        row = {name: np.array([text], object) for name, text in example["input"].items()}
        answer = tagger(row)["probabilities"][0].argmax()
        assert tagger.classes_[answer] == example["prediction"]


def test_evaluation_of_a_run_reports_noise_too(
    dataset: Path, trained: tuple[Path, str], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` reports quality on any CSV, and the share of random strings answered other."""
    run_id = json.loads(trained[1])["run_id"]
    assert evaluate.main(["--dataset", str(dataset), "--run-id", run_id]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run_id"] == run_id
    assert said["overall"]["num_samples"] == 48
    shares = said["random_strings"]
    assert shares["with_threshold"] >= shares["without_threshold"]


def test_the_same_seed_trains_the_same_model(
    dataset: Path, encoder: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs with one seed end with the same validation loss."""
    arguments = ["--dataset", str(dataset), "--encoder", str(encoder), "--epochs", "1"]
    arguments += ["--recipes", "mean", "--experiment", "twice"]
    losses = []
    for _ in range(2):
        assert train.main(arguments) == 0
        losses.append(json.loads(capsys.readouterr().out)["val_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_cross_validation_tests_every_row(
    dataset: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate --folds` trains on the file itself and reports the mean over the folds."""
    arguments = ["--dataset", str(dataset), "--folds", "2", "--recipe", "mean", "--epochs", "1"]
    assert evaluate.main([*arguments, "--encoder", str(encoder)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["overall"]["num_samples"] == 48
    assert said["overall"]["f1"] == pytest.approx(np.mean([fold["f1"] for fold in said["folds"]]))


def test_a_bad_data_set_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error goes to stderr, nothing to stdout."""
    assert train.main(["--dataset", str(tmp_path / "none.csv")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "cannot read" in said.err


def test_the_demo_stops_at_what_is_not_expected() -> None:
    """A step that does not hold raises with the reason."""
    with pytest.raises(demo.Unexpected, match="two came out"):
        demo.expect(False, "two came out")
