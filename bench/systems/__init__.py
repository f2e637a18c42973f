"""What is measured: one module per system beside this one.

Each defines ``SYSTEM``, and some ``VARIANTS`` of it.

A system says how to start a server that answers the one request form, and how to write a request
and read an answer where its protocol wraps them in an envelope of its own. It does not know how
servers are timed, and imports nothing of the rival: the scripts in ``bench.systems.servers`` do,
and they run in the rival's own environment.
"""

import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODELS = ("constant", "minilm", "bert-base", "sklearn")

RUNTIME = ("numpy==2.4.6", "onnxruntime==1.32.0", "tokenizers==0.23.3", "scikit-learn==1.9.1")
"""What ``bench.predictors`` needs, in the same versions for every system that allows them."""

Row = dict[str, str]
Answer = dict[str, object]
"""``{"prediction": str, "probabilities": {class: float}}``, whatever the protocol."""


@dataclass(frozen=True)
class Setup:
    """What one measurement asks of a system."""

    model: str
    folder: Path  # the model's artifacts
    port: int
    threads: int  # math threads of one worker
    workers: int
    cores: int
    python: Path  # of the system's environment

    def environment(self) -> dict[str, str]:
        """The variables that every server script reads; the harness sets them for all systems."""
        return {
            "BENCH_MODEL": self.model,
            "BENCH_FOLDER": str(self.folder),
            "BENCH_PORT": str(self.port),
            "BENCH_THREADS": str(self.threads),
            "BENCH_WORKERS": str(self.workers),
            # Without these a library's thread pool takes all cores in every worker.
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            "OPENBLAS_NUM_THREADS": str(self.threads),
            # Tokenising is part of a worker's share too.
            "RAYON_NUM_THREADS": str(self.threads),
        }

    def script(self, name: str) -> tuple[str, ...]:
        """The command that runs ``bench/systems/servers/NAME.py`` in the system's environment.

        As a module: run by its path, a script called ``litserve.py`` would hide the package that
        it imports.
        """
        return (str(self.python), "-m", f"bench.systems.servers.{name}")


@dataclass(frozen=True)
class Launch:
    """How to start a system, where to ask it and how to stop it.

    The harness runs ``argv`` in an empty scratch directory with the repository on ``PYTHONPATH``
    and ``Setup.environment()`` set; ``env`` is added to those.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    path: str = "/predict"  # POST here
    ready: str = ""  # GET path that answers 200 when ready; "": the first good answer on `path`
    stop: tuple[str, ...] = ()  # run after SIGTERM to the process group


def json_body(row: Row) -> bytes:
    """The one request form: ``{"title", "description"}``."""
    return json.dumps(row).encode()


def json_answer(body: bytes) -> Answer:
    """The one answer form, as it is."""
    answer: Answer = json.loads(body)
    return answer


def a_worker_per_core(model: str, cores: int) -> tuple[int, int]:
    """One single-threaded worker on each core."""
    return cores, 1


@dataclass(frozen=True)
class System:
    """One server under measurement."""

    name: str
    title: str
    distribution: str  # pip name whose version is reported
    requirements: tuple[str, ...]  # pinned; () = the project's own environment
    launch: Callable[[Setup], Launch]
    models: tuple[str, ...] = MODELS  # which it can serve
    encode: Callable[[Row], bytes] = json_body
    decode: Callable[[bytes], Answer] = json_answer
    shape: Callable[[str, int], tuple[int, int]] = a_worker_per_core
    """``shape(model, cores) -> (workers, threads of each)``: what performs best on these cores."""
    shape_said: Callable[[bytes], tuple[int, int]] | None = None
    """Reads the same from the answer on `Launch.ready`, of a system that chooses by itself."""
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    venv: str = ""  # systems with the same one share an environment; "" = the name
    cost_s: float = 4.0  # to start, check and stop it: for the estimate, and to spare the slow
    on_request: bool = False  # measured only when it is named
    note: str = ""  # shown under the table

    @property
    def environment(self) -> str:
        """The folder of its environment below ``bench/.venvs``."""
        return self.venv or self.name


FIRST = ("bare-uvicorn", "bare-granian", "salver")
"""Measured, and shown, before the rivals."""


def _discover() -> dict[str, System]:
    """Every module beside this one, the bare limits and Salver first."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in sorted(names)]
    found = [one for module in modules for one in (module.SYSTEM, *getattr(module, "VARIANTS", ()))]
    by_name = {system.name: system for system in found}
    return {name: by_name[name] for name in FIRST if name in by_name} | by_name


SYSTEMS: dict[str, System]
"""By name; looked for when first asked for, since the servers import this package too."""


def __getattr__(name: str) -> object:
    if name != "SYSTEMS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = _discover()
    return globals()[name]
