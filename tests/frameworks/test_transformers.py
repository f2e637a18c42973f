"""transformers: what its own pipelines say is what a model by URI answers, online and offline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow.transformers
import numpy as np
import pytest
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    pipeline,
)

from frameworks.asking import Asker
from salver.errors import CheckpointError
from salver.models import frameworks
from salver.models.adoption import described
from salver.models.checkpoint import Checkpoint
from salver.models.description import METADATA, Artifact, Description
from salver.models.frameworks import transformers as adapter
from salver.models.served import ServedModel
from salver.models.signature import Signature

SENTENCE = "the quick brown fox jumps over a lazy dog while Anna of Graz sings about rain"
WORDS = SENTENCE.split(" ")
TEXTS = [" ".join(WORDS[i % 5 : i % 5 + 1 + i % 11]) for i in range(23)] + ["", "fox " * 300]
ONE_TEXT = ModelSignature(Schema([ColSpec("string")]))
LABELS = {0: "praise", 1: "blame", 2: "other"}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """WordPiece, trained on a few words."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(TEXTS, trainers.WordPieceTrainer(special_tokens=SPECIAL))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}
    given = {f"{name}_token": token for name, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **given)


def config(tokenizer: Any, **more: Any) -> BertConfig:
    torch.manual_seed(0)
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        **more,
    )


def sharpened(model: Any) -> Any:
    """Random weights that tell texts apart, so that labels differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)
    return model.eval()


def classifier(tokenizer: Any, **more: Any) -> Any:
    return sharpened(
        BertForSequenceClassification(config(tokenizer, **{"id2label": LABELS, **more}))
    )


def saved(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adopted(folder: Path) -> ServedModel:
    """The model as a replica loads it."""
    return ServedModel(Checkpoint.create(folder, described(folder, str(folder))))


def texts(given: list[str] = TEXTS) -> dict[str, Any]:
    return {"text": np.array(given, dtype=object)}


def said(model: Any, tokenizer: Any, **options: Any) -> dict[str, Any]:
    """Labels and probabilities of transformers' own pipeline."""
    asked = pipeline("text-classification", model=model, tokenizer=tokenizer)
    found = asked(TEXTS, top_k=None, truncation=True, max_length=64, **options)
    names = list(model.config.id2label.values())
    scores = [{one["label"]: one["score"] for one in row} for row in found]
    return {
        "prediction": [row[0]["label"] for row in found],
        "probabilities": np.array([[row[name] for name in names] for row in scores]),
    }


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- through processes


def test_a_classifier_of_mlflow(asker: Asker, tokenizer: Any) -> None:
    """Class names from the model, probabilities as of the pipeline that was logged."""
    model = classifier(tokenizer)
    mlflow.transformers.log_model(
        pipeline("text-classification", model=model, tokenizer=tokenizer),
        name="model",
        pip_requirements=[],
        signature=ONE_TEXT,
        registered_model_name="tone",
    )
    expected = said(model, tokenizer)
    assert len(set(expected["prediction"])) > 1
    asker.agree("models:/tone/1", [{"input": text} for text in TEXTS], expected, tolerance=1e-4)


def test_named_entities_of_a_bare_folder(asker: Asker, tokenizer: Any, tmp_path: Path) -> None:
    """A list for each row, with the words and where they stand."""
    labels = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC"}
    model = sharpened(BertForTokenClassification(config(tokenizer, id2label=labels)))
    where = saved(tmp_path / "tagger", model, tokenizer)
    asked = pipeline(
        "token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple"
    )
    rows = [text for text in TEXTS if text]
    expected = asked(rows)
    assert {"PER", "LOC"} <= {one["entity_group"] for row in expected for one in row}
    for given in (
        asker.online(str(where), [{"text": text} for text in rows]),
        asker.offline(str(where), [{"text": text} for text in rows]),
    ):
        for found, wanted in zip([row["entities"] for row in given], expected, strict=True):
            assert [without_score(one) for one in wanted] == [without_score(one) for one in found]
            scores = [one["score"] for one in found]
            np.testing.assert_allclose(scores, [one["score"] for one in wanted], atol=1e-4)


def without_score(entity: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entity.items() if name != "score"}


def test_embeddings_of_a_bare_folder(asker: Asker, tokenizer: Any, tmp_path: Path) -> None:
    """The mean of the tokens' states, without what fills up short texts."""
    model = sharpened(BertModel(config(tokenizer)))
    where = saved(tmp_path / "encoder", model, tokenizer)
    asker.agree(
        str(where),
        [{"text": text} for text in TEXTS],
        {"embedding": np.stack([states(model, tokenizer, text).mean(0) for text in TEXTS])},
        tolerance=1e-4,
    )


def states(model: Any, tokenizer: Any, text: str, limit: int = 64) -> Any:
    """States of the tokens of one text, asked alone."""
    encoded = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
    with torch.inference_mode():
        return model(**encoded).last_hidden_state[0].numpy()


# --- kinds of models


def test_several_labels_at_once(tokenizer: Any, tmp_path: Path) -> None:
    """Probabilities of each label by itself, as the configuration says."""
    model = classifier(tokenizer, problem_type="multi_label_classification")
    found = adopted(saved(tmp_path / "model", model, tokenizer))
    expected = said(model, tokenizer)["probabilities"]
    assert np.abs(expected.sum(1) - 1).max() > 0.01
    np.testing.assert_allclose(found(texts())["probabilities"], expected, atol=1e-4)
    assert list(LABELS.values()) == found.classes_


@pytest.mark.parametrize("problem", ["regression", None])
def test_one_label_is_a_number(tokenizer: Any, tmp_path: Path, problem: str | None) -> None:
    """As it is for a regression, else between 0 and 1."""
    model = classifier(tokenizer, id2label={0: "score"}, problem_type=problem)
    asked = pipeline("text-classification", model=model, tokenizer=tokenizer)
    expected = [one["score"] for one in asked(TEXTS, truncation=True, max_length=64)]
    found = adopted(saved(tmp_path / "model", model, tokenizer))
    np.testing.assert_allclose(found(texts())["prediction"], expected, 1e-4, 1e-4)
    assert not hasattr(found, "classes_")


@pytest.mark.parametrize("can_pad", [False, True])
def test_a_model_that_does_not_name_its_padding(
    tokenizer: Any, tmp_path: Path, can_pad: bool
) -> None:
    """The tokenizer names it; if it has none either, texts are asked one by one."""
    torch.manual_seed(0)
    settings = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64, id2label=LABELS
    )
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="[UNK]")
    model = sharpened(GPT2ForSequenceClassification(settings))
    assert model.config.pad_token_id is None
    found = adopted(saved(tmp_path / "model", model, tokenizer if can_pad else bare))
    expected = said(model, tokenizer if can_pad else bare)["probabilities"]
    np.testing.assert_allclose(found(texts())["probabilities"], expected, atol=1e-4)


def test_positions_that_begin_behind_padding(tokenizer: Any, tmp_path: Path) -> None:
    """A text as long as the table of positions would reach beyond it."""
    torch.manual_seed(0)
    settings = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        pad_token_id=1,
    )
    model = RobertaModel(settings).eval()
    found = adopted(saved(tmp_path / "model", model, tokenizer))(texts())["embedding"]
    expected = states(model, tokenizer, TEXTS[-1], limit=38).mean(0)
    np.testing.assert_allclose(found[-1], expected, atol=1e-4)


# --- sentence-transformers


def sentence_encoder(folder: Path, model: Any, tokenizer: Any, pooling: dict[str, Any]) -> Path:
    saved(folder, model, tokenizer)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9}))
    return folder


POOLED = {
    "cls": lambda found: found[0],
    "max": lambda found: found.max(0),
    "mean": lambda found: found.mean(0),
}


@pytest.mark.parametrize(
    ("pooling", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ["cls"]),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ["max", "mean"]),
        ({"pooling_mode": "mean"}, ["mean"]),
    ],
)
def test_the_pooling_that_modules_name(
    tokenizer: Any, tmp_path: Path, pooling: dict[str, Any], modes: list[str]
) -> None:
    """With the length at which texts are cut, and length 1 of each embedding."""
    model = sharpened(BertModel(config(tokenizer)))
    where = sentence_encoder(tmp_path / "model", model, tokenizer, pooling)
    found = adopted(where)(texts())["embedding"]
    for i, text in enumerate(TEXTS):
        alone = states(model, tokenizer, text, limit=9)
        expected = np.concatenate([POOLED[mode](alone) for mode in modes])
        np.testing.assert_allclose(found[i], expected / np.linalg.norm(expected), atol=1e-4)


def test_a_step_that_is_not_known(tokenizer: Any, tmp_path: Path) -> None:
    """Neither skipped nor imported."""
    model = BertModel(config(tokenizer))
    where = sentence_encoder(tmp_path / "model", model, tokenizer, {"pooling_mode": "mean"})
    modules = json.loads((where / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.Dense"
    (where / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match=r"models\.Dense"):
        adopted(where)


def test_an_older_layout(tokenizer: Any, tmp_path: Path) -> None:
    """The encoder lies in a folder of its own, which the first module names."""
    model = sharpened(BertModel(config(tokenizer)))
    where = sentence_encoder(tmp_path / "model", model, tokenizer, {"pooling_mode": "mean"})
    expected = adopted(where)(texts())["embedding"]
    (where / "manifest.json").unlink()
    (where / "0_Transformer").mkdir()
    for path in [p for p in where.iterdir() if p.is_file() and p.name != "modules.json"]:
        path.rename(where / "0_Transformer" / path.name)
    modules = json.loads((where / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (where / "modules.json").write_text(json.dumps(modules))
    np.testing.assert_array_equal(adopted(where)(texts())["embedding"], expected)


def test_a_prompt_that_would_be_left_out(tokenizer: Any, tmp_path: Path) -> None:
    """It is refused, for embeddings would differ."""
    model = BertModel(config(tokenizer))
    where = sentence_encoder(tmp_path / "model", model, tokenizer, {"pooling_mode": "mean"})
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (where / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    with pytest.raises(CheckpointError, match="'query'"):
        adopted(where)


def test_a_pooling_that_is_not_known(tokenizer: Any, tmp_path: Path) -> None:
    """It is named."""
    pooling = {"pooling_mode_lasttoken": True}
    where = sentence_encoder(tmp_path / "m", BertModel(config(tokenizer)), tokenizer, pooling)
    with pytest.raises(CheckpointError, match="pooling_mode_lasttoken"):
        adopted(where)


# --- code, and what does not fit


CODE = {
    "config.json": {"auto_map": {"AutoModel": "evil.Model"}},
    "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}},
}


@pytest.mark.parametrize("name", CODE)
def test_python_files_beside_the_model(tokenizer: Any, tmp_path: Path, name: str) -> None:
    """They are refused by the file that names them, and none is imported."""
    where = saved(tmp_path / "model", classifier(tokenizer), tokenizer)
    changed(where / name, **CODE[name])
    canary = tmp_path / "canary"
    (where / "evil.py").write_text(f"open({str(canary)!r}, 'w')\n")
    assert f"{name} has auto_map" in "; ".join(described(where, "a model")["model"]["code"])
    assert not canary.exists()


def test_python_files_that_are_allowed(tokenizer: Any, tmp_path: Path) -> None:
    """The class of the folder is used then."""
    model = classifier(tokenizer)
    where = saved(tmp_path / "model", model, tokenizer)
    auto_map = {"AutoModelForSequenceClassification": "turned.Turned"}
    changed(where / "config.json", auto_map=auto_map, model_type="bert")
    (where / "turned.py").write_text(
        "from transformers import BertForSequenceClassification\n"
        "class Turned(BertForSequenceClassification):\n"
        "    def forward(self, *given, **named):\n"
        "        found = super().forward(*given, **named)\n"
        "        found.logits = -found.logits\n"
        "        return found\n"
    )
    found = allowed(where)(texts())["probabilities"]
    least = said(model, tokenizer)["probabilities"].argmin(1)
    assert least.tolist() == found.argmax(1).tolist()


def allowed(where: Path) -> ServedModel:
    """A model that runs code, which its user has allowed."""
    names = tuple(sorted(path.name for path in where.iterdir()))
    artifact = Artifact(where, names, {})
    code = tuple(adapter.code_in(artifact))
    assert code
    found = Description("transformers", {}, adapter.signature_of(artifact), code, "model")
    return ServedModel(Checkpoint.create(where, {METADATA: found.dump()}))


def test_pickled_weights(tokenizer: Any, tmp_path: Path) -> None:
    """They need to be allowed; beside safetensors they are not looked at."""
    model = classifier(tokenizer)
    where = saved(tmp_path / "model", model, tokenizer)
    torch.save(model.state_dict(), where / "pytorch_model.bin")
    expected = adopted(where)(texts())["probabilities"]
    (where / "model.safetensors").unlink()
    (where / "manifest.json").unlink()
    (reason,) = described(where, "a model")["model"]["code"]
    assert "pytorch_model.bin is a pickle" in reason
    np.testing.assert_allclose(allowed(where)(texts())["probabilities"], expected, atol=1e-6)


def test_a_kernel_from_elsewhere(tokenizer: Any, tmp_path: Path) -> None:
    """Attention can be named as a repository whose code is fetched."""
    where = saved(tmp_path / "model", classifier(tokenizer), tokenizer)
    changed(where / "config.json", attn_implementation="someone/kernel")
    (reason,) = described(where, "a model")["model"]["code"]
    assert "someone/kernel" in reason


def test_a_model_without_its_head(tokenizer: Any, tmp_path: Path) -> None:
    """transformers would make one up of random numbers."""
    where = saved(tmp_path / "model", BertModel(config(tokenizer)), tokenizer)
    changed(where / "config.json", architectures=["BertForSequenceClassification"])
    with pytest.raises(CheckpointError, match=r"lack classifier\.bias, classifier\.weight"):
        adopted(where)


def test_a_task_that_is_not_served(tokenizer: Any, tmp_path: Path) -> None:
    """The error says which are."""
    where = saved(tmp_path / "model", BertModel(config(tokenizer)), tokenizer)
    changed(where / "config.json", architectures=["BertForQuestionAnswering"])
    with pytest.raises(CheckpointError, match=r"BertForQuestionAnswering.*sequence class"):
        adopted(where)


def test_an_adapter_for_other_weights(tokenizer: Any, tmp_path: Path) -> None:
    """Nothing is fetched; it is to be merged."""
    where = saved(tmp_path / "model", BertModel(config(tokenizer)), tokenizer)
    (where / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/base"}')
    with pytest.raises(CheckpointError, match="merge_and_unload"):
        described(where, "a model")


@pytest.mark.parametrize(
    "inputs",
    [[{"type": "double", "name": "text"}], [{"type": "string", "name": name} for name in "ab"]],
)
def test_a_signature_of_other_than_one_text(tokenizer: Any, tmp_path: Path, inputs: Any) -> None:
    """It fails when it is loaded, not at the first request."""
    where = saved(tmp_path / "model", classifier(tokenizer), tokenizer)
    artifact = Artifact(where, tuple(sorted(path.name for path in where.iterdir())), {})
    with pytest.raises(CheckpointError, match="takes one text"):
        frameworks.load("transformers", artifact, Signature.load(inputs, "a test"))


def test_mlflow_keeps_the_tokenizer_apart(tokenizer: Any, tmp_path: Path) -> None:
    """The engine is told where it lies; a task of features is answered with embeddings."""
    model = sharpened(BertModel(config(tokenizer)))
    where = tmp_path / "model"
    mlflow.transformers.save_model(
        {"model": model, "tokenizer": tokenizer},
        where,
        task="feature-extraction",
        pip_requirements=[],
        signature=ONE_TEXT,
    )
    found = described(where, "a model")[METADATA]
    assert [] == found["code"]
    names = tuple(str(p.relative_to(where)) for p in where.rglob("*") if p.is_file())
    artifact = Artifact(where, names, found["flavor"])
    loaded = frameworks.load("transformers", artifact, Signature.load(found["signature"], "a test"))
    assert where / "components" / "tokenizer" / "tokenizer.json" == loaded.tokenizer_file_
    expected = np.stack([states(model, tokenizer, text).mean(0) for text in TEXTS])
    given = {"input": np.array(TEXTS, dtype=object)}
    np.testing.assert_allclose(loaded(given)["embedding"], expected, atol=1e-4)


def test_weights_that_are_elsewhere(tokenizer: Any, tmp_path: Path) -> None:
    """MLflow can keep a reference to a hub alone, which is not followed."""
    where = saved(tmp_path / "model", classifier(tokenizer), tokenizer)
    shutil.rmtree(where)
    flavor = {"source_model_name": "someone/model", "source_model_revision": "1"}
    with pytest.raises(CheckpointError, match=r"someone/model.*save_pretrained=True"):
        adapter.code_in(Artifact(where, (), flavor))
