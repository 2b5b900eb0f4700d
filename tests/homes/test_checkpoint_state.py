"""When rows may be taken for the truth, and what is in the way of it."""

from __future__ import annotations

from homeroom.domain.homes.checkpoint import Digest, Origin, prove
from homeroom.domain.homes.marker import Marker
from homeroom.domain.homes.model import Home, Records, RoomType
from homeroom.domain.homes.plan import Plan, StampMarker
from homeroom.domain.homes.topology import Topology, Unreadable
from homeroom.homes.checkpoint_state import Trust
from homeroom.homes.routes import Routes
from tests.domain.builders import ANNA, BOT, HOME, NEW, WORK

ORIGIN = Origin(
    bot=BOT, homeserver="https://example.org", version="1.0.0", schema=3, adopt_unmarked=True
)
ROWS = Records(homes={ANNA: Home(matrix_user_id=ANNA, space_id=HOME)})
DIGEST = Digest.of(ROWS)
PROOF = prove(ORIGIN, DIGEST)


def trusting() -> tuple[Trust, Routes]:
    routes = Routes()
    routes.load(ROWS)
    trust = Trust(routes=routes, origin=lambda: ORIGIN)
    trust.digest = DIGEST
    return trust, routes


def to_repair(*rooms: str) -> Plan:
    marker = Marker(room_type=RoomType.SPACE, user_id=ANNA)
    return Plan(repairs=tuple(StampMarker(room_id=room, marker=marker) for room in rooms))  # type: ignore[arg-type]


def test_without_a_doubt_rows_prove_something() -> None:
    trust, _ = trusting()
    assert trust.proof == PROOF
    assert trust.doubt() == DIGEST
    assert trust.proof is None
    trust.digest = DIGEST
    assert trust.proof == PROOF


def test_a_room_that_cannot_be_read_is_a_doubt() -> None:
    trust, routes = trusting()
    unread = Topology(bot=BOT, rooms={WORK: Unreadable(room_id=WORK, reason="no")})
    routes.note_look(unread, whole=False)
    assert trust.proof is None
    routes.note_look(Topology(bot=BOT), whole=True)
    assert trust.proof == PROOF


def test_what_is_to_be_repaired_is_a_doubt_until_it_is_or_cannot_be() -> None:
    trust, _ = trusting()
    trust.note_due(to_repair(HOME, WORK))
    assert (trust.proof, trust.has_repairs) == (None, True)
    trust.note_due(to_repair(), instead_of=[WORK])
    assert (trust.proof, trust.has_repairs) == (None, True)
    trust.note_refused(HOME)
    assert (trust.proof, trust.has_repairs) == (PROOF, False)
    trust.note_due(to_repair(NEW), instead_of=[NEW])
    assert trust.proof is None
    trust.note_due(to_repair())
    assert trust.proof == PROOF


def test_a_room_made_in_the_bots_name_is_a_doubt_until_it_has_a_row() -> None:
    trust, routes = trusting()
    trust.note_made([HOME])
    assert trust.proof == PROOF
    trust.note_made([WORK])
    assert trust.proof is None
    routes.load(Records(homes={ANNA: Home(matrix_user_id=ANNA, space_id=WORK)}))
    assert trust.proof == PROOF
