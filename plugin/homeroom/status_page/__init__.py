"""The status page: what Homeroom knows and how it is, for people and for machines.

It is at the instance's web address, and only there if `status.token` is set. It reads values that
are in memory already and changes nothing; it asks neither the homeserver nor, but for once, the
database.

    snapshot   everything that is shown, taken at one moment
    listing    searching and paging homes and chats
    access     the token, sessions, and how fast one may guess
    text       values as text: safe to show, short, relative times
    chart      the reconciles as a chart
    views      the snapshot as HTML, JSON and Prometheus metrics
    page       HTTP: paths, methods, headers
"""

from .page import StatusPage
from .snapshot import Condition, Snapshot, Sources, take, take_without_settings
from .views import FILES

__all__ = [
    "FILES",
    "Condition",
    "Snapshot",
    "Sources",
    "StatusPage",
    "take",
    "take_without_settings",
]
