"""What starts what: the engine, the HTTP server and offline jobs of a service.

This is the one place that knows all of them. It holds no logic of its own beyond the order in
which things start and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvloop

from salver.engine import children, targets
from salver.engine.local import LocalEngine
from salver.errors import ConfigError, NotReady
from salver.service import Service
from salver.session import Configuration, Face, Session

log = logging.getLogger("salver")

HEAVY = ("torch", "tensorflow", "onnxruntime", "jax")


async def serve(
    service: Service,
    target: str | None,
    configuration: Configuration,
    say: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serves until `stop` is set.

    The port is bound first, so that health checks answer while models load; predictions get 503
    until they have.
    """
    overrides = configuration.overrides(service)
    settings = configuration.settings(overrides)
    engine = LocalEngine(service, target, overrides)
    face = Face(engine, settings)
    _warn_of_heavy_imports(say)
    await face.start()
    _serving[service] = engine
    say(f"Loading {', '.join(service.deployments)} ...")
    try:
        starting = asyncio.ensure_future(engine.start())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        children.discard()  # no replica was like it
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return
        starting.result()
        # What was loaded stays: the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        _say_ready(engine, face, say)
        await stopping
        say("Draining ...")
    finally:
        del _serving[service]
        try:
            await face.stop()
        finally:
            await engine.stop(settings.drain_timeout_s)


def _say_ready(engine: LocalEngine, face: Face, say: Callable[[str], None]) -> None:
    for note in engine.notes:
        say(note)
    for name, plan in engine.plans.items():
        say(plan.described(name))
    for shadowed in face.front.shadowed_routes():
        say(f"Your own route {shadowed} wins over the generated one.")
    for deployment in engine.service.exposed:
        say(f"POST {face.address}{engine.service.route_of(deployment)}  ({deployment.name})")
    say(f"Ready. Try it at {face.address}/docs")


def _warn_of_heavy_imports(say: Callable[[str], None]) -> None:
    loaded = [name for name in HEAVY if name in sys.modules]
    if loaded:
        say(
            f"Importing the service loaded {', '.join(loaded)} into the front, which only costs "
            "memory and time there. Import it inside __init__ of the model class."
        )


def serve_until_signalled(
    service: Service, target: str | None, configuration: Configuration, say: Callable[[str], None]
) -> None:
    """Serves until SIGTERM or Ctrl-C, then drains; a second signal ends at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def signalled() -> None:
            if stop.is_set():
                os._exit(1)  # replicas end with the process, since they hold its lifeline
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)
        await serve(service, target, configuration, say, stop)

    uvloop.run(main())


def predict_files(
    service: Service,
    target: str,
    configuration: Configuration,
    say: Callable[[str], None],
    *,
    deployment: str | None,
    paths: tuple[str, str],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Runs one offline job from start to end, with progress on stderr.

    Args:
        service: What to run.
        target: Where a child process finds it.
        configuration: Options given outside the code.
        say: Tells how the replicas run.
        deployment: Which one; may be null when the service exposes one.
        paths: Input, and output folder.
        options: See `salver.offline.job.JobOptions`.

    Returns:
        The manifest.
    """
    name = service.chosen(deployment).name
    overrides = configuration.overrides(service)
    for given in overrides.deployments.values():
        given["optimize_for"] = "throughput"  # nobody waits for a single row of a file
    ordered = overrides.options_for(name, service.deployments[name].options)
    if options.get("resume") and ordered.max_batch_size is None:
        from salver.offline.job import begun_batch_size

        # As it was begun, or the bytes would not be the same: floats depend on batch mates.
        overrides.deployments[name]["max_batch_size"] = begun_batch_size(paths[1])

    async def main() -> dict[str, Any]:
        engine = LocalEngine(service, target, overrides)
        starting = asyncio.ensure_future(engine.start())
        try:
            # What reads and writes files takes half a second to import: the replicas load meanwhile.
            await asyncio.to_thread(_load_offline)
            from salver.offline.progress import ProgressBar
            from salver.predictions import run_files

            await starting
            children.discard()  # no replica was like it
            for one, plan in engine.job_plans.items():
                say(plan.described(one, with_other=False))
            with ProgressBar() as display:
                return await run_files(engine, name, *paths, options, display)
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await engine.stop()

    manifest: dict[str, Any] = uvloop.run(main())
    gc.freeze()  # nothing is left to collect: a tenth of a second less until the process has ended
    return manifest


def _load_offline() -> None:
    from salver.offline.writers import load

    load()


_sessions: dict[Service, Session] = {}  # in the background of this process
_serving: dict[Service, LocalEngine] = {}  # in its main thread
_starting = threading.Lock()  # one session per service, whoever asks first


def run_service(service: Service, *, blocking: bool, settings: Mapping[str, Any]) -> None:
    """See `Service.run`."""
    _refuse_while_loading()
    configuration = Configuration(server=settings)
    if blocking:
        _refuse_on_a_loop()
        serve_until_signalled(service, reference_of(service), configuration, _print)
        return
    face_settings = configuration.settings(configuration.overrides(service))
    session, engine = _session(service)
    if session.face is not None:
        raise ConfigError(
            f"{service!r} runs already at {session.face.address}. Call shutdown() first."
        )
    try:
        face = session.listen(face_settings)
    except BaseException:
        shutdown(service)
        raise
    _say_ready(engine, face, _print)


def predict(service: Service, data: Any, output: Any, options: Mapping[str, Any]) -> Any:
    """See `Service.predict`."""
    from salver import predictions

    _refuse_while_loading()
    if service in _serving:
        raise ConfigError(
            f"{service!r} is being served by this process. Ask it as a route does: "
            "`await tagger(rows)`, or `tagger.predict(rows)` from a synchronous route."
        )
    session, engine = _session(service)
    return predictions.predict(engine, session.wait_for, data, output, options)


def status(service: Service) -> dict[str, Any]:
    """See `Service.status`."""
    session = _sessions.get(service)
    engine = session.engine if session else _serving.get(service)
    if engine is None:
        raise NotReady(f"{service!r} does not run in this process. Start it with service.run().")
    return engine.readiness()


def shutdown(service: Service) -> None:
    """See `Service.shutdown`."""
    session = _sessions.pop(service, None)
    if session is not None:
        session.close()


def reference_of(service: Service) -> str | None:
    """`module:name` (or `file.py:name` for a script) by which a child process finds a service.

    Null for a service that no import would make, such as one of a notebook.
    """
    main = sys.modules.get("__main__")
    for name, module in list(sys.modules.items()):
        if module is main:
            continue
        attribute = _name_in(module, service)
        if attribute:
            return f"{name}:{attribute}"
    attribute = _name_in(main, service)
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if not attribute or not file:
        return None
    return f"{spec.name if spec else Path(file).resolve()}:{attribute}"


def _name_in(module: Any, service: Service) -> str | None:
    found = list(getattr(module, "__dict__", {}).items())
    return next((attribute for attribute, value in found if value is service), None)


def _session(service: Service) -> tuple[Session, LocalEngine]:
    """The session of a service, started if there is none."""
    with _starting:
        session = _sessions.get(service)
        if session is None:
            session = Session(service)
            try:
                session.start(reference_of(service), Configuration())
            except BaseException:
                session.close()
                raise
            _sessions[service] = session
    assert session.engine is not None
    return session, session.engine


def _refuse_on_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(
        "An event loop runs here already, as in a notebook. Write service.run(blocking=False)."
    )


def _refuse_while_loading() -> None:
    if targets.is_loading():
        raise ConfigError(
            "The module of the service runs it while it is being imported. Put the call under "
            "`if __name__ == '__main__':`."
        )


def _print(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it, or its disk is full
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
