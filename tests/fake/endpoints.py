"""The endpoints: which request does what to the world, and what is answered.

Each function takes a `Call` and gives the JSON of a 200 answer, or raises `MatrixError`. The
table at the end is all the server knows; anything else is `M_UNRECOGNIZED`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from .call import Call
from .errors import MatrixError, bad_request, forbidden, missing_params, not_found
from .events import Json, event_view
from .filters import EventFilter
from .lag import JOINED_MEMBERS, JOINED_ROOMS, STATE
from .polling import SLIDING_SYNC, get_sync, post_sliding_sync
from .tokens import read_token, room_token, stream_token
from .versions import ROOM_VERSIONS

SPEC_VERSIONS = ["r0.6.1", *(f"v1.{minor}" for minor in range(1, 16))]
_DEFAULT_MESSAGES = 10
_MAX_MESSAGES = 1000


# Server and session


async def versions(call: Call) -> Json:
    return {"versions": SPEC_VERSIONS, "unstable_features": call.service.unstable_features}


async def login_flows(_: Call) -> Json:
    return {"flows": [{"type": "m.login.password"}]}


async def login(call: Call) -> Json:
    body = call.body()
    if body.get("type") != "m.login.password":
        raise bad_request(f"Unknown login type {body.get('type')}")
    user = body.get("identifier", {}).get("user") or body.get("user") or ""
    session = call.world.login(user, body.get("password", ""), device_id=body.get("device_id"))
    return {
        "user_id": session.user_id,
        "access_token": session.token,
        "home_server": call.world.server_name,
        "device_id": session.device_id,
    }


async def logout(call: Call) -> Json:
    del call.world.sessions[call.session.token]
    return {}


async def whoami(call: Call) -> Json:
    return {"user_id": call.me, "is_guest": False, "device_id": call.session.device_id}


async def capabilities(call: Call) -> Json:
    available = dict.fromkeys(ROOM_VERSIONS, "stable")
    return {
        "capabilities": {
            "m.room_versions": {
                "default": call.world.default_room_version,
                "available": available,
            },
            "m.change_password": {"enabled": True},
            "m.set_displayname": {"enabled": True},
            "m.set_avatar_url": {"enabled": True},
        }
    }


# Rooms


async def create_room(call: Call) -> Json:
    return {"room_id": call.world.create_room(call.me, call.body()).room_id}


async def joined_rooms(call: Call) -> Json:
    at = call.as_of(JOINED_ROOMS, call.me, call.world.member_events(call.me))
    return {"joined_rooms": call.world.rooms_with(call.me, "join", at=at)}


async def join(call: Call) -> Json:
    content = _content_of(call.body(optional=True))
    target = call.params.get("room_id_or_alias") or call.room_id
    return {"room_id": call.world.join(call.me, target, content)}


async def leave(call: Call) -> Json:
    content = _content_of(call.body(optional=True))
    call.world.change_membership(call.me, call.room_id, call.me, "leave", content)
    return {}


async def forget(call: Call) -> Json:
    call.world.forget(call.me, call.room_id)
    return {}


async def act_on_member(call: Call) -> Json:
    body = call.body(optional=True)
    if "user_id" not in body:
        raise missing_params("user_id")
    action = call.params["action"]
    call.world.change_membership(call.me, call.room_id, body["user_id"], action, _content_of(body))
    return {}


async def upgrade(call: Call) -> Json:
    room = call.world.upgrade(call.me, call.room_id, call.body())
    return {"replacement_room": room.room_id}


async def resolve_alias(call: Call) -> Json:
    room_id = call.world.aliases.resolve(call.params["alias"])
    return {"room_id": room_id, "servers": [call.world.server_name]}


async def put_alias(call: Call) -> Json:
    call.world.name_room(call.me, call.params["alias"], call.body().get("room_id", ""))
    return {}


async def delete_alias(call: Call) -> Json:
    call.world.remove_alias(call.me, call.params["alias"])
    return {}


async def room_aliases(call: Call) -> Json:
    call.world.readable_state(call.me, call.room_id)
    return {"aliases": call.world.aliases.of_room(call.room_id)}


# State and events


async def full_state(call: Call) -> Any:
    state = call.room_state(STATE)
    return [call.view(event) for event in state.values()]


async def get_state(call: Call) -> Json:
    state = call.room_state(STATE)
    event = state.get((call.params["type"], call.params.get("key", "")))
    if event is None:
        raise not_found()
    if call.query.get("format") == "event":
        return event_view(event, now=call.world.clock.read(), viewer=call.session.viewer)
    return event.content


async def put_state(call: Call) -> Json:
    event = call.world.set_state(
        call.me,
        call.room_id,
        call.params["type"],
        call.body(),
        state_key=call.params.get("key", ""),
    )
    return {"event_id": event.event_id}


async def send(call: Call) -> Json:
    event = call.world.send(
        call.me, call.room_id, call.params["type"], call.body(), transaction=call.transaction
    )
    return {"event_id": event.event_id}


async def redact(call: Call) -> Json:
    event = call.world.redact(
        call.me,
        call.room_id,
        call.params["event_id"],
        reason=call.body(optional=True).get("reason"),
        transaction=call.transaction,
    )
    return {"event_id": event.event_id}


async def members(call: Call) -> Json:
    state = call.world.readable_state(call.me, call.room_id)
    wanted, unwanted = call.query.get("membership"), call.query.get("not_membership")
    found = [e for (type_, _), e in state.items() if type_ == "m.room.member"]
    return {
        "chunk": [
            call.view(event)
            for event in found
            if wanted in (None, event.membership) and event.membership != unwanted
        ]
    }


async def joined_members(call: Call) -> Json:
    state = call.room_state(JOINED_MEMBERS)
    members = {e.state_key: e for e in state.values() if e.type == "m.room.member"}
    if members[call.me].membership != "join":
        raise forbidden(
            "Getting joined members while not being a current member of the room is forbidden."
        )
    joined: Json = {}
    for user_id, member in members.items():
        content = member.content
        if member.membership != "join":
            continue
        joined[user_id] = {
            "display_name": content.get("displayname"),
            "avatar_url": content.get("avatar_url"),
        }
    return {"joined": joined}


async def get_event(call: Call) -> Json:
    event = call.world.readable_event(call.me, call.room_id, call.params["event_id"])
    room = call.world.rooms[call.room_id]
    view = call.timeline_view(room, event)
    edits = [other for other in room.timeline if other.edits(event)]
    if edits and event.redacted_because is None:
        latest = max(edits, key=lambda edit: (edit.origin_server_ts, edit.event_id))
        view["unsigned"]["m.relations"] = {"m.replace": call.timeline_view(room, latest)}
    return view


async def messages(call: Call) -> Json:
    room, upto = call.world.readable(call.me, call.room_id)
    end = call.world.stream if upto is None else upto
    backwards = call.query.get("dir", "f") == "b"
    limit = min(call.number("limit", _DEFAULT_MESSAGES), _MAX_MESSAGES)
    filter_ = EventFilter.parse(json.loads(call.query.get("filter") or "{}"))
    default = end if backwards else 0
    start = read_token(call.query["from"]) if call.query.get("from") else default
    to = call.query.get("to") if call.service.switches.honours_to else None
    stop = read_token(to) if to else None
    if backwards:
        events = room.between(stop or 0, min(start, end))[::-1][:limit]
    else:
        events = room.between(start, end if stop is None else min(stop, end))[:limit]
    shown = [event for event in filter_.keep(events) if room.visible_to(call.me, event)]
    answer: Json = {
        "chunk": [call.timeline_view(room, event) for event in shown],
        "start": call.query.get("from") or stream_token(start),
    }
    if events:
        last = events[-1]
        step = 1 if backwards else 0
        answer["end"] = room_token(last.depth - step, last.stream - step)
    return answer


# What is not an event


async def typing(call: Call) -> Json:
    _only_own(call, "typing state", bad_request)
    body = call.body()
    call.world.set_typing(call.me, call.room_id, typing=bool(body.get("typing")))
    return {}


async def receipt(call: Call) -> Json:
    call.world.set_receipt(call.me, call.room_id, call.params["kind"], call.params["event_id"])
    return {}


async def read_markers(call: Call) -> Json:
    for kind, event_id in call.body().items():
        if kind == "m.fully_read":
            content = {"event_id": event_id}
            call.world.set_account_data(call.me, kind, content, room_id=call.room_id)
        else:
            call.world.set_receipt(call.me, call.room_id, kind, event_id)
    return {}


async def get_profile(call: Call) -> Json:
    account = call.world.accounts.get(call.params["user_id"])
    wanted = call.params.get("field")
    if account is None and wanted is None:
        raise MatrixError(404, "M_UNKNOWN", "No row found (profiles)")
    if account is None:
        raise not_found("Profile was not found")
    return {k: v for k, v in account.profile.items() if wanted in (None, k)}


async def put_profile(call: Call) -> Json:
    name = call.params["field"]
    _only_own(call, name, bad_request)
    if name not in ("displayname", "avatar_url"):
        raise bad_request(f"Unknown profile field {name}", "M_INVALID_PARAM")
    call.world.set_profile(call.me, name, call.body().get(name))
    return {}


async def get_account_data(call: Call) -> Json:
    if call.params["user_id"] != call.me:
        raise forbidden("Cannot get account data for other users.")
    account = call.world.accounts[call.me]
    stored, what = account.account_data, "Account data"
    if "room_id" in call.params:
        stored, what = account.room_account_data.get(call.room_id, {}), "Room account data"
    if call.params["type"] not in stored:
        raise not_found(f"{what} not found")
    return stored[call.params["type"]][0]


async def put_account_data(call: Call) -> Json:
    if call.params["user_id"] != call.me:
        raise forbidden("Cannot add account data for other users.")
    largest = call.service.switches.largest_account_data
    if largest is not None and len(call.raw_body) > largest:
        raise MatrixError(413, "M_TOO_LARGE", "Account data too large")
    room_id = call.params.get("room_id")
    call.world.set_account_data(call.me, call.params["type"], call.body(), room_id=room_id)
    return {}


async def get_presence(call: Call) -> Json:
    if call.params["user_id"] not in call.world.accounts:
        raise forbidden("You are not allowed to see their presence.")
    return call.world.accounts[call.params["user_id"]].presence


async def put_presence(call: Call) -> Json:
    _only_own(call, "presence", forbidden)
    call.world.accounts[call.me].presence = call.body()
    return {}


async def get_push_rules(_: Call) -> Json:
    return {"global": {}}


# Sync


async def post_filter(call: Call) -> Json:
    if call.params["user_id"] != call.me:
        raise forbidden("Cannot create filters for other users")
    filters = call.world.accounts[call.me].filters
    body = call.body()
    if body not in filters:
        filters.append(body)
    return {"filter_id": str(filters.index(body))}


async def get_filter(call: Call) -> Json:
    if call.params["user_id"] != call.me:
        raise forbidden("Cannot get filters for other users")
    filters, wanted = call.world.accounts[call.me].filters, call.params["filter_id"]
    if not wanted.isdecimal() or int(wanted) >= len(filters):
        raise not_found("No such filter")
    return filters[int(wanted)]


def _content_of(body: Json) -> Json:
    """Give what of a membership request goes into the event."""
    return {"reason": body["reason"]} if body.get("reason") else {}


def _only_own(call: Call, what: str, error: Callable[[str], MatrixError]) -> None:
    if call.params["user_id"] != call.me:
        refusal = error(f"Cannot set another user's {what}")
        refusal.errcode = "M_FORBIDDEN"
        raise refusal


# The table

Endpoint = Callable[[Call], Awaitable[Any]]
_CLIENT = re.compile(r"/_matrix/client/(?:r0|v1|v3|unstable)/(.*)")


@dataclass(frozen=True)
class Route:
    """One endpoint; a `{name}` in the template is one path segment, possibly empty."""

    method: str
    template: str
    endpoint: Endpoint
    params: Mapping[str, str] = field(default_factory=dict)
    public: bool = False
    """Whether it needs no access token."""

    def read(self, segments: list[str]) -> dict[str, str] | None:
        """Give the parameters if the path is meant, else None."""
        parts = self.template.split("/")
        if len(parts) != len(segments):
            return None
        params = dict(self.params)
        for part, segment in zip(parts, segments, strict=True):
            if part.startswith("{"):
                params[part[1:-1]] = unquote(segment)
            elif part != segment:
                return None
        return params


_ROOM = "rooms/{room_id}"
_USER = "user/{user_id}"
ROUTES = [
    Route("GET", "login", login_flows, public=True),
    Route("POST", "login", login, public=True),
    Route("POST", "logout", logout),
    Route("GET", "account/whoami", whoami),
    Route("GET", "capabilities", capabilities),
    Route("GET", "pushrules/", get_push_rules),
    Route("GET", "sync", get_sync),
    Route("POST", f"{SLIDING_SYNC}/sync", post_sliding_sync),
    Route("POST", _USER + "/filter", post_filter),
    Route("GET", _USER + "/filter/{filter_id}", get_filter),
    Route("POST", "createRoom", create_room),
    Route("GET", "joined_rooms", joined_rooms),
    Route("POST", "join/{room_id_or_alias}", join),
    Route("POST", _ROOM + "/join", join),
    Route("POST", _ROOM + "/leave", leave),
    Route("POST", _ROOM + "/forget", forget),
    *(
        Route("POST", f"{_ROOM}/{action}", act_on_member, {"action": action})
        for action in ("invite", "kick", "ban", "unban")
    ),
    Route("POST", _ROOM + "/upgrade", upgrade),
    Route("GET", "directory/room/{alias}", resolve_alias, public=True),
    Route("PUT", "directory/room/{alias}", put_alias),
    Route("DELETE", "directory/room/{alias}", delete_alias),
    Route("GET", _ROOM + "/aliases", room_aliases),
    Route("GET", _ROOM + "/state", full_state),
    Route("GET", _ROOM + "/state/{type}", get_state),
    Route("GET", _ROOM + "/state/{type}/{key}", get_state),
    Route("PUT", _ROOM + "/state/{type}", put_state),
    Route("PUT", _ROOM + "/state/{type}/{key}", put_state),
    Route("PUT", _ROOM + "/send/{type}/{txn}", send),
    Route("PUT", _ROOM + "/redact/{event_id}/{txn}", redact),
    Route("GET", _ROOM + "/members", members),
    Route("GET", _ROOM + "/joined_members", joined_members),
    Route("GET", _ROOM + "/event/{event_id}", get_event),
    Route("GET", _ROOM + "/messages", messages),
    Route("PUT", _ROOM + "/typing/{user_id}", typing),
    Route("POST", _ROOM + "/receipt/{kind}/{event_id}", receipt),
    Route("POST", _ROOM + "/read_markers", read_markers),
    Route("GET", "profile/{user_id}", get_profile, public=True),
    Route("GET", "profile/{user_id}/{field}", get_profile, public=True),
    Route("PUT", "profile/{user_id}/{field}", put_profile),
    Route("GET", _USER + "/account_data/{type}", get_account_data),
    Route("PUT", _USER + "/account_data/{type}", put_account_data),
    Route("GET", _USER + "/rooms/{room_id}/account_data/{type}", get_account_data),
    Route("PUT", _USER + "/rooms/{room_id}/account_data/{type}", put_account_data),
    Route("GET", "presence/{user_id}/status", get_presence),
    Route("PUT", "presence/{user_id}/status", put_presence),
]
VERSIONS = Route("GET", "versions", versions, public=True)


def find_route(method: str, raw_path: str) -> tuple[Route, dict[str, str]]:
    """Find the endpoint of a request, and read its parameters."""
    if raw_path == "/_matrix/client/versions":
        return VERSIONS, {}
    match = _CLIENT.fullmatch(raw_path)
    status = 404
    if match is not None:
        segments = match[1].split("/")
        for route in ROUTES:
            params = route.read(segments)
            if params is None:
                continue
            if route.method == method:
                return route, params
            status = 405
    raise MatrixError(status, "M_UNRECOGNIZED", "Unrecognized request")
