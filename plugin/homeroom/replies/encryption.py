"""Words about encryption: why something could not be read, and what helps."""

from __future__ import annotations

from typing import Final

from ..matrix.encryption import Cause
from ..matrix.own_trust import OwnTrust, Trust

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


_NEW_LOGIN: Final = (
    "log in again (`mbc auth` with a new device, or a new token and device ID for the client in"
    " maubot), restart the instance, and press *Generate recovery key* or *Verify* there"
)
TRUST: Final = {
    Trust.UNKNOWN: ("it is not known yet whether other people's apps trust my device", ""),
    Trust.NONE: ("I cannot encrypt", ""),
    Trust.GONE: (
        "I could encrypt, and cannot now; encrypted chats wait until I can",
        (
            "give the client in maubot its device ID back, and maubot its encryption dependencies;"
            " then restart the instance"
        ),
    ),
    Trust.NO_IDENTITY: (
        (
            "my account has no cross-signing identity: apps that only trust verified devices"
            " neither give me keys nor believe what I say"
        ),
        "press *Generate recovery key* on the client's page in maubot, and keep the key",
    ),
    Trust.UNSIGNED: (
        (
            "my device is not signed by my account's identity: apps that only trust verified"
            " devices neither give me keys nor believe what I say"
        ),
        (
            "press *Verify* on the client's page in maubot, with the recovery key; without it,"
            " reset the account's identity and press *Generate recovery key*"
        ),
    ),
    Trust.SIGNED: ("my device is signed by my account's identity", ""),
    Trust.STALE: (
        (
            "the signature of my device does not fit the keys that it has now, as after a lost"
            " maubot database: no app trusts it"
        ),
        _NEW_LOGIN,
    ),
    Trust.REPLACED: (
        (
            "my account has another identity than the one that signed my device: apps that only"
            " trust verified devices neither give me keys nor believe what I say"
        ),
        "press *Verify* on the client's page in maubot, with the new recovery key",
    ),
    Trust.LOST: (
        (
            "my device was known with other keys, as after a lost maubot database: no app that"
            " knew it before trusts it again, and *Verify* cannot help"
        ),
        _NEW_LOGIN,
    ),
}
"""What each state of the bot's own device means, and which button to press."""
CLIENT_REPLACED: Final = (
    (
        "maubot has another client for my account than at my start (a new token or device ID was"
        " saved)"
    ),
    "restart the instance in maubot when it suits you",
)


def trust_findings(own: OwnTrust) -> list[str]:
    """What is wrong with the bot's own device, with what helps; empty: nothing."""
    found = []
    if own.is_worth_telling and own.trust in TRUST and own.trust not in _FINE:
        meaning, advice = TRUST[own.trust]
        device = f" (device {own.device_id})" if own.device_id else ""
        why = f": {own.detail}" if own.trust is Trust.GONE and own.detail else ""
        found.append(f"{meaning}{device}{why}. → {advice}")
    if own.is_replaced:
        meaning, advice = CLIENT_REPLACED
        found.append(f"{meaning}. → {advice}")
    return found


_FINE: Final = (Trust.SIGNED, Trust.NONE, Trust.UNKNOWN)


def trust_report(own: OwnTrust) -> list[str]:
    """What `!reconcile` adds about the bot's own device; often nothing."""
    lines = [f"- {line[0].upper()}{line[1:]}." for line in trust_findings(own)]
    return ["**Encryption**\n\n" + "\n".join(lines)] if lines else []


def explain_trust(own: OwnTrust) -> str:
    """The same for the log, as one line."""
    text = "; ".join(trust_findings(own))
    return f"Encryption: {text}"


def signed_out(errcode: str) -> str:
    """What to do when the homeserver does not serve the account, for the log."""
    return {
        "M_USER_LOCKED": "the account is locked: have its homeserver's admin unlock it",
        "M_RESOURCE_LIMIT_EXCEEDED": "the homeserver is over a limit: its admin can raise that",
    }.get(
        errcode,
        "the access token does not work: save a new one for the client in maubot"
        " (docs/encryption.md), then restart the instance",
    )
