"""JAX: an exported function answers by URI what it answers in Python, online and offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.export import DisabledSafetyCheck, export, symbolic_shape

from frameworks.asking import Asker
from frameworks.in_process import answers, asked, described_of, loaded
from salver.errors import CheckpointError

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(37, 3)).astype(np.float32)


def shaped(shape: str, dtype: Any = jnp.float32, **symbols: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(symbolic_shape(shape, **symbols), dtype)


def saved(where: Path, function: Callable[..., Any], *shapes: Any, **named: Any) -> Path:
    where.write_bytes(export(jax.jit(function))(*shapes, **named).serialize())
    return where


class Tagger(flax.linen.Module):
    """Two layers, one of which normalises each row."""

    @flax.linen.compact
    def __call__(self, x: Any) -> Any:
        x = flax.linen.gelu(flax.linen.LayerNorm()(flax.linen.Dense(8)(x)), approximate=False)
        return flax.linen.Dense(4)(x)


def test_a_flax_module_with_its_parameters(asker: Asker, tmp_path: Path) -> None:
    """Probabilities by the name that the function gives them, for any number of rows."""
    module = Tagger()
    parameters = module.init(jax.random.key(0), INPUTS[:1])

    def tag(features: Any) -> Any:
        logits = module.apply(parameters, features)
        return {"probabilities": jax.nn.softmax(logits), "prediction": logits.argmax(axis=1)}

    where = saved(tmp_path / "tagger.jax", tag, shaped("b, 3"))
    expected = jax.tree.map(np.asarray, tag(INPUTS))
    rows = [{"input": row} for row in INPUTS.tolist()]
    asker.agree(str(where), rows, expected, tolerance=1e-5)


def test_a_fixed_number_of_rows_and_named_arguments(asker: Asker, tmp_path: Path) -> None:
    """Batches are filled up to the size that was exported; scalars are columns of their own."""

    def price(*, size: Any, rooms: Any, is_new: Any) -> Any:
        return size * 2.5 + rooms**2 + jnp.where(is_new, 100.0, 0.0)

    kinds = {"size": jnp.float32, "rooms": jnp.int32, "is_new": jnp.bool_}
    shapes = {name: jax.ShapeDtypeStruct((8,), kind) for name, kind in kinds.items()}
    where = saved(tmp_path / "price.stablehlo", price, **shapes)
    columns = {"size": INPUTS[:, 0], "rooms": RNG.integers(1, 9, 37), "is_new": INPUTS[:, 1] > 0}
    rows = [
        {"size": float(s), "rooms": int(r), "is_new": bool(i)}
        for s, r, i in zip(*columns.values(), strict=True)
    ]
    asker.agree(str(where), rows, {"prediction": np.asarray(price(**columns))}, tolerance=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 9, 37])
@pytest.mark.parametrize("size", ["b", "4"])
def test_any_number_of_rows(tmp_path: Path, size: str, n: int) -> None:
    """What fills a batch up leaves no trace in the answer."""
    where = saved(tmp_path / "f.jax", lambda x: (x * 2).sum(axis=1), shaped(f"{size}, 3"))
    found = answers(where, {"input": list(INPUTS[:n])})
    np.testing.assert_allclose(found["prediction"], INPUTS[:n].sum(axis=1) * 2, 1e-5, 1e-5)


def test_types_and_shapes(tmp_path: Path) -> None:
    """Those of the arguments; what is symbolic beyond the rows may have any length."""

    def f(image: Any, words: Any) -> Any:
        return image.mean((1, 2, 3)) + words.sum(axis=1)

    scope: dict[str, Any] = {"scope": jax.export.SymbolicScope()}
    where = saved(
        tmp_path / "f.jax",
        lambda given: f(**given),
        {"image": shaped("b, 2, 2, 3", jnp.uint8, **scope), "words": shaped("b, t", **scope)},
    )
    columns = described_of(where).signature.columns
    assert [("image", "uint8", (2, 2, 3)), ("words", "float32", (-1,))] == [
        (c.name, c.dtype, c.shape) for c in columns
    ]
    images = RNG.integers(0, 255, (4, 2, 2, 3)).astype(np.uint8)
    found = answers(where, {"image": list(images), "words": list(INPUTS[:4])})
    np.testing.assert_allclose(found["prediction"], f(images, INPUTS[:4]), 1e-5)


@pytest.mark.parametrize(
    ("function", "shapes", "names", "outputs"),
    [
        (lambda x, y: x + y, ["b", "b"], ["input_0", "input_1"], ["prediction"]),
        (lambda x: {"a": {"b": x}, "c": [x]}, ["b"], ["input"], ["a.b", "c.0"]),
        (lambda x: (x, x), ["b"], ["input"], ["prediction_0", "prediction_1"]),
    ],
)
def test_names_of_arguments_and_answers(
    tmp_path: Path, function: Any, shapes: list[str], names: list[str], outputs: list[str]
) -> None:
    """Keys where there are some, else their places."""
    scope: dict[str, Any] = {"scope": jax.export.SymbolicScope()}
    where = saved(tmp_path / "f.jax", function, *(shaped(shape, **scope) for shape in shapes))
    assert names == [column.name for column in described_of(where).signature.columns]
    assert outputs == list(answers(where, {name: [1.0, 2.0] for name in names}))


def test_arguments_by_place_and_by_keyword(tmp_path: Path) -> None:
    """Each gets its own values, whatever the order of the names."""
    scope: dict[str, Any] = {"scope": jax.export.SymbolicScope()}
    where = saved(
        tmp_path / "f.jax",
        lambda x, *, by, a: x - by * 10 - a * 100,
        shaped("b", **scope),
        by=shaped("b", **scope),
        a=shaped("b", **scope),
    )
    given = {"a": [1.0], "by": [2.0], "input_0": [3.0]}
    assert set(given) == {column.name for column in described_of(where).signature.columns}
    turned = {c.name: given[c.name] for c in described_of(where).signature.columns}
    assert [3.0 - 20 - 100] == answers(where, turned)["prediction"].tolist()


@pytest.mark.parametrize("dtype", ["float64", "int64", "bfloat16"])
def test_numbers_of_other_widths(tmp_path: Path, dtype: str) -> None:
    """64 bits stay 64; bfloat16 is given and answered as float32."""
    with jax.enable_x64(True):
        where = saved(tmp_path / "f.jax", lambda x: x * 3, shaped("b", jnp.dtype(dtype)))
    value = {"float64": 1 / 3, "int64": 2**40 + 1, "bfloat16": 1.5}[dtype]
    assert [value * 3, 6] == answers(where, {"input": [value, 2]})["prediction"].tolist()


def test_linear_algebra_of_the_processor_is_no_foreign_call(tmp_path: Path) -> None:
    """JAX exports it as calls that it knows itself."""
    matrix = np.eye(3, dtype=np.float32) * 2

    def solve(x: Any) -> Any:
        return jnp.linalg.solve(matrix + jnp.abs(x)[:, :, None], x[:, :, None])[:, :, 0]

    where = saved(tmp_path / "f.jax", solve, shaped("b, 3"))
    found = answers(where, {"input": list(INPUTS)})["prediction"]
    np.testing.assert_allclose(found, solve(INPUTS), 1e-4, 1e-5)


def test_a_call_into_the_process_is_refused(tmp_path: Path) -> None:
    """Though JAX itself would make it when the function is asked."""
    target = "xla_ffi_python_cpu_callback"

    def f(x: Any) -> Any:
        return jax.ffi.ffi_call(target, jax.ShapeDtypeStruct((2,), jnp.float32))(x)

    allowed = [DisabledSafetyCheck.custom_call(target)]
    made = export(jax.jit(f), disabled_checks=allowed)(jax.ShapeDtypeStruct((2,), jnp.float32))
    where = tmp_path / "f.jax"
    where.write_bytes(made.serialize())
    with pytest.raises(CheckpointError, match=r"calls a function of the process.*python_cpu"):
        described_of(where)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x: x.sum(), ["b"]),
        (lambda x: x, [""]),
        (lambda x, y: x + y[0], ["b", "c"]),
        (lambda x: x.reshape(-1, 2).sum(axis=1), ["2*b"]),
    ],
)
def test_functions_that_do_not_answer_by_the_row_are_refused(
    tmp_path: Path, function: Any, shapes: list[str]
) -> None:
    """With the shapes, and how to export it."""
    scope: dict[str, Any] = {"scope": jax.export.SymbolicScope()}
    where = saved(tmp_path / "f.jax", function, *(shaped(shape, **scope) for shape in shapes))
    with pytest.raises(CheckpointError, match=r"first axis that counts rows .*float32"):
        described_of(where)


def test_a_function_for_other_machines_is_refused(tmp_path: Path) -> None:
    """When it is looked at, with the line that exports it for this one."""
    made = export(jax.jit(lambda x: x), platforms=["tpu"])(shaped("b"))
    where = tmp_path / "f.jax"
    where.write_bytes(made.serialize())
    with pytest.raises(CheckpointError, match="of tpu, and here is cpu"):
        described_of(where)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"ML\xefR rest", b"{}" * 99])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """By what is in them, and nothing of them is run."""
    where = tmp_path / "f.jax"
    where.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"f\.jax is (no function|bare StableHLO)"):
        described_of(where)


def test_a_function_is_compiled_for_few_sizes(tmp_path: Path) -> None:
    """Each new number of rows would take a second else."""
    model = loaded(saved(tmp_path / "f.jax", lambda x: x + 1, shaped("b")))
    compiled = []
    for n in range(1, 9):
        asked(model, {"input": [1.0] * n})
        compiled.append(model._model._call._cache_size())  # type: ignore[attr-defined]
    assert [1, 2, 3, 3, 4, 4, 4, 4] == compiled
