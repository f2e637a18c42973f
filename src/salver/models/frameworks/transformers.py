"""Hugging Face transformers: classes of texts, named entities, and embeddings.

It serves MLflow's `transformers` flavour and folders as `save_pretrained` writes them
(`config.json`, safetensors, tokenizer), also those of sentence-transformers (`modules.json`).
What `config.json` names under `architectures` decides:

- `...ForSequenceClassification`: `probabilities` of the classes in `id2label` (softmax; sigmoid if
  `problem_type` says multi-label). With one label: `prediction`, a number.
- `...ForTokenClassification`: `entities`, a list for each row, as transformers' own pipeline gives
  with `aggregation_strategy="simple"`.
- An encoder without a head, or MLflow's task `feature-extraction`: `embedding`, the mean of the
  tokens' states, unless `modules.json` says otherwise.

Texts are cut at the longest that the model takes. This module does not know where files came from.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from salver.errors import CheckpointError
from salver.models.description import Artifact, Model
from salver.models.frameworks.networks import device, use_threads
from salver.models.frameworks.texts import Classifier, Embedder, Pooling, Tagger, longest
from salver.models.signature import Column, Signature, scalar

LIBRARY = "transformers"
MODULES = ("transformers", "torch", "safetensors")
EXTRA = "torch"
FLAVORS = ("transformers",)

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
MODULES_FILE = "modules.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_ADAPTER = "adapter_config.json"
_PROMPTS = "config_sentence_transformers.json"
_SAFE, _PICKLED = ".safetensors", (".bin", ".pt", ".pth")
_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


def recognise(names: tuple[str, ...]) -> bool:
    """A configuration with weights beside it, or the modules of sentence-transformers."""
    weights = (_SAFE, *_PICKLED)
    return MODULES_FILE in names or (
        CONFIG in names and any("/" not in n and n.endswith(weights) for n in names)
    )


def code_in(artifact: Artifact) -> list[str]:
    """Python that the configuration names, kernels to be fetched, and pickled weights."""
    found = []
    for folder in sorted({_model_folder(artifact), _tokenizer_folder(artifact)}):
        for name in (CONFIG, _TOKENIZER_CONFIG, "processor_config.json"):
            if folder + name in artifact.names:
                content = _read(artifact, folder + name)
                found += [f"{folder}{name} {why}" for why in _code_of(content)]
    names = _weights(artifact, _PICKLED)
    if names and not _weights(artifact, (_SAFE,)):
        found.append(f"{names[0]} is a pickle, which can run anything when it is read")
    return found


def signature_of(_artifact: Artifact) -> Signature:
    """One text."""
    return Signature((Column("text", scalar("str")),))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The network with its tokenizer, behind the class for its task."""
    _be_quiet()
    use_threads()
    _check_text(signature)
    kind = _kind(artifact)
    network, tokenizer = _network(artifact, kind), _tokenizer(artifact)
    limit = longest(network, tokenizer)
    file = _tokenizer_folder(artifact) + TOKENIZER
    tokenizer_file = artifact.path(file) if file in artifact.names else None
    if kind == "AutoModelForSequenceClassification":
        return Classifier(network, tokenizer, limit, tokenizer_file)
    if kind == "AutoModelForTokenClassification":
        return Tagger(network, tokenizer, limit, tokenizer_file)
    return Embedder(network, tokenizer, limit, tokenizer_file, _pooling(artifact))


def _be_quiet() -> None:
    logging: Any = importlib.import_module("transformers.utils.logging")
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _check_text(signature: Signature) -> None:
    columns = signature.columns
    if len(columns) != 1 or columns[0].dtype != "str" or columns[0].shape:
        given = {column.name: dict(column.type) for column in columns}
        raise CheckpointError(
            f"The signature is {given}, and the model takes one text. Log it with a signature of "
            "one column of strings."
        )


def _kind(artifact: Artifact) -> str:
    """The class of transformers that loads the model.

    Raises:
        CheckpointError: If Salver does not serve its task.
    """
    task = artifact.flavor.get("task")
    given = _config(artifact).get("architectures")
    architecture = str(given[0]) if isinstance(given, list) and given else ""
    if MODULES_FILE in artifact.names or task == "feature-extraction":
        return "AutoModel"
    for head in ("ForSequenceClassification", "ForTokenClassification"):
        if architecture.endswith(head):
            return f"AutoModel{head}"
    if architecture.endswith("Model"):
        return "AutoModel"
    raise CheckpointError(
        f"{CONFIG} names the architecture {architecture or None!r}; Salver serves sequence "
        "classification, token classification, and encoders (...Model). Write a class that loads "
        "it (salver serve MODULE:NAME)."
    )


def _network(artifact: Artifact, kind: str) -> Any:
    import transformers

    is_safe = bool(_weights(artifact, (_SAFE,)))
    # A tuple with the model first, because of the last argument.
    network, report = _loaded(
        getattr(transformers, kind),
        artifact,
        _model_folder(artifact),
        use_safetensors=is_safe,
        output_loading_info=True,
    )
    # Encoders are often saved without the pooler, which embeddings do not use.
    missing = [n for n in report["missing_keys"] if kind != "AutoModel" or "pooler" not in n]
    if missing or report["mismatched_keys"]:
        raise CheckpointError(
            f"The weights lack {', '.join(sorted(missing)[:5]) or 'some in the right shape'}, which "
            f"{type(network).__name__} has. Save the model that was trained, with its head."
        )
    return network.eval().to(device())


def _tokenizer(artifact: Artifact) -> Any:
    import transformers

    return _loaded(transformers.AutoTokenizer, artifact, _tokenizer_folder(artifact))


def _loaded(cls: Any, artifact: Artifact, folder: str, **options: Any) -> Any:
    path = artifact.folder / folder
    is_trusted = bool(code_in(artifact))  # which the user has allowed, else it were not loaded
    try:
        return cls.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=is_trusted, **options
        )
    except Exception as error:  # of a damaged file, any error of its parsers comes through
        raise CheckpointError(
            f"{folder or 'The folder'} holds nothing that {cls.__name__} loads: {error}"
        ) from error


def _model_folder(artifact: Artifact) -> str:
    """Where configuration and weights lie, with a slash at its end unless it is the top.

    Raises:
        CheckpointError: If they are elsewhere than in the artefact.
    """
    flavor = artifact.flavor
    if not flavor:
        folder = _first_module(artifact)
    elif isinstance(flavor.get("model_binary"), str) and "peft_adaptor" not in flavor:
        folder = f"{flavor['model_binary']}/"
    else:
        raise CheckpointError(
            f"The model refers to weights elsewhere ({flavor.get('source_model_name')!r}), or is "
            "an adapter for them. Merge and log it whole: save_pretrained=True."
        )
    if folder + _ADAPTER in artifact.names:
        raise CheckpointError(
            f"{folder}{_ADAPTER} makes it an adapter for other weights. Merge both "
            "(merge_and_unload) and save the result."
        )
    artifact.path(folder + CONFIG)
    return folder


def _first_module(artifact: Artifact) -> str:
    """Folder of the encoder of sentence-transformers; older ones keep it in one of its own."""
    for module in _modules(artifact):
        path = module.get("path")
        return f"{path}/" if isinstance(path, str) and path else ""
    return ""


def _tokenizer_folder(artifact: Artifact) -> str:
    folder = "components/tokenizer/"
    is_apart = artifact.flavor and any(n.startswith(folder) for n in artifact.names)
    return folder if is_apart else _model_folder(artifact)


def _weights(artifact: Artifact, suffixes: tuple[str, ...]) -> list[str]:
    folder = _model_folder(artifact)
    found = (name for name in artifact.with_suffix(*suffixes) if name.startswith(folder))
    return [name for name in found if "/" not in name.removeprefix(folder)]


def _code_of(content: Any) -> Iterator[str]:
    """What a configuration names that would be imported, at any depth."""
    if isinstance(content, list):
        for inner in content:
            yield from _code_of(inner)
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if key in ("auto_map", "custom_pipelines", "trust_remote_code") and value:
            yield f"has {key}, Python files that would be imported"
        elif "implementation" in key and isinstance(value, str) and "/" in value:
            yield f"has {key}={value!r}, a kernel that would be fetched and run"
        else:
            yield from _code_of(value)


def _read(artifact: Artifact, name: str) -> Any:
    try:
        return json.loads(artifact.path(name).read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not valid JSON: {error}") from error


def _config(artifact: Artifact) -> Mapping[str, Any]:
    found = _read(artifact, _model_folder(artifact) + CONFIG)
    if not isinstance(found, dict):
        raise CheckpointError(f"{CONFIG} is a {type(found).__name__}, not an object.")
    return found


def _modules(artifact: Artifact) -> list[Mapping[str, Any]]:
    """The steps of a model of sentence-transformers; empty if it is none."""
    if MODULES_FILE not in artifact.names or artifact.flavor:
        return []
    found = _read(artifact, MODULES_FILE)
    if not isinstance(found, list) or not all(isinstance(m, dict) for m in found) or not found:
        raise CheckpointError(f"{MODULES_FILE} is no list of modules.")
    return found


def _pooling(artifact: Artifact) -> Pooling:
    """How states of tokens become one embedding.

    Raises:
        CheckpointError: For a step that Salver does not know; none is imported.
    """
    steps = _modules(artifact)
    modes, is_normalized, limit = ["mean"], False, None
    for module in steps[1:]:
        kind = str(module.get("type")).rpartition(".")[2]
        if kind == "Pooling":
            modes = _modes(_read(artifact, f"{module.get('path')}/{CONFIG}"))
        elif kind == "Normalize":
            is_normalized = True
        else:
            raise CheckpointError(
                f"{MODULES_FILE} has a step {module.get('type')!r}; Salver knows Transformer, "
                "Pooling and Normalize. Write a class that loads it (salver serve MODULE:NAME)."
            )
    settings = f"{_model_folder(artifact)}sentence_bert_config.json"
    if steps and settings in artifact.names:
        limit = _read(artifact, settings).get("max_seq_length")
    if steps and _PROMPTS in artifact.names:
        prompt = _read(artifact, _PROMPTS).get("default_prompt_name")
        if prompt is not None:
            raise CheckpointError(
                f"{_PROMPTS} puts the prompt {prompt!r} before each text, which Salver does not. "
                "Set default_prompt_name to null, and put it into the texts."
            )
    return Pooling(tuple(modes), is_normalized, limit)


def _modes(config: Mapping[str, Any]) -> list[str]:
    named = config.get("pooling_mode")
    if named is not None:  # since version 5 of sentence-transformers
        chosen = [named] if isinstance(named, str) else list(named)
    else:
        chosen = [k for k, on in config.items() if k.startswith("pooling_mode_") and on is True]
        chosen = [_POOLINGS.get(key, key) for key in chosen]
    if not chosen or not set(chosen) <= set(_POOLINGS.values()):
        raise CheckpointError(
            f"The pooling is {chosen}; Salver knows {', '.join(_POOLINGS.values())}."
        )
    return [mode for mode in ("cls", "max", "mean") if mode in chosen]  # the order of their library
