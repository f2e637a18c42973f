"""When a connection is overdue, from what is seen of it several times a second.

Deadlines cost nothing per request: what a sweep sees is compared with what the one before saw.
This module does not know bytes, the parser or what happens to a connection that is overdue.
"""

from __future__ import annotations

from salver.online import http_rules as rules
from salver.online.http_rules import HttpLimits, Refused

IDLE, HEAD, BODY, REFUSED = range(4)  # where in a request the client is

LINGER_S = 2.0  # input is thrown away meanwhile, lest a TCP reset destroys the last answer


class Deadlines:
    """The deadlines of one connection. All times are of the loop, in seconds.

    Args:
        limits: How long the client may take.
    """

    __slots__ = ("_limits", "_seen", "_since", "_unsent", "_wire_bytes")

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        # What the latest sweep found and since when; how many bytes had come by then.
        self._seen: tuple[int, int, bool] | None = None
        self._since = 0.0
        self._wire_bytes = 0
        self._unsent: tuple[float, int] | None = None  # since when how many bytes wait for a reader

    def reader_moved(self) -> None:
        """Says that the client has taken of its answer."""
        self._unsent = None

    def reader_stalled(self, unsent: int, now: float) -> bool:
        """Whether the client has taken too little of its answer for too long.

        Args:
            unsent: Bytes that wait to be sent.
            now: The time.
        """
        if unsent == 0:
            self._unsent = None
            return False
        least = self._limits.body_min_bytes_per_s * self._limits.write_stall_s
        if self._unsent is None or not 0 <= self._unsent[1] - unsent < least:
            self._unsent = (now, unsent)
        return now - self._unsent[0] >= self._limits.write_stall_s

    def look(
        self, seen: tuple[int, int, bool], wire_bytes: int, held_back: bool, now: float
    ) -> Refused | bool:
        """What to do: a refusal to answer with, True to close, False to go on.

        Args:
            seen: Messages begun, the phase, and whether no answer is under way.
            wire_bytes: Received in this phase.
            held_back: The client waits for us, so that its silence is no fault.
            now: The time.
        """
        if seen != self._seen or held_back:
            self._seen, self._since, self._wire_bytes = seen, now, wire_bytes
            return False
        age = now - self._since
        messages, phase, is_answered = seen
        limits = self._limits
        if phase == HEAD:
            if age >= limits.header_timeout_s:
                return rules.timed_out(f"No complete head in {age:.0f} s; send it at once.")
        elif phase == BODY:
            return self._look_at_body(age, wire_bytes, now)
        elif is_answered:
            idle_s = limits.keep_alive_s if messages else limits.header_timeout_s
            return age >= (LINGER_S if phase == REFUSED else idle_s)
        return False

    def _look_at_body(self, age: float, wire_bytes: int, now: float) -> Refused | bool:
        limits = self._limits
        if age < limits.body_grace_s:
            return False
        brought = wire_bytes - self._wire_bytes
        self._since, self._wire_bytes = now, wire_bytes
        if brought >= limits.body_min_bytes_per_s * limits.body_grace_s:
            return False
        return rules.timed_out(f"The body brought {brought} bytes in {age:.0f} s; send it faster.")
