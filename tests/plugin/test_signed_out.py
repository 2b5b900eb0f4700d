"""While the homeserver does not take the token, everything waits, and is answered once."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom.startup import account_watch
from tests.fake import FakeHomeserver, Match, Respond
from tests.plugin.harness import running, until

REFUSALS = {
    "unknown token": Respond(401, {"errcode": "M_UNKNOWN_TOKEN", "error": "gone"}),
    "soft logout": Respond(
        401, {"errcode": "M_UNKNOWN_TOKEN", "error": "gone", "soft_logout": True}
    ),
    "locked": Respond(401, {"errcode": "M_USER_LOCKED", "error": "gone", "soft_logout": True}),
    "over the limit": Respond(403, {"errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": "gone"}),
}


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_watch, "LOOK_EVERY", 0.01)


@pytest.mark.parametrize("action", REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_message_is_kept_until_the_token_works_again(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture, action: Respond
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        sending = hs.fail(Match(user=bot.me.user_id, path="/send/"), action, times=None)
        limit = action.json["errcode"] == "M_RESOURCE_LIMIT_EXCEEDED"
        path = "no reads are refused" if limit else "whoami"
        asking = hs.fail(Match(user=bot.me.user_id, path=path), action, times=None)
        asked = anna.send(chat_id, "Hello")
        await until("requests that were refused", lambda: len(sending.hits) > 3)
        assert bot.app is not None
        assert bot.app.account.homeserver.health.signed_out == action.json["errcode"]
        snapshot = await bot.app.snapshot(version="1", with_rows=False)
        assert snapshot.condition.value == "signed-out"
        handled = "SELECT * FROM handled_events WHERE event_id = ?"
        assert bot.query(handled, asked) == []
        sending.cancel()
        asking.cancel()
        await bot.hear(chat_id, 1)
        await bot.settled()
        assert bot.words(chat_id) == [bot.echo(chat_id, "Hello")]
        assert bot.app.account.homeserver.health.signed_out is None

        def said() -> list[str]:
            return [r.getMessage() for r in caplog.records if "igned in" in r.getMessage()]

        await until("a word that it is over", lambda: said()[-1].startswith("Signed in again"))
        told, over = said()
        assert told.startswith(f"Not signed in ({action.json['errcode']})")
        assert over == "Signed in again: going on with what waits"
