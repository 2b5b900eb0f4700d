"""Words about encryption: why something could not be read, and what helps."""

from __future__ import annotations

from typing import Final

from ..matrix.encryption import Cause

MISSING: Final = (
    "I cannot read this message, because its key did not reach me. Please send it again."
)
TOO_LATE: Final = (
    "I cannot read this message: I was only given the key for later ones. Please send it again."
)
UNVERIFIED: Final = (
    "Your app does not let me read this, because it only trusts verified devices, and I do not"
    " have one yet. Sending it again will not help: please tell the administrator of this bot."
)
BLOCKED: Final = (
    "Your app does not let me read this: it has been told not to give me its keys. Look for"
    " *Only send messages to verified users*, or for a blocked device of mine, in its settings."
)
NOT_SIGNED: Final = (
    "I only listen to verified devices here, and this one is not. Please verify it (in your app's"
    " settings, under *Sessions* or *Devices*), then send your message again."
)
NO_ENCRYPTION: Final = (
    "This room is encrypted, and I cannot read encrypted messages: nothing that is written here"
    " reaches me. Please tell the administrator of this bot; until then, use a room that is not"
    " encrypted."
)
NOT_ENCRYPTED: Final = (
    "This chat is encrypted, and your message was not: I do not take it as yours. Please send it"
    " again with an app that encrypts."
)
EARLIER_UNREADABLE: Final = (
    "I cannot read all of the earlier messages in this chat any more, because I have lost their"
    " keys. If something in them matters, please tell me again."
)
VERIFY: Final = (
    "I cannot compare emoji with you, because nobody sits in front of me. You can just talk to me;"
    " whether my device is trusted is up to the administrator of this bot."
)
ADMIN_NOT_SIGNED: Final = (
    "I take commands of administrators only from devices that they have verified. Please verify"
    " this device, or use one that is."
)


def why_unreadable(cause: Cause) -> str | None:
    """What to tell a person whose message cannot be read; None: nothing that would help."""
    return {
        Cause.NO_ENCRYPTION: NO_ENCRYPTION,
        Cause.MISSING: MISSING,
        Cause.TOO_LATE: TOO_LATE,
        Cause.UNVERIFIED: UNVERIFIED,
        Cause.BLOCKED: BLOCKED,
        Cause.NOT_SIGNED: NOT_SIGNED,
    }.get(cause)
