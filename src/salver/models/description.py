"""What is known of a model that was adopted: its framework, its inputs, and what it would run.

It stands in the metadata of the checkpoint, so that the digest covers it and every process of a
service reads the same. A framework's adapter (one module of `salver.models.frameworks` each) reads
an `Artifact`; this module does not know any framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from salver.errors import CheckpointError, nearest
from salver.models.checkpoint import Checkpoint
from salver.models.signature import Signature
from salver.paths import check_relative, safe_join

METADATA = "model"  # its key in the metadata of a checkpoint

Inputs = Mapping[str, "np.ndarray[Any, Any]"]
Model = Callable[[Inputs], Any]


@dataclass(frozen=True, slots=True)
class Artifact:
    """The files of a model.

    Attributes:
        folder: Where they lie.
        names: Their relative paths, sorted.
        flavor: What MLflow wrote down for the framework; empty for bare files.
    """

    folder: Path
    names: tuple[str, ...]
    flavor: Mapping[str, Any]

    def path(self, name: Any) -> Path:
        """The path of a file or folder among them.

        Raises:
            CheckpointError: If there is none of that name; UnsafePath if it leads out.
        """
        if not isinstance(name, str):
            raise CheckpointError(f"{self.folder} should name a file and has {name!r}.")
        check_relative(name)
        if name not in self.names and not any(n.startswith(name + "/") for n in self.names):
            raise CheckpointError(
                f"The model has no file {name!r}, which it names. {nearest(name, self.names)}"
            )
        return safe_join(self.folder, name)

    def file(self, key: str) -> str:
        """The name that MLflow gives under `key`, or that of the first of bare files.

        Raises:
            CheckpointError: If there is none of that name; UnsafePath if it leads out.
        """
        name = self.flavor.get(key, self.names[0])
        self.path(name)
        return str(name)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Names of the files that end so."""
        return [name for name in self.names if name.endswith(suffixes)]


class Adapter(Protocol):
    """One framework: what each module of `salver.models.frameworks` holds.

    The framework itself is imported by `signature_of` and `load` only.

    Attributes:
        LIBRARY: The distribution that must be installed.
        MODULES: What is imported of it.
        EXTRA: The extra of Salver that installs it.
        FLAVORS: MLflow's names for it.
    """

    LIBRARY: str
    MODULES: tuple[str, ...]
    EXTRA: str
    FLAVORS: tuple[str, ...]

    def recognise(self, names: tuple[str, ...]) -> bool:
        """Whether bare files are of this framework, by their names."""
        ...

    def code_in(self, artifact: Artifact) -> list[str]:
        """Why loading would run code of the artefact, one sentence each; none if it does not."""
        ...

    def signature_of(self, artifact: Artifact) -> Signature:
        """What the model itself says of its inputs, where MLflow does not; runs no code of it.

        Raises:
            CheckpointError: If it says nothing.
        """
        ...

    def load(self, artifact: Artifact, signature: Signature) -> Model:
        """The model, ready; class names in its `classes_`, if it has any."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """See the module's description.

    Attributes:
        framework: Name of the adapter.
        flavor: As in `Artifact`.
        signature: The inputs.
        code: Why loading it runs code; empty if it does not.
        name: What a deployment of it is called.
    """

    framework: str
    flavor: Mapping[str, Any]
    signature: Signature
    code: tuple[str, ...]
    name: str

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "framework": self.framework,
            "flavor": dict(self.flavor),
            "signature": self.signature.dump(),
            "code": list(self.code),
            "name": self.name,
        }

    @staticmethod
    def of(adopted: Checkpoint) -> Description:
        """Reads it from the metadata of a checkpoint.

        Raises:
            CheckpointError: If there is none, for the checkpoint is one of a user's own class.
        """
        where = adopted.source or str(adopted.path)
        found = adopted.metadata.get(METADATA)
        if not isinstance(found, dict) or set(found) != set(Description.__slots__):
            raise CheckpointError(
                f"{where} does not say which framework it is of. Serve the service whose class "
                "loads it: salver serve MODULE:NAME."
            )
        signature = Signature.load(found["signature"], where)
        return Description(**{**found, "signature": signature, "code": tuple(found["code"])})


def refusal(source: str, code: Sequence[str]) -> str:
    """What to say of a model whose code nobody has allowed."""
    return (
        f"{source} would run code when it is loaded: {'; '.join(code)}. If you trust where it "
        "comes from, allow that for this model: --allow-code, or allow_code=True among its "
        "options. Else log it in a format that holds no code, such as skops, safetensors or ONNX."
    )
