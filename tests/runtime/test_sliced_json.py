"""Large JSON is what `json.loads` makes of it, and others have their turn meanwhile."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from json.decoder import JSONArray  # type: ignore[attr-defined]
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.runtime import sliced_json as large_json
from homeroom.runtime.sliced_json import loads


@pytest.fixture(autouse=True, scope="module")
def everything_is_large() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "LARGE", -1)
        yield


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def by_json(body: bytes) -> Any:
    """What `json.loads` says, or that it refuses."""
    try:
        return json.loads(body)
    except ValueError:
        return ValueError


def by_us(body: bytes) -> Any:
    try:
        return loads(body)
    except ValueError:
        return ValueError


@given(value=JSON, indent=st.sampled_from([None, 1]))
def test_it_says_what_json_says(value: Any, indent: int | None) -> None:
    assert loads(json.dumps(value, indent=indent).encode()) == value


@given(value=JSON, data=st.data())
def test_it_refuses_what_json_refuses(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    assert repr(by_us(bytes(body))) == repr(by_json(bytes(body)))


@pytest.mark.parametrize("body", [b"", b" ", b"{", b"[1,", b'{"a": {"b": {"c"', b"{} {}", b"\xff"])
def test_half_of_it_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Extra data|decode"):
        loads(body)


def test_what_is_too_deep_is_refused_and_not_a_crash() -> None:
    for opening in (b"[", b'{"a":'):
        with pytest.raises(RecursionError):
            loads(opening * 200_000)


def test_lists_are_read_with_the_hook_that_python_3_15_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(start: tuple[str, int], scan_once: Any, array_hook: Any = None) -> Any:
        return JSONArray(start, scan_once)

    monkeypatch.setattr(large_json, "JSONArray", read)
    walker = large_json._walker()
    assert walker.parse_array(("[1, 2]", 1), walker.scan_once, None) == ([1, 2], 6)


EVENTS = [{"type": "m.room.member", "content": {"membership": "join"}}] * 20
LARGE = {
    "sliding sync": {"rooms": {f"!{n}": {"required_state": EVENTS} for n in range(2000)}},
    "sync": {"rooms": {"join": {f"!{n}": {"state": {"events": EVENTS}} for n in range(2000)}}},
    "state": EVENTS * 2000,
}


@pytest.mark.parametrize("of", LARGE)
def test_others_have_their_turn_meanwhile(of: str) -> None:
    body = json.dumps(LARGE[of]).encode()
    turns = 0
    is_over = False

    def take_turns() -> None:
        nonlocal turns
        while not is_over:
            turns += 1
            begun.set()
            time.sleep(0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    begun = threading.Event()
    other = threading.Thread(target=take_turns)
    try:
        other.start()
        begun.wait()
        before = turns
        answer = loads(body)
        taken = turns - before
    finally:
        is_over = True
        other.join()
        sys.setswitchinterval(interval)
    assert answer == LARGE[of]
    assert taken > 40
