import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from madewithml.noise import random_projects, share_answered_other
from madewithml.tagger import Tagger

NASTY = [
    ("", ""),
    ("Title", "d" * 100_000),
    ("Title", "image " * 16_000),
    ("🚀🤖", "👩‍👩‍👧‍👦 🔥"),
    ("مشروع", "تعلم الآلة \u202e abc"),
    ("a\0b", "\0\0\0"),
    ("lone \ud83d", "\udfff"),
    ("\n\t\r", "\u200b\ufeff"),
    (" 65n7r5675", ""),
    ("image camera", "object detection"),
]


def batch(rows: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    columns = {"title": np.empty(len(rows), object), "description": np.empty(len(rows), object)}
    for i, (title, description) in enumerate(rows):
        columns["title"][i], columns["description"][i] = title, description
    return columns


@pytest.fixture(scope="module")
def tagger(checkpoint: Path) -> Tagger:
    return Tagger(checkpoint)


def test_nasty_inputs_get_probabilities(tagger: Tagger) -> None:
    """Empty, huge, non-Latin and malformed texts each get a float32 distribution over classes."""
    probabilities = tagger(batch(NASTY))["probabilities"]
    assert probabilities.shape == (len(NASTY), len(tagger.classes_))
    assert probabilities.dtype == np.float32
    assert np.isfinite(probabilities).all()
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_row_does_not_depend_on_its_neighbours(tagger: Tagger) -> None:
    """Alone or in a batch of any order, a row gets the same probabilities but for rounding."""
    together = tagger(batch(NASTY * 3))["probabilities"]
    alone = np.concatenate([tagger(batch([row]))["probabilities"] for row in NASTY * 3])
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_pandas_frame_is_a_batch_too(tagger: Tagger) -> None:
    """The same class takes a frame instead of a dict of arrays."""
    pandas = pytest.importorskip("pandas")
    rows = batch(NASTY[8:])
    frame = pandas.DataFrame(rows)
    assert (tagger(frame)["probabilities"] == tagger(rows)["probabilities"]).all()


def test_a_huge_text_costs_hardly_more_than_a_full_one(tagger: Tagger) -> None:
    """100,000 characters add a few milliseconds to a text that fills the model's input anyway."""
    rows = batch([("Title", "image " * 16_000)])
    tagger(rows)
    start = time.perf_counter()
    for _ in range(5):
        tagger(rows)
    assert (time.perf_counter() - start) / 5 < 0.2


def test_the_checkpoint_decides_the_preprocessing(checkpoint: Path, tmp_path: Path) -> None:
    """With clean_text stated in the checkpoint, stop words and punctuation change nothing."""
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spec = json.loads((tmp_path / "tagger.json").read_text("utf-8"))
    (tmp_path / "tagger.json").write_text(json.dumps(spec | {"preprocessing": "clean_text"}))
    rows = batch([("image camera", ""), ("The IMAGE, and the camera!", "")])
    plain = Tagger(checkpoint)(rows)["probabilities"]
    clean = Tagger(tmp_path)(rows)["probabilities"]
    assert clean[0] == pytest.approx(clean[1], abs=1e-6)
    assert plain[0] != pytest.approx(plain[1], abs=1e-6)
    assert clean[0] == pytest.approx(plain[0], abs=1e-6)


def test_importing_the_service_imports_nothing_heavy() -> None:
    """The serving front imports neither torch nor transformers, tokenizers or MLflow."""
    code = (
        "import sys, madewithml.service; "
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_random_strings_are_the_same_each_time() -> None:
    """The 200 random strings are fixed by the seed, half titles and half descriptions."""
    first, again, others = random_projects(), random_projects(), random_projects(seed=1)
    assert first["title"].tolist() == again["title"].tolist() != others["title"].tolist()
    assert len(first["title"]) == 200
    assert sum(title == "" for title in first["title"]) == 100


def test_shares_of_other_count_class_and_threshold() -> None:
    """Without a threshold only the class `other` counts; with one, unsure rows count too."""
    probabilities = np.array([[0.95, 0.05], [0.6, 0.4], [0.3, 0.7], [0.02, 0.98]])
    shares = share_answered_other(probabilities, ["mlops", "other"])
    assert shares == {"without_threshold": 0.5, "with_threshold": 0.75, "threshold": 0.9}


def test_hidden_states_do_not_depend_on_neighbours_either(tagger: Tagger) -> None:
    """Two layers a row, whatever padding the batch brings."""
    together = tagger(batch(NASTY))["hidden_states"]
    alone = np.concatenate([tagger(batch([row]))["hidden_states"] for row in NASTY])
    assert together.shape == (len(NASTY), 2, 32)
    assert together == pytest.approx(alone, abs=1e-4)
    assert not np.allclose(together[:, 0], together[:, 1])


def test_what_is_cut_off_is_told(tagger: Tagger) -> None:
    """Tokens kept of how many; of a very long text the whole is not counted."""
    rows = [("Title", "word " * 20), ("Title", "image " * 200), ("Title", "image " * 16_000)]
    short, cut, long = tagger(batch(rows))["truncated"]
    assert short is None
    limit = cut["kept"]
    assert cut["of"] > 200 > limit
    assert long == {"kept": limit, "of": None}
