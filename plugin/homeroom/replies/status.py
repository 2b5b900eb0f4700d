"""What the status page says; labels of its parts stand in its templates."""

from __future__ import annotations

from typing import Final

CONDITIONS: Final = {
    "ok": ("Answering", "Messages are answered."),
    "settings": (
        "Settings cannot be used",
        "Nothing is answered until they are mended in maubot's web UI; saving is enough.",
    ),
    "reconciling": (
        "Reconciling",
        (
            "The homeserver is being looked at. Nothing is answered until that has gone through;"
            " it is tried again by itself."
        ),
    ),
    "catching-up": (
        "Catching up",
        "What was said while the bot was away is being read. The rest follows by itself.",
    ),
    "paused": (
        "Paused by !reset",
        (
            "Nothing is answered until an administrator sends !reconcile, or the instance is"
            " restarted."
        ),
    ),
    "superseded": (
        "Superseded",
        (
            "Another Homeroom has started with this account, so this one answers nothing. If this"
            " is the right one, stop the other one and restart this instance."
        ),
    ),
    "silent": (
        "No news from the homeserver",
        (
            "The homeserver has brought nothing for more than a minute. Is it up, and is the"
            ' client started in maubot? If it was restored from an older backup, press "Clear'
            ' cache" of the client in maubot; until then messages take a minute.'
        ),
    ),
    "storage": (
        "The database cannot be written",
        (
            "Messages are answered, and what is done is kept in memory until it can be written."
            " Is the disk full, or the database down?"
        ),
    ),
    "signed-out": (
        "Not signed in",
        (
            "The homeserver does not take the access token, or does not serve the account. Nothing"
            " is lost: what was said waits. Save a new token for the client in maubot and restart"
            " the instance, or have the account unlocked."
        ),
    ),
}
"""A title and what it means, for each word of `/healthz`."""

NOT_SIGNED_IN: Final = (
    "Send the token of the setting status.token as 'Authorization: Bearer TOKEN', or sign in with"
    " a browser."
)
NOT_THE_ONE: Final = "That is not the token."
NOT_IN_THE_ADDRESS: Final = (
    "A token does not belong in an address: addresses are kept in logs and histories. If this was"
    " the real one, set another status.token. Send it as 'Authorization: Bearer TOKEN'."
)
FROM_ELSEWHERE: Final = "This form was sent by another site, so nothing was done."
TOO_LARGE: Final = "That is too large."
NOT_FOUND: Final = "There is nothing here."
NO_METRICS: Final = (
    "There are no metrics, because prometheus_client is not installed. Run 'pip install"
    " prometheus_client' in the environment that maubot runs in, then restart maubot."
)
TOO_MANY_WRONG: Final = "Too many wrong tokens at once. Try again in a second."


def wrong_method(allowed: str) -> str:
    return f"This page only reads: {allowed} are all there is."
