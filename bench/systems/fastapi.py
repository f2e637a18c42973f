"""Plain FastAPI on uvicorn, as most people serve a model: one request, one forward, no batching."""

from bench.systems import RUNTIME, Launch, Setup, System


def launch(setup: Setup) -> Launch:
    """uvicorn with the workers of the setup."""
    argv = [str(setup.python), "-m", "uvicorn", "bench.systems.servers.fastapi:app"]
    argv += ["--host", "127.0.0.1", "--port", str(setup.port)]
    argv += ["--workers", str(setup.workers)]
    # The same switches as the bare server (https://www.uvicorn.org/settings/).
    argv += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return Launch(tuple(argv), {})


SYSTEM = System(
    name="fastapi",
    title="FastAPI",
    distribution="fastapi",
    requirements=(
        "fastapi==0.165.0",
        "uvicorn==0.54.0",
        "uvloop==0.23.0",
        "httptools==0.9.0",
        *RUNTIME,
    ),
    launch=launch,
    note="plain FastAPI on uvicorn, the model in its thread pool, no batching",
)
