"""Archives of `torch.export` (`.pt2`): which of them load without running code of their own.

PyTorch reads such an archive as if its author were trusted: records may be pickles, sizes are
expressions that `sympify` evaluates, guards and names become Python source, operators are looked up
as attributes of `torch`, and contexts of containers import modules. So every string in it is judged
here before PyTorch sees it, by what it is used for. What is not known to be harmless counts as
code. This module does not load anything; it knows the archive's text, not the model.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

PROGRAM = "models/model.json"
SAMPLES = "data/sample_inputs/model.pt"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")

_RECORD = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|extra/.*"
    r"|archive_format|archive_version|byteorder|version|\.data/(?:version|serialization_id)"
)
_PAYLOAD = re.compile(r"(?:weight|tensor)_\d+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|")
_PLAIN = re.compile(r"[A-Za-z0-9_.+-]*")
# Operators on tensors and numbers. `save` and `from_file` write files; the others of ATen do not.
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!(?:save|from_file|warn|_print)\.)"
    r"(?:__(?:and|or|xor|lshift|rshift)__|(?!__)[A-Za-z0-9_]+)\.(?!_)[A-Za-z0-9_]+"
    r"|torch\.ops\.higher_order\.(?:wrap_with_set_grad_enabled|wrap_with_autocast|cond)"
    r"|torch\._?sym_[a-z_]+"
    r"|math\.(?:ceil|floor|trunc|sqrt|pow|log2)"
    r"|_operator\.(?:add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_"
    r"|lshift|rshift|getitem)"
)
# What an expression of sizes consists of, as sympy writes it: no attribute, no call of anything else.
_TOKEN = re.compile(
    r"\b(?:Symbol|Integer|Rational|Float|Add|Mul|Pow|Max|Min|Abs|Mod|PythonMod|ModularIndexing"
    r"|FloorDiv|CleanDiv|CeilDiv|CeilToInt|FloorToInt|TruncToInt|TruncToFloat|RoundToInt|ToFloat"
    r"|IntTrueDiv|FloatTrueDiv|FloatPow|PowByNatural|LShift|RShift|Identity|Where|Piecewise"
    r"|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|Eq|Ne|Lt|Le|Gt|Ge"
    r"|And|Or|Not|true|false|True|False|oo|int_oo|positive|nonnegative|integer|real|precision)\b"
    r"|'[A-Za-z0-9_.]*'|\b\d+(?:\.\d+)?\b|[-+*/%(),=<>&|~ ]"
)
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
# Keys whose values are made anew, are compared only, or are never used.
_UNUSED = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "custom", "from_node")
# Objects of classes of their own, and arguments that may hold anything by any name.
_FOREIGN = ("as_custom_obj", "custom_obj", "as_string_to_argument")
_TENSORS = re.compile(
    r"torch\._utils _rebuild_(?:tensor_v2|parameter)|collections OrderedDict|torch \w+Storage"
    r"|torch\.storage UntypedStorage|torch (?:device|Size)|torch\.serialization _get_layout"
)


def code_in_archive(path: Path) -> list[str]:
    """Why loading an archive would run code of it, one sentence each; none if it does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = archive.namelist()[0].partition("/")[0] + "/"
            names = [name.removeprefix(root) for name in archive.namelist()]
            return list(code_in_records(names, lambda name: archive.read(root + name)))
    except (zipfile.BadZipFile, NotImplementedError, IndexError):
        return ["it is no archive of torch.export, so it may be a pickle"]


def code_in_records(names: Iterable[str], read: Callable[[str], bytes]) -> Iterator[str]:
    """The same of records that any reader of archives gives.

    Args:
        names: All of them.
        read: From a name to its bytes.
    """
    names = list(names)
    known = (PROGRAM, SAMPLES, *CONFIGS)
    for name in names:
        if name not in known and not _RECORD.fullmatch(name):
            yield f"it holds {name!r}, which torch.export does not write for tensors and graphs"
    try:
        for config in CONFIGS:
            yield from _payloads(json.loads(read(config)))
        yield from dict.fromkeys(_strings(json.loads(read(PROGRAM)), ""))
        samples = read(SAMPLES)
        foreign = _foreign_globals(samples) if samples else []
    except (ValueError, KeyError, LookupError, RuntimeError, RecursionError, zipfile.BadZipFile):
        yield "it is not what this version of torch.export writes, so it may hold pickles"
        return
    if foreign:
        yield f"its sample inputs are a pickle that calls {', '.join(foreign)}"


def _payloads(config: dict[str, Any]) -> Iterator[str]:
    for name, entry in config["config"].items():
        if entry["use_pickle"] is not False or not _PAYLOAD.fullmatch(entry["path_name"]):
            yield f"its tensor {name!r} is a pickle"


def _strings(value: Any, key: str) -> Iterator[str]:
    """Complaints about the strings in a program, and all below it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in _FOREIGN and inner:
                yield f"it holds {name}, an object that is no tensor"
            yield from _strings(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)
    elif isinstance(value, str) and not _is_harmless(value, key):
        yield f"its {key} {_shown(value)} is none that is known to be harmless"


def _is_harmless(text: str, key: str) -> bool:
    # as_string: an argument of an operator above. guards_code: `load` does not compile guards.
    if key in ("as_string", "guards_code", *_UNUSED):
        return True
    if key in ("target", "as_operator"):
        return _OPERATOR.fullmatch(text) is not None
    if key == "expr_str":
        return not _TOKEN.sub("", text)
    if key in ("in_spec", "out_spec"):
        return _is_plain_tree(json.loads(text)[1])
    if key in ("name", "as_name", "forward_arg_names"):
        return _NAME.fullmatch(text) is not None
    return _PLAIN.fullmatch(text) is not None


def _is_plain_tree(spec: dict[str, Any]) -> bool:
    """Whether containers are Python's own, with names or numbers for keys."""
    keys = json.loads(spec["context"]) if spec["context"] is not None else None
    is_plain = keys is None or (
        isinstance(keys, list)
        and all(type(k) is int or (isinstance(k, str) and _NAME.fullmatch(k)) for k in keys)
    )
    return bool(
        is_plain and spec["type"] in _CONTAINERS and all(map(_is_plain_tree, spec["children_spec"]))
    )


def _foreign_globals(data: bytes) -> list[str]:
    """What a file of `torch.save` would call when it is unpickled, beyond tensors."""
    found: set[str] = set()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if not name.endswith("/data.pkl"):
                continue
            for opcode, argument, _ in pickletools.genops(archive.read(name)):
                if opcode.name in ("GLOBAL", "INST"):
                    found.add(str(argument))
                elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
                    found.add("what it makes up")  # the name is not in the text
    return sorted(name for name in found if not _TENSORS.fullmatch(name))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
