"""Every word that a person reads from Homeroom: in rooms, and nowhere else.

Plain functions from values to Markdown. Names come from rooms and may be hostile: `markdown.py`
makes them harmless before they are put into a sentence.

    sentences   what people are told in their chats
    drift       what a reconcile found
    encryption  why something cannot be read, and what helps
    reset       what `!reset` says
    status      what the status page says
"""

from .drift import *  # noqa: F403 (a name in one of these modules is a name here)
from .reset import *  # noqa: F403
from .sentences import *  # noqa: F403
