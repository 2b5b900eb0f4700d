"""What the fake homeserver refuses, in Synapse's words.

A `MatrixError` is raised by the rules and turned into an HTTP answer by the door. The texts are
the ones Synapse 1.163 sends; callers must go by `errcode`.
"""

from __future__ import annotations

from typing import Any


class MatrixError(Exception):
    """A request that is refused: HTTP status, `errcode` and `error`, as the client sees them."""

    def __init__(self, status: int, errcode: str, error: str, **extra: Any) -> None:
        super().__init__(f"{status} {errcode}: {error}")
        self.status = status
        self.errcode = errcode
        self.error = error
        self.extra = extra

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"errcode": self.errcode, "error": self.error, **self.extra}


def forbidden(error: str) -> MatrixError:
    return MatrixError(403, "M_FORBIDDEN", error)


def bad_state(error: str) -> MatrixError:
    return MatrixError(403, "M_BAD_STATE", error)


def bad_request(error: str, errcode: str = "M_UNKNOWN") -> MatrixError:
    return MatrixError(400, errcode, error)


def not_found(error: str = "Event not found.") -> MatrixError:
    return MatrixError(404, "M_NOT_FOUND", error)


def missing_params(*names: str) -> MatrixError:
    return bad_request(f"Missing params: {list(names)}", "M_MISSING_PARAM")


def internal() -> MatrixError:
    """What Synapse answers when it trips over a request instead of refusing it."""
    return MatrixError(500, "M_UNKNOWN", "Internal server error")
