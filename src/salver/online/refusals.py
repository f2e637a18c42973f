"""Errors that only HTTP knows: no such route, a method it lacks, a body that is too large.

They belong to the request branch of the tree in `salver.errors`. This module does not know how
an error is written out.
"""

from __future__ import annotations

from collections.abc import Iterable

from salver.errors import RequestError


class RouteNotFound(RequestError):
    """No route answers this path."""

    code = "not_found"
    status = 404


class MethodNotAllowed(RequestError):
    """The path exists and does not take this method.

    Attributes:
        allowed: The methods it takes.
    """

    code = "method_not_allowed"
    status = 405

    def __init__(self, method: str, path: str, allowed: Iterable[str]) -> None:
        self.allowed = sorted(allowed)
        super().__init__(f"{path} takes {', '.join(self.allowed)}; the request was {method[:16]}.")


class BodyTooLarge(RequestError):
    """A body of more bytes than a request may carry."""

    code = "body_too_large"
    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The body is larger than {limit} bytes. Send fewer rows per request, or use "
            "`salver predict` for files."
        )
