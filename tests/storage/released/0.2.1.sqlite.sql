-- What Homeroom 0.2.1 (schema version 3) stored, as its own store wrote it.
-- A dump of sqlite3.
CREATE TABLE chats (
    room_id TEXT NOT NULL PRIMARY KEY,
    room_type TEXT,
    matrix_user_id TEXT NOT NULL,
    space_id TEXT,
    chat_id TEXT,
    platform_chat_id TEXT,
    name TEXT,
    status TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
, conversation BIGINT, conversation_since TEXT);
INSERT INTO "chats" VALUES('!bens:example.org','chat','@ben:example.org',NULL,NULL,NULL,NULL,'left',1763800000001,1763800000001,NULL,NULL);
INSERT INTO "chats" VALUES('!general:example.org','chat','@anna:example.org','!annas-home:example.org','C1','key-of-general-2','General','active',1763800000001,1765000000001,2,'$cleared');
INSERT INTO "chats" VALUES('!ideas:example.org','chat','@anna:example.org','!annas-home:example.org','C2','key-of-ideas','Ideas, ''quoted'' & ünïcode 🙂','archived',1763800000001,1763800000001,NULL,NULL);
INSERT INTO "chats" VALUES('!new:example.org','chat','@anna:example.org','!annas-home:example.org','C3','key-of-new','Trip','active',1763800000001,1763800000001,NULL,NULL);
INSERT INTO "chats" VALUES('!old:example.org','chat','@anna:example.org','!annas-home:example.org','C3','key-of-new','Trip','replaced',1763800000001,1763800000001,NULL,NULL);
CREATE TABLE handled_events (
    event_id TEXT NOT NULL PRIMARY KEY,
    room_id TEXT NOT NULL,
    handled_at BIGINT NOT NULL
);
INSERT INTO "handled_events" VALUES('$handled-1','!general:example.org',1763800000002);
INSERT INTO "handled_events" VALUES('$handled-2','!general:example.org',1763800000003);
INSERT INTO "handled_events" VALUES('$handled-3','!general:example.org',1763800000004);
INSERT INTO "handled_events" VALUES('$handled-4','!new:example.org',1765000000003);
CREATE TABLE homes (
    matrix_user_id TEXT NOT NULL PRIMARY KEY,
    space_id TEXT NOT NULL,
    status TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
, initial_chats TEXT);
INSERT INTO "homes" VALUES('@anna:example.org','!annas-home:example.org','active',1763800000001,1763800000001,'["General", "Ideas"]');
INSERT INTO "homes" VALUES('@ben:example.org','!bens-home:example.org','left',1763800000001,1763800000001,'[]');
CREATE TABLE notices (
    room_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    sent_at BIGINT NOT NULL,
    PRIMARY KEY (room_id, kind)
);
INSERT INTO "notices" VALUES('!lobby:example.org','pointer',1763800000006);
CREATE TABLE open_answers (
        event_id TEXT NOT NULL,
        part BIGINT NOT NULL,
        room_id TEXT NOT NULL,
        thread_root TEXT,
        answer_id TEXT,
        opened_at BIGINT NOT NULL,
        PRIMARY KEY (event_id, part)
    );
INSERT INTO "open_answers" VALUES('$asked',0,'!new:example.org',NULL,'$answer',1765000000006);
CREATE TABLE reconciles (
        finished_at BIGINT NOT NULL PRIMARY KEY,
        milliseconds BIGINT NOT NULL,
        rooms BIGINT NOT NULL,
        adopted BIGINT NOT NULL,
        updated BIGINT NOT NULL,
        backfilled BIGINT NOT NULL,
        rooms_left BIGINT NOT NULL,
        unreadable BIGINT NOT NULL,
        findings BIGINT NOT NULL
    );
INSERT INTO "reconciles" VALUES(1765000000000,812,6,1,2,0,0,0,1);
CREATE TABLE sync_state (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    bot TEXT NOT NULL,
    saved_at BIGINT NOT NULL
);
INSERT INTO "sync_state" VALUES('position','s56_78_9','@bot:example.org',1765000000004);
INSERT INTO "sync_state" VALUES('proof','a-proof-of-0.2.1 s56_78_9','',1765000000005);
CREATE TABLE version (
            version INTEGER PRIMARY KEY
        );
INSERT INTO "version" VALUES(3);
CREATE INDEX chats_matrix_user_id ON chats (matrix_user_id);
CREATE UNIQUE INDEX chats_unique_platform_chat_id ON chats (platform_chat_id)
    WHERE status IN ('active', 'archived')
;
CREATE UNIQUE INDEX chats_unique_chat_id ON chats (matrix_user_id, chat_id)
    WHERE status IN ('active', 'archived')
;
CREATE INDEX handled_events_handled_at ON handled_events (handled_at);
