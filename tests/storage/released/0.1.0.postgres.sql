-- What Homeroom 0.1.0 (schema version 2) stored, as its own store wrote it.
-- A dump of pg_dump --inserts, without its settings and the name of the schema.
CREATE TABLE chats (
    room_id text NOT NULL,
    room_type text,
    matrix_user_id text NOT NULL,
    space_id text,
    chat_id text,
    platform_chat_id text,
    name text,
    status text,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE TABLE handled_events (
    event_id text NOT NULL,
    room_id text NOT NULL,
    handled_at bigint NOT NULL
);
CREATE TABLE homes (
    matrix_user_id text NOT NULL,
    space_id text NOT NULL,
    status text,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    initial_chats text
);
CREATE TABLE notices (
    room_id text NOT NULL,
    kind text NOT NULL,
    sent_at bigint NOT NULL
);
CREATE TABLE sync_state (
    key text NOT NULL,
    value text NOT NULL,
    bot text NOT NULL,
    saved_at bigint NOT NULL
);
CREATE TABLE version (
    version integer NOT NULL
);
INSERT INTO chats VALUES ('!bens:example.org', 'chat', '@ben:example.org', NULL, NULL, NULL, NULL, 'left', 1763800000001, 1763800000001);
INSERT INTO chats VALUES ('!general:example.org', 'chat', '@anna:example.org', '!annas-home:example.org', 'C1', 'key-of-general', 'General', 'active', 1763800000001, 1763800000001);
INSERT INTO chats VALUES ('!ideas:example.org', 'chat', '@anna:example.org', '!annas-home:example.org', 'C2', 'key-of-ideas', 'Ideas, ''quoted'' & ünïcode 🙂', 'archived', 1763800000001, 1763800000001);
INSERT INTO chats VALUES ('!new:example.org', 'chat', '@anna:example.org', '!annas-home:example.org', 'C3', 'key-of-new', 'Trip', 'active', 1763800000001, 1763800000001);
INSERT INTO chats VALUES ('!old:example.org', 'chat', '@anna:example.org', '!annas-home:example.org', 'C3', 'key-of-new', 'Trip', 'replaced', 1763800000001, 1763800000001);
INSERT INTO handled_events VALUES ('$handled-1', '!general:example.org', 1763800000002);
INSERT INTO handled_events VALUES ('$handled-2', '!general:example.org', 1763800000003);
INSERT INTO handled_events VALUES ('$handled-3', '!general:example.org', 1763800000004);
INSERT INTO homes VALUES ('@anna:example.org', '!annas-home:example.org', 'active', 1763800000001, 1763800000001, '["General", "Ideas"]');
INSERT INTO homes VALUES ('@ben:example.org', '!bens-home:example.org', 'left', 1763800000001, 1763800000001, '[]');
INSERT INTO notices VALUES ('!lobby:example.org', 'pointer', 1763800000006);
INSERT INTO sync_state VALUES ('position', 's12_34_5', '@bot:example.org', 1763800000005);
INSERT INTO version VALUES (2);
ALTER TABLE ONLY chats
    ADD CONSTRAINT chats_pkey PRIMARY KEY (room_id);
ALTER TABLE ONLY handled_events
    ADD CONSTRAINT handled_events_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY homes
    ADD CONSTRAINT homes_pkey PRIMARY KEY (matrix_user_id);
ALTER TABLE ONLY notices
    ADD CONSTRAINT notices_pkey PRIMARY KEY (room_id, kind);
ALTER TABLE ONLY sync_state
    ADD CONSTRAINT sync_state_pkey PRIMARY KEY (key);
ALTER TABLE ONLY version
    ADD CONSTRAINT version_pkey PRIMARY KEY (version);
CREATE INDEX chats_matrix_user_id ON chats USING btree (matrix_user_id);
CREATE UNIQUE INDEX chats_unique_chat_id ON chats USING btree (matrix_user_id, chat_id) WHERE (status = ANY (ARRAY['active'::text, 'archived'::text]));
CREATE UNIQUE INDEX chats_unique_platform_chat_id ON chats USING btree (platform_chat_id) WHERE (status = ANY (ARRAY['active'::text, 'archived'::text]));
CREATE INDEX handled_events_handled_at ON handled_events USING btree (handled_at);
