"""From the text in maubot's web UI to frozen `Settings`.

All problems are found in one go, each naming its key, what was found and what is expected. Tokens,
keys and addresses (people put secrets into those, too) are in no `repr`, and no problem quotes
what was found in their place.

    text                maubot's side: the user's text over base-config.yaml, with nothing lost
    reading          which key is read as what
    values            how a value of each kind is checked
    problems        what is wrong, said without a secret
    settings        what comes out of it, and what is so when nobody decides
    live_settings   which of them are in force
"""

from .live_settings import LiveSettings
from .problems import ConfigError, NotInForce, Problem
from .reading import read_settings
from .settings import (
    RESTART_KEYS,
    OpenAISettings,
    PlatformSettings,
    Settings,
    WebhookSettings,
)
from .text import Config

__all__ = [
    "RESTART_KEYS",
    "Config",
    "ConfigError",
    "LiveSettings",
    "NotInForce",
    "OpenAISettings",
    "PlatformSettings",
    "Problem",
    "Settings",
    "WebhookSettings",
    "read_settings",
]
