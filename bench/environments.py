"""A virtual environment for each rival, made once and kept under ``bench/.venvs``.

It does not know what the packages are for. An environment that cannot be made is a reason in the
report, never a system that is silently missing.
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENVS = ROOT / "bench" / ".venvs"
INSTALL_LIMIT_S = 1200
# No rival needs torch (the models run on ONNX Runtime), and its usual wheel brings gigabytes of
# CUDA. A rival that asks for it fails at once instead.
CONSTRAINTS = "torch<0\n"


class EnvironmentFailed(Exception):
    """A rival could not be installed; the message is the reason."""


def python_of(name: str, requirements: tuple[str, ...]) -> Path:
    """The interpreter of an environment with these packages, made if it is not there yet.

    Systems with the same name share an environment; it is made anew when their requirements
    change.

    Args:
        name: The folder below ``bench/.venvs``.
        requirements: What pip installs; none means the environment that runs the benchmark.

    Raises:
        EnvironmentFailed: If pip cannot install them.
    """
    if not requirements:
        return Path(sys.executable)
    VENVS.mkdir(parents=True, exist_ok=True)
    folder = VENVS / name
    python = folder / "bin" / "python"
    stamp = folder / "requirements.json"
    with (VENVS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be installing the same one
        if not (stamp.exists() and json.loads(stamp.read_text()) == _recipe(requirements)):
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True, symlinks=True)
            _install(name, python, requirements)
            stamp.write_text(json.dumps(_recipe(requirements), indent=1))
    return python


def version_of(python: Path, distribution: str) -> str:
    """The installed version of a distribution; empty if it is not installed there."""
    code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    run = subprocess.run(
        [str(python), "-c", code, distribution], capture_output=True, text=True, check=False
    )
    return run.stdout.strip() if run.returncode == 0 else ""


def _recipe(requirements: tuple[str, ...]) -> dict[str, object]:
    digest = hashlib.sha256("\n".join((*requirements, CONSTRAINTS, sys.version)).encode())
    return {"requirements": list(requirements), "digest": digest.hexdigest()}


def _install(name: str, python: Path, requirements: tuple[str, ...]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(CONSTRAINTS)
        constraints.flush()
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--constraint", constraints.name, *requirements]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentFailed(
                f"pip install of {name} took longer than {INSTALL_LIMIT_S} s"
            ) from None
    if run.returncode != 0:
        errors = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
        reason = (errors or run.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentFailed(f"pip install of {name} failed: {reason}")
