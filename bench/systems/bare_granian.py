"""A bare limit: granian (its HTTP is Rust) echoing the constant model's answer."""

from bench.systems import Launch, Setup, System
from bench.systems.bare_uvicorn import echo


def launch(setup: Setup) -> Launch:
    """One worker, as for uvicorn; the switches are described by `granian --help`."""
    argv = [str(setup.python), "-m", "granian", "bench.systems.servers.bare:app"]
    argv += ["--host", "127.0.0.1", "--port", str(setup.port), "--workers", "1"]
    argv += ["--interface", "asginl"]  # ASGI without lifespan events
    argv += ["--http", "1", "--no-ws", "--loop", "uvloop", "--log-level", "warning"]
    return Launch(tuple(argv), echo())


SYSTEM = System(
    name="bare-granian",
    title="bare granian",
    distribution="granian",
    requirements=("granian==2.8.7", "uvloop==0.23.0"),
    launch=launch,
    models=("constant",),
    shape=lambda _model, _cores: (1, 1),
    cost_s=2.0,
    note="the same app on granian with uvloop",
)
