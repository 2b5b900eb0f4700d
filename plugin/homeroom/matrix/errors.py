"""What can go wrong at the homeserver, in the few kinds that callers have to tell apart.

`Refused`         the homeserver understood and said no: asking again will not help.
`Unavailable`     nobody knows: no answer, a broken answer, or "later" for longer than we wait.
                  It never means that something does not exist.
`TooLarge`        the same, and it will be the same again: the answer is more than is read.
`NotSignedIn`     the same, for every request: the access token does not work (now).
`RateLimited`     the same, for a request that does not wait until it may be made.
`OutcomeUnknown`  the same, for a request that must not simply be sent again: look first.
"""

from __future__ import annotations

from typing import Final

NOT_SIGNED_IN: Final = frozenset(
    {"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_LOCKED", "M_RESOURCE_LIMIT_EXCEEDED"}
)
"""Error codes that are about the account, not about what was asked for."""


class HomeserverError(Exception):
    """A request to the homeserver did not succeed."""


class Refused(HomeserverError):
    """The homeserver answered with a Matrix error (`errcode`) that is final."""

    def __init__(self, *, status: int, errcode: str, message: str) -> None:
        super().__init__(f"{errcode}: {message}" if message else errcode)
        self.status = status
        self.errcode = errcode

    @property
    def is_no_such_request(self) -> bool:
        """Whether the homeserver does not know this request at all.

        https://spec.matrix.org/latest/client-server-api/#common-error-codes
        """
        return self.errcode == "M_UNRECOGNIZED"


class Unavailable(HomeserverError):
    """No usable answer within the time that this kind of request is worth."""


class NotSignedIn(Unavailable):
    """The homeserver does not take the bot's access token, or does not serve its account, now.

    Whatever was asked for is to be kept, for as long as this lasts, and done afterwards.
    """

    def __init__(self, message: str, *, errcode: str) -> None:
        super().__init__(message)
        self.errcode = errcode


class TooLarge(Unavailable):
    """The answer is larger than anything that is read."""


class RateLimited(Unavailable):
    """Not now: a request that is not worth waiting for can be made in so many seconds."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class OutcomeUnknown(Unavailable):
    """The request may or may not have been carried out."""
