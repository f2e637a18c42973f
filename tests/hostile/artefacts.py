"""Malicious models, one small function each: whoever loads one naively creates a canary file.

Knows what MLflow folders and bare files look like, and not how Salver refuses them. The bytes
come from `payloads`. A docstring says what fires the canary if it is not loading itself.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import payloads

Maker = Callable[[Path, Path], Path]
Flavours = dict[str, dict[str, Any]]

_NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"  # of safetensors
_BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "vocab_size": 16,
}


def _write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _mlmodel(folder: Path, flavours: Flavours) -> Path:
    """An MLflow model folder; what MLflow would install from is there, and no concern of ours."""
    model = {"flavors": flavours, "model_uuid": "0" * 32, "mlflow_version": "3.17.2"}
    _write(folder / "MLmodel", json.dumps(model, indent=1))  # JSON is YAML
    _write(folder / "requirements.txt", "evil-package==1\n")
    return folder


def _bare(name: str, make: Callable[[Path], bytes]) -> Maker:
    return lambda folder, canary: _write(folder / name, make(canary))


def _mlflow_file(flavours: Flavours, file: str, make: Callable[[Path], bytes]) -> Maker:
    def maker(folder: Path, canary: Path) -> Path:
        _write(folder / file, make(canary))
        return _mlmodel(folder, flavours)

    return maker


def _mlflow_code(flavours: Flavours, **files: str) -> Maker:
    """An MLflow model with a module of its own in code/, and with other files."""

    def maker(folder: Path, canary: Path) -> Path:
        _write(folder / "code" / "evil.py", f"{payloads.source(canary)}\n")
        for name, content in files.items():
            _write(folder / name.replace("__", "/").replace("_dot_", "."), content)
        return _mlmodel(folder, flavours)

    return maker


def _sklearn(file: str = "model.pkl", form: str = "pickle", **more: Any) -> Flavours:
    return {
        "sklearn": {"pickled_model": file, "serialization_format": form, **more},
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": file, **more},
    }


def _pyfunc(loader: str = "mlflow.pyfunc.model", **more: Any) -> Flavours:
    return {"python_function": {"loader_module": loader, **more}}


def mlflow_sklearn_outside(folder: Path, canary: Path) -> Path:
    _write(folder / "x.pkl", payloads.pickled(canary))
    return _mlmodel(folder / "model", _sklearn("../x.pkl"))


def mlflow_sklearn_symlink(folder: Path, canary: Path) -> Path:
    _write(folder / "x.pkl", payloads.pickled(canary))
    model = _mlmodel(folder / "model", _sklearn())
    (model / "model.pkl").symlink_to("../x.pkl")
    return model


def mlflow_pyfunc_shadow(folder: Path, canary: Path) -> Path:
    """The loader has the name of MLflow's own, and code/ comes first on the path."""
    _write(folder / "code" / "mlflow" / "__init__.py", "")
    _write(folder / "code" / "mlflow" / "xgboost.py", payloads.source(canary))
    _write(folder / "code" / "xgboost.py", payloads.source(canary))
    _write(folder / "model.ubj", b"{")
    flavour = {"code": "code", "data": "model.ubj", "model_class": "xgboost.core.Booster"}
    return _mlmodel(
        folder, {"xgboost": flavour} | _pyfunc("mlflow.xgboost", code="code", data="model.ubj")
    )


def _mlflow_from_code(flavours: Flavours) -> Maker:
    return lambda folder, canary: (
        _write(folder / "model_code.py", payloads.source(canary)),
        _mlmodel(folder, flavours),
    )[1]


def _mlflow_pytorch(make: Callable[[Path], bytes]) -> Maker:
    def maker(folder: Path, canary: Path) -> Path:
        _write(folder / "data" / "model.pth", make(canary))
        _write(folder / "data" / "pickle_module_info.txt", "mlflow.pytorch.pickle_module")
        pyfunc = _pyfunc("mlflow.pytorch", data="data")
        return _mlmodel(folder, {"pytorch": {"model_data": "data"}, **pyfunc})

    return maker


def mlmodel_yaml_tag(folder: Path, canary: Path) -> Path:
    """Fires in a YAML loader other than the safe one."""
    _write(folder / "MLmodel", f'flavors: !!python/object/apply:os.mkdir ["{canary}"]\n')
    return folder


def pt2_pickled_weight(folder: Path, canary: Path) -> Path:
    weight = {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}
    members: dict[str, bytes | str] = {
        "data/weights/model_weights_config.json": json.dumps({"config": {"w": weight}}),
        "data/weights/weight_0": payloads.torch_zip(canary),
    }
    return _write(folder / "model.pt2", payloads.exported(members=members))


def pt2_old_weights(folder: Path, canary: Path) -> Path:
    """PyTorch tries with weights_only=True first, and when that fails without."""
    members = {"data/weights/model.pt": payloads.torch_zip(canary)}
    return _write(folder / "model.pt2", payloads.exported(members=members))


def pt2_sample_inputs(folder: Path, canary: Path) -> Path:
    members = {"data/sample_inputs/model.pt": payloads.torch_zip(canary)}
    return _write(folder / "model.pt2", payloads.exported(members=members))


def pt2_size_expression(folder: Path, canary: Path) -> Path:
    """No pickle at all: sympy evaluates the size of a tensor, which may be any Python."""
    size = {"as_expr": {"expr_str": payloads.source(canary), "hint": None}}
    return _write(folder / "model.pt2", payloads.exported(size=size))


def pt2_guards(folder: Path, canary: Path) -> Path:
    """No pickle at all: conditions are Python, and run when the module is called."""
    guards = [f"{payloads.source(canary)} is None"]
    return _write(folder / "model.pt2", payloads.exported(guards=guards))


def mlflow_pt2_size_expression(folder: Path, canary: Path) -> Path:
    pt2_size_expression(folder / "data", canary)
    pyfunc = _pyfunc("mlflow.pytorch", data="data")
    return _mlmodel(folder, {"pytorch": {"model_data": "data"}, **pyfunc})


def transformers_auto_map(folder: Path, canary: Path) -> Path:
    """Fires with trust_remote_code=True."""
    _write(folder / "modeling_evil.py", payloads.source(canary))
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "modeling_evil.Config"}}
    _write(folder / "config.json", json.dumps(config))
    _write(folder / "model.safetensors", _NO_WEIGHTS)
    return folder


def transformers_tokenizer(folder: Path, canary: Path) -> Path:
    """Fires with trust_remote_code=True in AutoTokenizer; the model itself is harmless."""
    _write(folder / "tokenization_evil.py", payloads.source(canary))
    _write(folder / "config.json", json.dumps(_BERT))
    names = {"AutoTokenizer": ["tokenization_evil.Tokenizer", None]}
    _write(folder / "tokenizer_config.json", json.dumps({"auto_map": names}))
    _write(folder / "model.safetensors", _NO_WEIGHTS)
    return folder


def transformers_pickle(folder: Path, canary: Path) -> Path:
    """Fires with weights_only=False."""
    _write(folder / "config.json", json.dumps(_BERT))
    _write(folder / "pytorch_model.bin", payloads.torch_zip(canary))
    return folder


def transformers_kernel(folder: Path, canary: Path) -> Path:
    """Fetches code from the hub by a name in the configuration, where `kernels` is installed."""
    _write(folder / "config.json", json.dumps({**_BERT, "attn_implementation": "evil/kernel"}))
    _write(folder / "model.safetensors", _NO_WEIGHTS)
    return folder


def sentence_transformers_module(folder: Path, canary: Path) -> Path:
    """Fires with trust_remote_code=True."""
    _write(folder / "evil_module.py", payloads.source(canary))
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil_module.Module"}]
    _write(folder / "modules.json", json.dumps(modules))
    _write(folder / "config.json", json.dumps(_BERT))
    return folder


def keras_lambda(folder: Path, canary: Path) -> Path:
    """Fires with safe_mode=False."""
    return _write(folder / "model.keras", payloads.keras_zip(payloads.keras_lambda(canary)))


def keras_os_function(folder: Path, canary: Path) -> Path:
    """Keras < 3.9 imports and calls it (CVE-2025-1550); later ones import only their own."""
    function = {"module": "os", "class_name": "function", "config": "mkdir"}
    arguments = {"function": function | {"registered_name": "mkdir"}, "name": "layer"}
    config = payloads.keras_model("keras.layers", "Lambda", arguments)
    return _write(folder / "model.keras", payloads.keras_zip(config))


def keras_own_class(folder: Path, canary: Path) -> Path:
    """Keras < 3.9 imports it if it is on the path; later ones refuse in any mode."""
    _write(folder / "evil.py", payloads.source(canary))
    config = payloads.keras_model("evil", "Layer", {"name": "layer"})
    return _write(folder / "model.keras", payloads.keras_zip(config))


def keras_savedmodel_layer(folder: Path, canary: Path) -> Path:
    """Fires with safe_mode=False: a layer of Keras' own that loads a SavedModel from anywhere."""
    saved = savedmodel_at_load(folder / "elsewhere", canary)
    config = {"filepath": str(saved), "call_endpoint": "serving_default", "name": "layer"}
    model = payloads.keras_model("keras.layers", "TFSMLayer", config)
    return _write(folder / "model.keras", payloads.keras_zip(model))


def keras_h5_lambda(folder: Path, canary: Path) -> Path:
    """Fires with safe_mode=False."""
    return _write(folder / "model.h5", payloads.keras_h5(payloads.keras_lambda(canary)))


def _mlflow_keras(**files: str | None) -> Maker:
    """An MLflow model of the older TensorFlow flavour; a file without content is a pickle."""

    def maker(folder: Path, canary: Path) -> Path:
        code = f"{payloads.source(canary)}\n"
        _write(folder / "code" / "evil.py", code)
        for name, content in files.items():
            path = folder / "data" / name.replace("_dot_", ".")
            _write(path, payloads.cloudpickled(canary) if content is None else content)
        flavour = {"data": "data", "model_type": "keras", "save_format": "keras", "code": "code"}
        pyfunc = _pyfunc("mlflow.tensorflow", data="data", code="code")
        return _mlmodel(folder, {"tensorflow": flavour, **pyfunc})

    return maker


def savedmodel_at_load(folder: Path, canary: Path) -> Path:
    _write(folder / "saved_model.pb", payloads.savedmodel(canary, at_load=True))
    (folder / "variables").mkdir()
    return folder


def savedmodel_at_call(folder: Path, canary: Path) -> Path:
    """Fires when the serving signature is called."""
    _write(folder / "saved_model.pb", payloads.savedmodel(canary, at_load=False))
    (folder / "variables").mkdir()
    return folder


def _lightgbm() -> Flavours:
    flavour = {"data": "model.pkl", "model_class": "lightgbm.sklearn.LGBMClassifier"}
    pyfunc = _pyfunc("mlflow.lightgbm", data="model.pkl")
    return {"lightgbm": flavour | {"serialization_format": "cloudpickle"}, **pyfunc}


def _langchain(**more: Any) -> Flavours:
    flavour = {"model_data": "model.pkl", "model_load": "runnable_load", **more}
    return {"langchain": flavour, **_pyfunc("mlflow.langchain", **more)}


def onnx_outside(folder: Path, canary: Path) -> Path:
    """Reads a file outside of the folder, in an onnxruntime older than 1.32."""
    _write(folder / "secret", b"\x01\x02\x03\x04")
    return _write(folder / "model" / "model.onnx", payloads.onnx_external("../secret"))


def onnx_absolute(folder: Path, canary: Path) -> Path:
    secret = _write(folder / "secret", b"\x01\x02\x03\x04")
    return _write(folder / "model" / "model.onnx", payloads.onnx_external(str(secret)))


def onnx_symlink(folder: Path, canary: Path) -> Path:
    _write(folder / "secret", b"\x01\x02\x03\x04")
    model = _write(folder / "model" / "model.onnx", payloads.onnx_external("weights.bin"))
    model.with_name("weights.bin").symlink_to("../secret")
    return model


def onnx_hard_link(folder: Path, canary: Path) -> Path:
    """Loads in onnxruntime 1.32, and what is returned is the secret."""
    secret = _write(folder / "secret", b"\x01\x02\x03\x04")
    model = _write(folder / "model" / "model.onnx", payloads.onnx_external("weights.bin"))
    os.link(secret, model.with_name("weights.bin"))
    return model


def onnx_custom_op(folder: Path, canary: Path) -> Path:
    """No library comes with it; onnxruntime opens one only if its caller names it."""
    return _write(folder / "model.onnx", payloads.onnx_custom_op())


def safetensors_symlink(folder: Path, canary: Path) -> Path:
    """A link out of the folder, to a harmless file that has no business here."""
    header = b'{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    secret = len(header).to_bytes(8, "little") + header + b"\x01\x02\x03\x04"
    _write(folder / "secret", secret)
    _write(folder / "model" / "config.json", json.dumps(_BERT))
    (folder / "model" / "model.safetensors").symlink_to("../secret")
    return folder / "model"


def folder_symlink(folder: Path, canary: Path) -> Path:
    """A link in the middle of a path: its last part is a file like any other."""
    _write(folder / "outside" / "model.onnx", payloads.onnx_custom_op())
    flavours = {"onnx": {"data": "data/model.onnx"}, **_pyfunc("mlflow.onnx", data="data")}
    model = _mlmodel(folder / "model", flavours)
    (model / "data").symlink_to("../outside")
    return model


def _skops(module: str, name: str) -> dict[str, Any]:
    return {"__class__": name, "__module__": module, "__loader__": "TypeNode"}


def skops_type(folder: Path, canary: Path) -> Path:
    """Imports the module that it names once told to trust the type; no canary of its own."""
    schema = {**_skops("evil", "Payload"), "protocol": 2, "_skops_version": "0.16.0"}
    return _write(folder / "model.skops", payloads.zipped({"schema.json": json.dumps(schema)}))


def mlflow_skops(folder: Path, canary: Path) -> Path:
    """The model says itself which types are to be trusted."""
    skops_type(folder, canary)
    _write(folder / "code" / "evil.py", f"{payloads.source(canary)}\nclass Payload: ...\n")
    trusted = {"skops_trusted_types": ["evil.Payload"], "code": "code"}
    return _mlmodel(folder, _sklearn("model.skops", "skops", **trusted))


def npy_objects(folder: Path, canary: Path) -> Path:
    """Fires with allow_pickle=True."""
    return _write(folder / "params.npy", _objects(canary))


def npz_objects(folder: Path, canary: Path) -> Path:
    """Fires with allow_pickle=True."""
    return _write(folder / "params.npz", payloads.zipped({"w.npy": _objects(canary)}))


def _objects(canary: Path) -> bytes:
    """A harmless array of objects, and in its place another pickle."""
    content = io.BytesIO()
    np.save(content, np.array([None], dtype=object), allow_pickle=True)
    header, _, _ = content.getvalue().partition(b"\n")
    return header + b"\n" + payloads.pickled(canary)


DISGUISES = ("ubj", "json", "onnx", "txt", "cbm", "safetensors", "msgpack", "keras", "h5", "pt2")

ARTEFACTS: dict[str, Maker] = {
    "pickle": _bare("model.pkl", payloads.pickled),
    "pickle_protocol_0": _bare("model.pickle", lambda canary: payloads.pickled(canary, 0)),
    "cloudpickle": _bare("model.pkl", payloads.cloudpickled),
    "joblib": _bare("model.joblib", payloads.pickled),
    "joblib_zlib": _bare("model.joblib", lambda canary: zlib.compress(payloads.pickled(canary))),
    "joblib_gzip": _bare("model.joblib", lambda canary: gzip.compress(payloads.pickled(canary))),
    **{f"pickle_as_{end}": _bare(f"model.{end}", payloads.pickled) for end in DISGUISES},
    "torch_zip_as_onnx": _bare("model.onnx", payloads.torch_zip),
    "mlmodel_yaml_tag": mlmodel_yaml_tag,
    "mlflow_sklearn_pickle": _mlflow_file(_sklearn(), "model.pkl", payloads.pickled),
    "mlflow_sklearn_cloudpickle": _mlflow_file(
        _sklearn(form="cloudpickle"), "model.pkl", payloads.cloudpickled
    ),
    "mlflow_sklearn_joblib": _mlflow_file(
        _sklearn("model.joblib"), "model.joblib", payloads.pickled
    ),
    "mlflow_sklearn_outside": mlflow_sklearn_outside,
    "mlflow_sklearn_symlink": mlflow_sklearn_symlink,
    "mlflow_sklearn_code": _mlflow_code(_sklearn(code="code"), model_dot_pkl="cevil\nPayload\n."),
    "mlflow_skops": mlflow_skops,
    "mlflow_pyfunc_only": _mlflow_file(
        _pyfunc("mlflow.sklearn", model_path="model.pkl") | {"evil": {}},
        "model.pkl",
        payloads.pickled,
    ),
    "mlflow_pyfunc_pickle": _mlflow_file(
        _pyfunc(python_model="python_model.pkl"), "python_model.pkl", payloads.cloudpickled
    ),
    "mlflow_pyfunc_loader": _mlflow_code(_pyfunc("evil", code="code")),
    "mlflow_pyfunc_shadow": mlflow_pyfunc_shadow,
    "mlflow_pyfunc_from_code": _mlflow_from_code(
        _pyfunc("mlflow.pyfunc.loaders.code_model", model_code_path="model_code.py")
    ),
    "mlflow_pytorch_zip": _mlflow_pytorch(payloads.torch_zip),
    "mlflow_pytorch_legacy": _mlflow_pytorch(payloads.torch_legacy),
    "mlflow_pytorch_torchscript": _mlflow_pytorch(payloads.torchscript),
    "mlflow_pytorch_pickle_module": _mlflow_code(
        {"pytorch": {"model_data": "data", "code": "code"}}
        | _pyfunc("mlflow.pytorch", data="data", code="code"),
        data__model_dot_pth="",
        data__pickle_module_info_dot_txt="evil",
    ),
    "mlflow_pt2_size_expression": mlflow_pt2_size_expression,
    "mlflow_xgboost_model_class": _mlflow_code(
        {"xgboost": {"data": "model.ubj", "model_class": "evil.Payload", "code": "code"}}
        | _pyfunc("mlflow.xgboost", code="code"),
        model_dot_ubj="{}",
    ),
    "mlflow_lightgbm_pickle": _mlflow_file(_lightgbm(), "model.pkl", payloads.cloudpickled),
    "mlflow_keras_custom_objects": _mlflow_keras(custom_objects_dot_cloudpickle=None),
    "mlflow_keras_module": _mlflow_keras(keras_module_dot_txt="evil"),
    "mlflow_langchain_pickle": _mlflow_file(_langchain(), "model.pkl", payloads.cloudpickled),
    "mlflow_langchain_from_code": _mlflow_from_code(_langchain(model_code_path="model_code.py")),
    "xgboost_pickle": _bare("xgb_classifier.pkl", payloads.pickled),
    "catboost_pickle": _bare("catboost.pickle", payloads.pickled),
    "torch_zip": _bare("model.pt", payloads.torch_zip),
    "torch_legacy": _bare("model.pth", payloads.torch_legacy),
    "torch_pickle": _bare("model.pt", payloads.pickled),
    "torchscript": _bare("model.pt", payloads.torchscript),
    "pt2_pickled_weight": pt2_pickled_weight,
    "pt2_old_weights": pt2_old_weights,
    "pt2_sample_inputs": pt2_sample_inputs,
    "pt2_size_expression": pt2_size_expression,
    "pt2_guards": pt2_guards,
    "transformers_auto_map": transformers_auto_map,
    "transformers_tokenizer": transformers_tokenizer,
    "transformers_pickle": transformers_pickle,
    "transformers_kernel": transformers_kernel,
    "sentence_transformers_module": sentence_transformers_module,
    "keras_lambda": keras_lambda,
    "keras_os_function": keras_os_function,
    "keras_own_class": keras_own_class,
    "keras_savedmodel_layer": keras_savedmodel_layer,
    "keras_h5_lambda": keras_h5_lambda,
    "savedmodel_at_load": savedmodel_at_load,
    "savedmodel_at_call": savedmodel_at_call,
    "skops_type": skops_type,
    "npy_objects": npy_objects,
    "npz_objects": npz_objects,
    "flax_pickle": _bare("params.pkl", payloads.pickled),
    "onnx_outside": onnx_outside,
    "onnx_absolute": onnx_absolute,
    "onnx_symlink": onnx_symlink,
    "onnx_hard_link": onnx_hard_link,
    "onnx_custom_op": onnx_custom_op,
    "safetensors_symlink": safetensors_symlink,
    "folder_symlink": folder_symlink,
}

# These run no code themselves: they read what is not theirs, or cannot be loaded without code.
NO_CANARY = frozenset(
    {
        "folder_symlink",
        "keras_os_function",
        "keras_own_class",
        "onnx_absolute",
        "onnx_custom_op",
        "onnx_hard_link",
        "onnx_outside",
        "onnx_symlink",
        "safetensors_symlink",
        "skops_type",
        "transformers_kernel",
    }
)
