-- What Homeroom 0.2.1 (schema version 3) stored, as its own store wrote it.
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
    updated_at bigint NOT NULL,
    conversation bigint,
    conversation_since text
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
CREATE TABLE open_answers (
    event_id text NOT NULL,
    part bigint NOT NULL,
    room_id text NOT NULL,
    thread_root text,
    answer_id text,
    opened_at bigint NOT NULL
);
CREATE TABLE reconciles (
    finished_at bigint NOT NULL,
    milliseconds bigint NOT NULL,
    rooms bigint NOT NULL,
    adopted bigint NOT NULL,
    updated bigint NOT NULL,
    backfilled bigint NOT NULL,
    rooms_left bigint NOT NULL,
    unreadable bigint NOT NULL,
    findings bigint NOT NULL
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
INSERT INTO chats VALUES ('!bens:example.org', 'chat', '@ben:example.org', NULL, NULL, NULL, NULL, 'left', 1763800000001, 1763800000001, NULL, NULL);
INSERT INTO chats VALUES ('!ideas:example.org', 'chat', '@anna:example.org', '!annas-home:example.org', 'C2', 'key-of-ideas', 'Ideas, ''quoted'' & ünïcode 🙂', 'archived', 1763800000001, 1763800000001, NULL, NULL);
INSERT INTO chats VALUES ('!new:example.org', 'chat', '@anna:example.org', '!annas-home:example.org', 'C3', 'key-of-new', 'Trip', 'active', 1763800000001, 1763800000001, NULL, NULL);
INSERT INTO chats VALUES ('!old:example.org', 'chat', '@anna:example.org', '!annas-home:example.org', 'C3', 'key-of-new', 'Trip', 'replaced', 1763800000001, 1763800000001, NULL, NULL);
INSERT INTO chats VALUES ('!general:example.org', 'chat', '@anna:example.org', '!annas-home:example.org', 'C1', 'key-of-general-2', 'General', 'active', 1763800000001, 1765000000001, 2, '$cleared');
INSERT INTO handled_events VALUES ('$handled-1', '!general:example.org', 1763800000002);
INSERT INTO handled_events VALUES ('$handled-2', '!general:example.org', 1763800000003);
INSERT INTO handled_events VALUES ('$handled-3', '!general:example.org', 1763800000004);
INSERT INTO handled_events VALUES ('$handled-4', '!new:example.org', 1765000000003);
INSERT INTO homes VALUES ('@anna:example.org', '!annas-home:example.org', 'active', 1763800000001, 1763800000001, '["General", "Ideas"]');
INSERT INTO homes VALUES ('@ben:example.org', '!bens-home:example.org', 'left', 1763800000001, 1763800000001, '[]');
INSERT INTO notices VALUES ('!lobby:example.org', 'pointer', 1763800000006);
INSERT INTO open_answers VALUES ('$asked', 0, '!new:example.org', NULL, '$answer', 1765000000006);
INSERT INTO reconciles VALUES (1765000000000, 812, 6, 1, 2, 0, 0, 0, 1);
INSERT INTO sync_state VALUES ('position', 's56_78_9', '@bot:example.org', 1765000000004);
INSERT INTO sync_state VALUES ('proof', 'a-proof-of-0.2.1 s56_78_9', '', 1765000000005);
INSERT INTO version VALUES (3);
ALTER TABLE ONLY chats
    ADD CONSTRAINT chats_pkey PRIMARY KEY (room_id);
ALTER TABLE ONLY handled_events
    ADD CONSTRAINT handled_events_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY homes
    ADD CONSTRAINT homes_pkey PRIMARY KEY (matrix_user_id);
ALTER TABLE ONLY notices
    ADD CONSTRAINT notices_pkey PRIMARY KEY (room_id, kind);
ALTER TABLE ONLY open_answers
    ADD CONSTRAINT open_answers_pkey PRIMARY KEY (event_id, part);
ALTER TABLE ONLY reconciles
    ADD CONSTRAINT reconciles_pkey PRIMARY KEY (finished_at);
ALTER TABLE ONLY sync_state
    ADD CONSTRAINT sync_state_pkey PRIMARY KEY (key);
ALTER TABLE ONLY version
    ADD CONSTRAINT version_pkey PRIMARY KEY (version);
CREATE INDEX chats_matrix_user_id ON chats USING btree (matrix_user_id);
CREATE UNIQUE INDEX chats_unique_chat_id ON chats USING btree (matrix_user_id, chat_id) WHERE (status = ANY (ARRAY['active'::text, 'archived'::text]));
CREATE UNIQUE INDEX chats_unique_platform_chat_id ON chats USING btree (platform_chat_id) WHERE (status = ANY (ARRAY['active'::text, 'archived'::text]));
CREATE INDEX handled_events_handled_at ON handled_events USING btree (handled_at);
