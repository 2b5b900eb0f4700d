"""When rows may be taken for the truth, and what is in the way of it."""

from __future__ import annotations

from homeroom.domain.homes.checkpoint import Digest, Origin, make_checkpoint
from homeroom.domain.homes.marker import Marker
from homeroom.domain.homes.model import Home, Records, RoomType
from homeroom.domain.homes.plan import Plan, StampMarker
from homeroom.domain.homes.topology import Topology, Unreadable
from homeroom.homes.checkpoint_state import CheckpointState
from homeroom.homes.routes import Routes
from tests.domain.builders import ANNA, BOT, HOME, NEW, WORK

ORIGIN = Origin(
    bot=BOT, homeserver="https://example.org", version="1.0.0", schema=3, adopt_unmarked=True
)
ROWS = Records(homes={ANNA: Home(matrix_user_id=ANNA, space_id=HOME)})
DIGEST = Digest.of(ROWS)
PROOF = make_checkpoint(ORIGIN, DIGEST)


def trusting() -> tuple[CheckpointState, Routes]:
    routes = Routes()
    routes.load(ROWS)
    checkpoint_state = CheckpointState(routes=routes, origin=lambda: ORIGIN)
    checkpoint_state.digest = DIGEST
    return checkpoint_state, routes


def to_repair(*rooms: str) -> Plan:
    marker = Marker(room_type=RoomType.SPACE, user_id=ANNA)
    return Plan(repairs=tuple(StampMarker(room_id=room, marker=marker) for room in rooms))  # type: ignore[arg-type]


def test_without_a_doubt_rows_prove_something() -> None:
    checkpoint_state, _ = trusting()
    assert checkpoint_state.checkpoint == PROOF
    assert checkpoint_state.invalidate() == DIGEST
    assert checkpoint_state.checkpoint is None
    checkpoint_state.digest = DIGEST
    assert checkpoint_state.checkpoint == PROOF


def test_a_room_that_cannot_be_read_is_a_doubt() -> None:
    checkpoint_state, routes = trusting()
    unread = Topology(bot=BOT, rooms={WORK: Unreadable(room_id=WORK, reason="no")})
    routes.note_scan(unread, whole=False)
    assert checkpoint_state.checkpoint is None
    routes.note_scan(Topology(bot=BOT), whole=True)
    assert checkpoint_state.checkpoint == PROOF


def test_what_is_to_be_repaired_is_a_doubt_until_it_is_or_cannot_be() -> None:
    checkpoint_state, _ = trusting()
    checkpoint_state.note_due(to_repair(HOME, WORK))
    assert (checkpoint_state.checkpoint, checkpoint_state.has_repairs) == (None, True)
    checkpoint_state.note_due(to_repair(), instead_of=[WORK])
    assert (checkpoint_state.checkpoint, checkpoint_state.has_repairs) == (None, True)
    checkpoint_state.note_refused(HOME)
    assert (checkpoint_state.checkpoint, checkpoint_state.has_repairs) == (PROOF, False)
    checkpoint_state.note_due(to_repair(NEW), instead_of=[NEW])
    assert checkpoint_state.checkpoint is None
    checkpoint_state.note_due(to_repair())
    assert checkpoint_state.checkpoint == PROOF


def test_a_room_made_in_the_bots_name_is_a_doubt_until_it_has_a_row() -> None:
    checkpoint_state, routes = trusting()
    checkpoint_state.note_made([HOME])
    assert checkpoint_state.checkpoint == PROOF
    checkpoint_state.note_made([WORK])
    assert checkpoint_state.checkpoint is None
    routes.load(Records(homes={ANNA: Home(matrix_user_id=ANNA, space_id=WORK)}))
    assert checkpoint_state.checkpoint == PROOF
