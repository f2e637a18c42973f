"""`python -m salver.models.resolve`: references in on stdin, folders out on stdout, as JSON.

A process of its own, so that a server never imports MLflow, and so that whatever a tracking
server does to it ends with it. Reads a JSON list of references (`CheckpointReference.to_json`);
writes a list of as many results, `{"path", "digest", "source", "stale"}` or
`{"error": {"code", "message"}}`. Nothing else reaches stdout: logs go to stderr. Exits with 0 when
every reference was answered either way, and with 2 when the input was no list of references.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from salver.errors import CheckpointError, ConfigError, SalverError
from salver.models.reference import CheckpointReference
from salver.models.tracking import resolve


def answer(reference: Any) -> dict[str, Any]:
    """The result for one reference, given as JSON."""
    try:
        if not isinstance(reference, dict):
            raise ConfigError(
                f"A reference was given as {reference!r}; it is a JSON object. "
                "Make it with CheckpointReference.to_json()."
            )
        found = resolve(CheckpointReference.from_json(reference))
    except SalverError as error:
        return {"error": {"code": error.code, "message": error.message}}
    except OSError as error:  # a folder that may not be listed, a disk that fails
        return {"error": {"code": CheckpointError.code, "message": f"{reference}: {error}"}}
    return {
        "path": str(found.checkpoint.path),
        "digest": found.checkpoint.digest,
        "source": found.checkpoint.source,
        "stale": found.stale,
    }


def main() -> int:
    """Answers what stdin asks; returns the exit code."""
    # Whatever a library prints must not end up between the JSON of the answer.
    stdout = os.dup(1)
    os.dup2(2, 1)
    # A process of seconds has no garbage worth looking for: 0.4 s less for importing MLflow.
    gc.disable()
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s"
    )
    logging.getLogger("salver").setLevel(logging.INFO)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a retry of two is no news
    try:
        references = json.load(sys.stdin)
        if not isinstance(references, list):
            raise ValueError(f"a {type(references).__name__}")
    except ValueError as error:
        logging.getLogger(__name__).error(
            "stdin must hold a JSON list of references, and holds %s", error
        )
        return 2
    # At once, for each may have to wait for the same dead server.
    with ThreadPoolExecutor(max_workers=8) as pool:
        results = list(pool.map(answer, references))
    with os.fdopen(stdout, "w") as out:
        json.dump(results, out)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Not sys.exit: that would wait for a download thread of MLflow that hangs in a dead server.
    os._exit(code)
