"""Makes the graphs of candidates: exported from a part of a model, and quantised.

It runs in a process of its own (`salver.optimization.building`), since exporters take much memory
and some of them end the process. It does not know how fast or how faithful a graph is.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from salver.errors import CheckpointError, MissingExtra
from salver.models.variants.parts import Call, Part
from salver.models.variants.runtimes import EXTRA, instructions
from salver.optimization.recipes import Recipe

MAX_CALLS = 300  # that int8 graphs are calibrated on
_CONVERTERS = {"sklearn": ("skl2onnx",), "booster": ("skl2onnx", "onnxmltools")}
_VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}


class Graphs:
    """The graphs of one part; what several candidates are made of is exported once.

    Args:
        part: What is exchanged.
        calls: What it was given on the rows for calibration, all of one form.
        folder: For files in between.
    """

    def __init__(self, part: Part, calls: Sequence[Call], folder: Path) -> None:
        _be_silent()
        self._part: Any = part
        self._calls = calls
        self._onnx = folder / "exported" / "model.onnx"
        self._openvino: Any = None

    def make(self, recipe: Recipe, folder: Path) -> str:
        """Writes the graph of a candidate into an empty folder; returns the file's name.

        Raises:
            CheckpointError: If that cannot be done with this part.
        """
        if recipe.runtime == "openvino":
            return self._write_openvino(recipe, folder)
        if recipe.precision == "fp32":
            shutil.copytree(self._exported().parent, folder, dirs_exist_ok=True)
            return self._onnx.name
        self._quantise(recipe.how, folder / "model.onnx")
        return "model.onnx"

    def _exported(self) -> Path:
        if self._onnx.exists():
            return self._onnx
        # Renamed once it is whole, for other candidates may come after one that failed.
        with tempfile.TemporaryDirectory(dir=self._onnx.parents[1]) as scratch:
            folder = Path(scratch, "whole")
            folder.mkdir()
            self._export(folder / self._onnx.name)
            os.rename(folder, self._onnx.parent)
        return self._onnx

    def _export(self, path: Path) -> None:
        if self._part.kind == "onnx":
            session = self._part.value
            given = getattr(session, "_model_path", None) or getattr(session, "_model_bytes", None)
            if not given:
                raise CheckpointError("The session does not tell which graph it has loaded.")
            copy_graph(given, path)
            return
        for library in _CONVERTERS.get(self._part.kind, ()):
            if importlib.util.find_spec(library) is None:
                raise MissingExtra(library, "A graph of this model", EXTRA)
        exporter = importlib.import_module(f"salver.optimization.export_{self._part.kind}")
        exporter.to_onnx(self._part, self._calls, path)

    def _write_openvino(self, recipe: Recipe, folder: Path) -> str:
        import openvino as ov

        if self._openvino is None:
            if self._part.kind == "torch":
                from salver.optimization.export_torch import to_openvino

                self._openvino = to_openvino(self._part, self._calls)
            else:
                self._openvino = ov.convert_model(self._exported())
        model = self._openvino
        if recipe.precision == "int8":
            model = _quantised_by_nncf(model.clone(), self._calls)
        # Compressed, it would hold its weights in fp16, and no longer be the same.
        ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
        return "model.xml"

    def _quantise(self, how: str, path: Path) -> None:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        prepared = path.with_name("prepared.onnx")
        quant_pre_process(str(self._exported()), str(prepared), skip_symbolic_shape=True)
        # Without VNNI, products of unsigned and signed bytes saturate in 16 bits.
        weights = QuantType.QInt8 if _VNNI & set(instructions()) else QuantType.QUInt8
        if how == "dynamic":
            quantize_dynamic(
                prepared,
                path,
                per_channel=True,
                reduce_range=False,
                weight_type=weights,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
        else:
            reader = _reader(prepared, self._calls)
            quantize_static(
                str(prepared), str(path), reader, per_channel=True, weight_type=QuantType.QInt8
            )
        prepared.unlink()


def copy_graph(given: str | bytes, path: Path) -> None:
    """Writes a graph of ONNX, given by path or content, with weights that lie beside it."""
    import onnx

    model = onnx.load_from_string(given) if isinstance(given, bytes) else onnx.load(given)
    is_large = model.ByteSize() > 1 << 30  # a file of protobuf ends at 2 GiB
    onnx.save(model, str(path), save_as_external_data=is_large, location="weights.bin")


def _reader(path: Path, calls: Sequence[Call]) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    names = [one.name for one in onnx.load(str(path), load_external_data=False).graph.input]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._calls: Iterator[Call] = iter(calls[:MAX_CALLS])

        def get_next(self) -> dict[str, Any] | None:
            call = next(self._calls, None)
            return None if call is None else dict(zip(names, call.arrays.values(), strict=True))

    return Reader()


def _quantised_by_nncf(model: Any, calls: Sequence[Call]) -> Any:
    """Post-training quantisation of NNCF, with its scheme for transformers where there is one."""
    import nncf

    used = calls[:MAX_CALLS]
    dataset = nncf.Dataset(used, lambda call: dict(enumerate(call.arrays.values())))
    kinds = {operation.get_type_name() for operation in model.get_ops()}
    is_transformer = "ScaledDotProductAttention" in kinds or {"Softmax", "MatMul"} <= kinds
    return nncf.quantize(
        model,
        dataset,
        model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(used),
    )


def _be_silent() -> None:
    """Keeps OpenVINO and NNCF from sending usage to their makers, which they do unasked.

    Both do without when the module that sends is not there.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
