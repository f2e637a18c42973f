"""Optimised variants: the part of a model that computes, exchanged for a faster runtime.

A variant is a checkpoint of its own: a graph, and in its metadata what it stands for (`Variant`).
The class that a user wrote stays as it is, with its tokenizer, its rules and its outputs; only the
network, session or estimator that it holds is asked elsewhere. This module does not know how a
variant was made, nor whether it is faithful.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from salver.errors import CheckpointError
from salver.models.checkpoint import Checkpoint
from salver.models.variants.parts import part_at
from salver.models.variants.provenance import changed
from salver.models.variants.runtimes import instructions, open_runtime

PLACE = "(variant)"  # among the checkpoints of a deployment; no argument can be called so
METADATA = "variant"
GOLDEN = "golden"  # rows with what the original said to them, which are nobody's to read


@dataclass(frozen=True, slots=True)
class Variant:
    """What a checkpoint with an optimised graph says of itself.

    Attributes:
        name: Of the candidate it was, such as "openvino-bf16".
        kind: What it stands for: "torch", "onnx", "sklearn" or "booster"; see
            `salver.models.variants.parts`.
        path: Where in the model that is: names of attributes, keys and positions.
        runtime: "onnxruntime" or "openvino".
        precision: What the runtime computes in, as it said itself: "fp32", "bf16" or "int8"; "own"
            if the user gave the graph, which says what it computes in at each of its steps.
        file: The graph.
        inputs: Names and dtypes of what the part is given, in the order of the graph.
        constants: What else the part is given; a call with others is left to the original.
        instructions: Instruction sets of the processor on which it was judged.
        files: sha256 of the source files that it was made from, by path.
        libraries: Versions of the libraries that it was made with.
    """

    name: str
    kind: str
    path: tuple[str | int, ...]
    runtime: str
    precision: str
    file: str
    inputs: tuple[tuple[str, str], ...]
    constants: Mapping[str, Any]
    instructions: tuple[str, ...]
    files: Mapping[str, str]
    libraries: Mapping[str, str]

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def changed(self) -> str:
        """What it was made from that is another now, for people; empty if nothing is."""
        return changed(self.files, self.libraries)

    @staticmethod
    def of(checkpoint: Checkpoint) -> Variant:
        """Reads it from the metadata of a checkpoint.

        Raises:
            CheckpointError: If there is none, or of another version of Salver.
        """
        found = checkpoint.metadata.get(METADATA)
        names = {f.name for f in fields(Variant)}
        if not isinstance(found, dict) or set(found) != names:
            raise CheckpointError(
                f"{checkpoint.path} is no variant that this version of Salver knows. Run salver "
                "optimize again."
            )
        inputs = tuple((str(name), str(dtype)) for name, dtype in found["inputs"])
        return Variant(
            **{
                **found,
                "path": tuple(found["path"]),
                "inputs": inputs,
                "instructions": tuple(found["instructions"]),
            }
        )


def install(model: Any, checkpoint: Checkpoint) -> None:
    """Has the part of `model` that computes answer from the graph of a variant.

    Raises:
        CheckpointError: If the graph cannot be loaded, does not fit the model, or would compute
            otherwise on this processor than where it was judged.
        MissingExtra: If its runtime is not installed.
    """
    variant = Variant.of(checkpoint)
    if variant.instructions != instructions():
        raise CheckpointError(
            f"The variant {variant.name} was judged on a processor with "
            f"{_listed(variant.instructions)}, and this one has {_listed(instructions())}. Run "
            "salver optimize here."
        )
    part = part_at(model, variant.kind, variant.path)
    runtime = open_runtime(variant.runtime, checkpoint.file(variant.file), variant.precision)
    part.exchange(runtime, variant.inputs, variant.constants)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no vector instructions that count"
