-- What Homeroom 0.1.0 (schema version 2) stored, as its own store wrote it.
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
);
INSERT INTO "chats" VALUES('!bens:example.org','chat','@ben:example.org',NULL,NULL,NULL,NULL,'left',1763800000001,1763800000001);
INSERT INTO "chats" VALUES('!general:example.org','chat','@anna:example.org','!annas-home:example.org','C1','key-of-general','General','active',1763800000001,1763800000001);
INSERT INTO "chats" VALUES('!ideas:example.org','chat','@anna:example.org','!annas-home:example.org','C2','key-of-ideas','Ideas, ''quoted'' & ünïcode 🙂','archived',1763800000001,1763800000001);
INSERT INTO "chats" VALUES('!new:example.org','chat','@anna:example.org','!annas-home:example.org','C3','key-of-new','Trip','active',1763800000001,1763800000001);
INSERT INTO "chats" VALUES('!old:example.org','chat','@anna:example.org','!annas-home:example.org','C3','key-of-new','Trip','replaced',1763800000001,1763800000001);
CREATE TABLE handled_events (
    event_id TEXT NOT NULL PRIMARY KEY,
    room_id TEXT NOT NULL,
    handled_at BIGINT NOT NULL
);
INSERT INTO "handled_events" VALUES('$handled-1','!general:example.org',1763800000002);
INSERT INTO "handled_events" VALUES('$handled-2','!general:example.org',1763800000003);
INSERT INTO "handled_events" VALUES('$handled-3','!general:example.org',1763800000004);
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
CREATE TABLE sync_state (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    bot TEXT NOT NULL,
    saved_at BIGINT NOT NULL
);
INSERT INTO "sync_state" VALUES('position','s12_34_5','@bot:example.org',1763800000005);
CREATE TABLE version (
            version INTEGER PRIMARY KEY
        );
INSERT INTO "version" VALUES(2);
CREATE INDEX chats_matrix_user_id ON chats (matrix_user_id);
CREATE UNIQUE INDEX chats_unique_platform_chat_id ON chats (platform_chat_id)
    WHERE status IN ('active', 'archived')
;
CREATE UNIQUE INDEX chats_unique_chat_id ON chats (matrix_user_id, chat_id)
    WHERE status IN ('active', 'archived')
;
CREATE INDEX handled_events_handled_at ON handled_events (handled_at);
