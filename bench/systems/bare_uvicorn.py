"""A bare limit: uvicorn echoing the constant model's answer."""

import json

from bench.systems import Launch, Setup, System


def echo() -> dict[str, str]:
    """The variable that tells the bare app what to answer."""
    from bench.predictors import CONSTANT_ROW, answer  # not at import: rivals may lack numpy

    return {"BENCH_ECHO": json.dumps(answer(CONSTANT_ROW), separators=(",", ":"))}


def launch(setup: Setup) -> Launch:
    """One process: with a second one the load generator would be the limit."""
    argv = [str(setup.python), "-m", "uvicorn", "bench.systems.servers.bare:app"]
    argv += ["--host", "127.0.0.1", "--port", str(setup.port)]
    # uvicorn's own advice for speed (https://www.uvicorn.org/settings/): uvloop and httptools;
    # and no access log, which no system here writes.
    argv += ["--loop", "uvloop", "--http", "httptools", "--lifespan", "off"]
    argv += ["--no-access-log", "--log-level", "warning"]
    return Launch(tuple(argv), echo())


SYSTEM = System(
    name="bare-uvicorn",
    title="bare uvicorn",
    distribution="uvicorn",
    requirements=(),
    launch=launch,
    models=("constant",),
    shape=lambda _model, _cores: (1, 1),
    cost_s=2.0,
    note="an ASGI app that echoes fixed bytes on uvicorn with uvloop and httptools",
)
