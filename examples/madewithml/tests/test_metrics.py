import numpy as np
import pytest

from madewithml.metrics import confusion_matrix, report

CLASSES = ["a", "b", "c", "never"]


def test_metrics_equal_scikit_learns() -> None:
    """Weighted and macro averages and the values per class are scikit-learn's."""
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    truth = generator.choice(CLASSES[:3], 200, p=[0.6, 0.3, 0.1]).tolist()
    predicted = [
        t if keep else g
        for t, g, keep in zip(
            truth, generator.choice(CLASSES[:3], 200), generator.random(200) < 0.7, strict=True
        )
    ]
    said = report(truth, predicted, CLASSES)
    overall = metrics.precision_recall_fscore_support(truth, predicted, average="weighted")
    assert [said["overall"][k] for k in ("precision", "recall", "f1")] == pytest.approx(overall[:3])
    macro = metrics.f1_score(truth, predicted, average="macro")
    assert said["overall"]["macro_f1"] == pytest.approx(macro)
    assert said["overall"]["num_samples"] == 200
    each = metrics.precision_recall_fscore_support(
        truth, predicted, labels=CLASSES, zero_division=0
    )
    for i, name in enumerate(CLASSES):
        assert list(said["per_class"][name].values()) == pytest.approx(
            [column[i] for column in each]
        )
    assert (
        confusion_matrix(truth, predicted, CLASSES)
        == metrics.confusion_matrix(truth, predicted, labels=CLASSES)
    ).all()


def test_what_cannot_be_counted_is_refused() -> None:
    """No rows, unequal lengths and unknown classes are errors that say so."""
    with pytest.raises(ValueError, match="no rows"):
        report([], [], CLASSES)
    with pytest.raises(ValueError, match="1 true classes but 2 predicted"):
        report(["a"], ["a", "b"], CLASSES)
    with pytest.raises(ValueError, match="not among"):
        report(["a"], ["z"], CLASSES)
