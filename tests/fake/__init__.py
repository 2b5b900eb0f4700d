"""A homeserver for the fast tests: stateful, in memory, behind a real HTTP port.

It behaves as Synapse 1.163 does in what the plugin uses; `contract` holds the behaviours that
matter, and can be run against a real Synapse too.

What other servers, proxies and bad days are like is turned on by a test (`hs` is a
`FakeHomeserver`, and everything may change while it runs):

    hs.transactions.forget()             # no transaction ID is remembered any more
    hs.transactions.keep = 3             # only the last three are
    hs.transactions.by_token = True      # another token of the same device is a stranger
    late = hs.fail("createRoom", Late(status=504))   # refused now (None: hung up) …
    await late.done()                                # … and done now, minutes later
    hs.fail("createRoom", Late(waits=True))          # no answer before it is done
    hs.fail("/send/", Twice())           # done, answered, and done again with `done()`
    hs.lag(seconds=2)                    # stale reads, as of a worker that is behind: `lag.py`
    hs.lag(reads=3, kinds={"joined_rooms"}, every=2)
    hs.no_lag()
    hs.switches.honours_to = False       # `/messages` goes on to the beginning of the room
    hs.switches.future_since = "initial" # an unknown `since` is an initial sync
    hs.switches.largest_request = 60_000          # 413 from the proxy
    hs.switches.largest_answer = 1_000_000        # 502 from the proxy
    hs.switches.largest_account_data = 64_000     # 413 M_TOO_LARGE
    hs.fail(Match("PUT", "account_data"), Respond(403, {"errcode": "M_FORBIDDEN"}), times=None)
    hs.switches.sends_date = False       # no `Date` header; it tells `hs.clock` otherwise
    hs.world.clock = Running(behind_ms=3_600_000) # goes with the real time, an hour behind
    hs.clock.set_behind(-86_400_000)              # … and is set a day ahead
    hs.world.aliases.allowed = False     # 403 for every new alias
    hs.world.aliases.rooms["#x:fake.test"] = "!no"   # an alias of a room that does not exist
    old = hs.backup()                    # the server is restored from an older backup:
    hs.restore(old)                      # clients hold positions of the future
    hs.sign_out("bot", softly=True)      # M_UNKNOWN_TOKEN; `hs.user("bot")` has a new token
    hs.refuse("bot", MatrixError(401, "M_USER_LOCKED", "locked", soft_logout=True))
"""

from .clock import Running
from .errors import MatrixError
from .faults import (
    Alter,
    DropAfter,
    DropBefore,
    Fault,
    Hang,
    Late,
    Match,
    RateLimit,
    Recorded,
    Respond,
    Truncate,
    Twice,
)
from .lag import Lag
from .server import FakeHomeserver, RoomSnapshot
from .user import User
from .world import World

__all__ = [
    "Alter",
    "DropAfter",
    "DropBefore",
    "FakeHomeserver",
    "Fault",
    "Hang",
    "Lag",
    "Late",
    "Match",
    "MatrixError",
    "RateLimit",
    "Recorded",
    "Respond",
    "RoomSnapshot",
    "Running",
    "Truncate",
    "Twice",
    "User",
    "World",
]
