"""Whether a server answers what the model says: no row is timed, or printed, that does not.

The references come from the model called directly. It does not know how a server is started.
"""

import http.client
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypedDict

from bench.systems import Row, System

TOLERANCE = 1e-4  # of a probability: batch mates move fp32 sums by about 1e-6
ASKED_AT_ONCE = 16  # so that the answers checked are those of whole batches too
ANSWER_LIMIT_S = 60.0
FAULTS = (OSError, http.client.HTTPException)  # no answer, or none that is HTTP


class Expected(TypedDict):
    """One reference answer."""

    row: Row
    probabilities: list[float]


class WrongAnswer(Exception):
    """A server answers something else than the model; the message is the reason."""


@dataclass(frozen=True)
class Client:
    """Asks one server, one request per connection."""

    system: System
    port: int
    path: str

    def ask(self, row: Row, limit_s: float = ANSWER_LIMIT_S) -> bytes:
        """The body of the answer to one row.

        Raises:
            WrongAnswer: For a status that is not 200.
            OSError, HTTPException: If there is no connection or no answer in time.
        """
        body = self.system.encode(row)
        status, answer = self._send("POST", self.path, limit_s, body, dict(self.system.headers))
        if status != 200:
            raise WrongAnswer(f"status {status}: {answer[:200].decode(errors='replace')}")
        return answer

    def is_ready(self, path: str) -> bool:
        """Whether a GET answers 200."""
        try:
            return self._send("GET", path, 5.0)[0] == 200
        except FAULTS:
            return False

    def get(self, path: str) -> bytes:
        """The body of the answer to a GET."""
        return self._send("GET", path, 5.0)[1]

    def answers(self, row: Row) -> bool:
        """Whether a row gets a good answer at all; used while a server starts."""
        try:
            self.ask(row)
        except (*FAULTS, WrongAnswer):
            return False
        return True

    def check(self, expected: Sequence[Expected], classes: Sequence[str]) -> None:
        """Compares the answers to all these rows, alone and several at once.

        Raises:
            WrongAnswer: For the first answer that differs, or does not come.
        """
        compare(self.system, self._asked(expected[0]), expected[0], classes)
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            for one, answer in zip(expected, pool.map(self._asked, expected), strict=True):
                compare(self.system, answer, one, classes)

    def _asked(self, one: Expected) -> bytes:
        try:
            return self.ask(one["row"])
        except FAULTS as error:
            raise WrongAnswer(f"no answer: {type(error).__name__} {error}".strip()) from error

    def _send(
        self,
        method: str,
        path: str,
        limit_s: float,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit_s)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def compare(system: System, answer: bytes, expected: Expected, classes: Sequence[str]) -> None:
    """Compares one answer with its reference.

    Raises:
        WrongAnswer: If a probability is off by more than the tolerance, or the prediction differs
            though the reference is no tie.
    """
    try:
        said = system.decode(answer)
        given = said["probabilities"]
        probabilities = [float(given[name]) for name in classes]  # type: ignore[index]
        prediction = said["prediction"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        start = answer[:200].decode(errors="replace")
        raise WrongAnswer(f"the answer has another form ({error!r}): {start}") from error
    wanted = expected["probabilities"]
    off = max(abs(a - b) for a, b in zip(probabilities, wanted, strict=True))
    if not off <= TOLERANCE:  # NaN is wrong too
        raise WrongAnswer(f"a probability is off by {off:.2g} (row {expected['row']})")
    allowed = [
        name for name, p in zip(classes, wanted, strict=True) if p >= max(wanted) - 2 * TOLERANCE
    ]
    if prediction not in allowed:
        raise WrongAnswer(f"predicted {prediction!r}, wanted {allowed[0]!r}")
