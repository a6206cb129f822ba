-- Tables.  Postgres 13 and later.
--
-- Run in one transaction, by any role that may create objects in the schema
-- (or the schema itself): neither superuser nor CREATEROLE.  Wherever the bare
-- word "outbox" stands in these files it is the schema's name, so another name
-- is a textual replacement; nothing else depends on it.
--
-- What must stay true:
--   * outbox.message is insert-only.  Progress of the relay is a position (the
--     newest row of outbox.sent), not a change of any message.
--   * xid is the first column, so that a row's transaction id is assigned before
--     its id: every row with xid >= xmax of a snapshot has an id above every id
--     visible in it.  The identity has CACHE 1 for the same reason.
--   * No row here is needed for anything to work (a schema-only dump has none):
--     settings and versions are functions that are rewritten.

DO $$
BEGIN
	-- CREATE SCHEMA IF NOT EXISTS would ask for CREATE on the database even
	-- where the schema is there already.
	IF to_regnamespace('outbox') IS NULL THEN
		CREATE SCHEMA outbox;
		-- The comment tells the down migration that the schema is ours.
		COMMENT ON SCHEMA outbox IS 'Messages on their way to RabbitMQ';
	END IF;
END
$$;

-- ---------------------------------------------------------------- versions

CREATE TABLE outbox.migration (
	version    integer NOT NULL PRIMARY KEY,
	name       text NOT NULL,
	applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	applied_by text NOT NULL DEFAULT session_user
);
REVOKE ALL ON outbox.migration FROM PUBLIC;
COMMENT ON TABLE outbox.migration IS
	'History of migrations, for people. What counts is applied_migrations(), which a schema-only dump keeps.';

CREATE FUNCTION outbox.applied_migrations() RETURNS integer[]
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '{}'::integer[] $$;
REVOKE ALL ON FUNCTION outbox.applied_migrations() FROM PUBLIC;
COMMENT ON FUNCTION outbox.applied_migrations() IS
	'Versions of the migrations that are applied, ascending. Rewritten by each migration.';

CREATE FUNCTION outbox.schema_version() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '1.0'::text $$;
REVOKE ALL ON FUNCTION outbox.schema_version() FROM PUBLIC;
COMMENT ON FUNCTION outbox.schema_version() IS
	'major.minor of the schema: a relay works with every minor of its major.';

CREATE FUNCTION outbox.record_migration(version integer, name text, applied boolean) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	versions integer[];
BEGIN
	SELECT coalesce(array_agg(v ORDER BY v), '{}') INTO versions
	FROM unnest(outbox.applied_migrations()) AS v
	WHERE v <> record_migration.version;
	DELETE FROM outbox.migration AS m WHERE m.version = record_migration.version;
	IF applied THEN
		INSERT INTO outbox.migration (version, name) VALUES (record_migration.version, record_migration.name);
		SELECT array_agg(v ORDER BY v) INTO versions
		FROM unnest(versions || record_migration.version) AS v;
	END IF;
	EXECUTE format('CREATE OR REPLACE FUNCTION outbox.applied_migrations() RETURNS integer[]'
		' LANGUAGE sql STABLE PARALLEL SAFE AS %L',
		format(' SELECT %L::integer[] ', versions));
END
$$;
REVOKE ALL ON FUNCTION outbox.record_migration(integer, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION outbox.record_migration(integer, text, boolean) IS
	'Called by each migration: it is applied now, or no longer.';

-- ---------------------------------------------------------------- settings

CREATE FUNCTION outbox.retention() RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '86400 seconds'::interval $$;
REVOKE ALL ON FUNCTION outbox.retention() FROM PUBLIC;
COMMENT ON FUNCTION outbox.retention() IS
	'How long a sent message is kept at least. Change it by set_retention(interval).';

CREATE FUNCTION outbox.slot_period() RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '86400 seconds'::interval $$;
REVOKE ALL ON FUNCTION outbox.slot_period() FROM PUBLIC;
COMMENT ON FUNCTION outbox.slot_period() IS
	'How long one slot is written before the next: the retention, at least a minute.';

CREATE FUNCTION outbox.current_slot() RETURNS smallint
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT (floor(date_part('epoch', now()) / 86400)::bigint % 3)::smallint $$;
REVOKE ALL ON FUNCTION outbox.current_slot() FROM PUBLIC;
COMMENT ON FUNCTION outbox.current_slot() IS
	'The slot (0, 1 or 2) that rows of this transaction go to. Rewritten by set_retention(interval).';

CREATE FUNCTION outbox.payload_limit() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT 16777216 $$;
REVOKE ALL ON FUNCTION outbox.payload_limit() FROM PUBLIC;
COMMENT ON FUNCTION outbox.payload_limit() IS
	'Most bytes of a payload; RabbitMQ 4 refuses more than 16 MiB by default. Change it by set_payload_limit(integer).';

-- ---------------------------------------------------------------- column functions

-- RFC 9562, version 7: 48 bits of milliseconds, then 12 bits of the fraction of
-- the millisecond (section 6.2, method 3), then random bits of a version 4 UUID,
-- which bring the variant.  us * 512 / 125 is us / 1000 with 12 binary places.
-- One expression in which nothing stands twice, so that Postgres inlines it.
CREATE FUNCTION outbox.uuid_v7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
	SELECT (overlay(lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000000)::bigint * 512 / 125), 15, '0')
		PLACING '7' FROM 13 FOR 0) || right(gen_random_uuid()::text, 17))::uuid
$$;
REVOKE ALL ON FUNCTION outbox.uuid_v7() FROM PUBLIC;
COMMENT ON FUNCTION outbox.uuid_v7() IS
	'A UUID version 7 (RFC 9562): ordered by time to the microsecond.';

-- Raises instead of returning false, so that the developer reads what is wrong.
CREATE FUNCTION outbox.headers_valid(headers jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
	bad text;
BEGIN
	IF jsonb_typeof(headers) <> 'object' THEN
		RAISE EXCEPTION 'headers must be a JSON object, not %', jsonb_typeof(headers)
			USING ERRCODE = 'check_violation';
	END IF;
	IF headers ?| ARRAY['x-ordering-key', 'x-out' || 'box-id'] THEN
		RAISE EXCEPTION 'headers must not contain "x-ordering-key" or "%": the relay sets them', 'x-out' || 'box-id'
			USING ERRCODE = 'check_violation',
			HINT = 'Set the column ordering_key instead.';
	END IF;
	IF jsonb_path_exists(headers, '$.** ? (@ > 9223372036854775807 || @ < -9223372036854775808)') THEN
		RAISE EXCEPTION 'headers contain a number outside the range of int64: AMQP 0-9-1 cannot carry it exactly'
			USING ERRCODE = 'check_violation',
			HINT = 'Send it as a string.';
	END IF;
	-- Shorter ones can hold neither a key above 255 bytes nor 33 levels.
	IF octet_length(headers::text) > 64 THEN
		IF jsonb_path_exists(headers, 'strict $.**{32 to last} ? (@.type() == "object" || @.type() == "array")') THEN
			RAISE EXCEPTION 'headers are nested more than 32 levels deep'
				USING ERRCODE = 'check_violation';
		END IF;
		IF octet_length(headers::text) > 255 THEN
			SELECT k #>> '{}' INTO bad
			FROM jsonb_path_query(headers, 'strict $.** ? (@.type() == "object").keyvalue().key') AS k
			WHERE octet_length(k #>> '{}') > 255
			LIMIT 1;
			IF FOUND THEN
				RAISE EXCEPTION 'headers contain a key longer than 255 bytes: "%..."', left(bad, 40)
					USING ERRCODE = 'check_violation';
			END IF;
		END IF;
	END IF;
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION outbox.headers_valid(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION outbox.headers_valid(jsonb) IS
	'True, or an error that says what AMQP 0-9-1 could not carry: keys up to 255 bytes, 32 levels, numbers within int64.';

-- ---------------------------------------------------------------- message

CREATE TABLE outbox.message (
	xid              xid8 NOT NULL DEFAULT pg_current_xact_id(),
	id               bigint NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 1),
	slot             smallint NOT NULL DEFAULT outbox.current_slot(),
	message_id       uuid NOT NULL DEFAULT outbox.uuid_v7(),
	exchange         text NOT NULL DEFAULT '',
	routing_key      text NOT NULL,
	payload          bytea,
	payload_text     text,
	payload_json     jsonb,
	ordering_key     text,
	headers          jsonb,
	type             text,
	app_id           text,
	content_type     text DEFAULT 'application/json',
	content_encoding text,
	correlation_id   text,
	reply_to         text,
	expiration       interval,
	priority         smallint,
	persistent       boolean NOT NULL DEFAULT true,
	created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),

	PRIMARY KEY (id, slot),

	CONSTRAINT exchange_at_most_255_bytes CHECK (octet_length(exchange) <= 255),
	CONSTRAINT routing_key_at_most_255_bytes CHECK (octet_length(routing_key) <= 255),
	CONSTRAINT payload_exactly_one_of_bytea_text_json CHECK (num_nonnulls(payload, payload_text, payload_json) = 1),
	CONSTRAINT payload_at_most_payload_limit CHECK (coalesce(octet_length(payload), octet_length(payload_text),
		octet_length(payload_json::text)) <= outbox.payload_limit()),
	CONSTRAINT ordering_key_at_most_1024_bytes CHECK (octet_length(ordering_key) <= 1024),
	CONSTRAINT headers_amqp_can_carry CHECK (headers IS NULL OR outbox.headers_valid(headers)),
	CONSTRAINT type_at_most_255_bytes CHECK (octet_length(type) <= 255),
	CONSTRAINT app_id_at_most_255_bytes CHECK (octet_length(app_id) <= 255),
	CONSTRAINT content_type_at_most_255_bytes CHECK (octet_length(content_type) <= 255),
	CONSTRAINT content_encoding_at_most_255_bytes CHECK (octet_length(content_encoding) <= 255),
	CONSTRAINT correlation_id_at_most_255_bytes CHECK (octet_length(correlation_id) <= 255),
	CONSTRAINT reply_to_at_most_255_bytes CHECK (octet_length(reply_to) <= 255),
	CONSTRAINT expiration_without_months_below_2_to_32_ms CHECK (expiration IS NULL
		OR (date_part('year', expiration) = 0 AND date_part('month', expiration) = 0
			AND date_part('epoch', expiration) >= 0 AND date_part('epoch', expiration) * 1000 < 4294967296)),
	CONSTRAINT priority_0_to_255 CHECK (priority BETWEEN 0 AND 255),
	CONSTRAINT created_at_1970_to_9999 CHECK (created_at >= timestamptz '1970-01-01 00:00:00+00'
		AND created_at < timestamptz '10000-01-01 00:00:00+00')
) PARTITION BY LIST (slot);

-- A slot is emptied as a whole by TRUNCATE and nothing in it is ever updated or
-- deleted: vacuum would only read it.
CREATE TABLE outbox.message_0 PARTITION OF outbox.message FOR VALUES IN (0)
	WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);
CREATE TABLE outbox.message_1 PARTITION OF outbox.message FOR VALUES IN (1)
	WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);
CREATE TABLE outbox.message_2 PARTITION OF outbox.message FOR VALUES IN (2)
	WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);

CREATE INDEX message_xid_id_idx ON outbox.message (xid, id);
-- autosummarize works without autovacuum of the table itself.
CREATE INDEX message_created_at_idx ON outbox.message USING brin (created_at)
	WITH (pages_per_range = 32, autosummarize = on);

REVOKE ALL ON outbox.message, outbox.message_0, outbox.message_1, outbox.message_2 FROM PUBLIC;

COMMENT ON TABLE outbox.message IS
	'Messages to publish: INSERT here in the transaction that makes them true, or call publish(). Rows are never updated; see message_status for what became of them.';
COMMENT ON COLUMN outbox.message.xid IS 'Transaction that wrote the row. The relay''s own: never set it.';
COMMENT ON COLUMN outbox.message.id IS 'Order of writing; sent as a header. The relay''s own: never set it.';
COMMENT ON COLUMN outbox.message.slot IS 'Partition by time, emptied as a whole. The relay''s own: never set it.';
COMMENT ON COLUMN outbox.message.message_id IS 'AMQP property message_id, in text form: what consumers deduplicate by.';
COMMENT ON COLUMN outbox.message.exchange IS 'AMQP exchange; empty: the default exchange, which routes to the queue named by routing_key. At most 255 bytes.';
COMMENT ON COLUMN outbox.message.routing_key IS 'AMQP routing key, at most 255 bytes.';
COMMENT ON COLUMN outbox.message.payload IS 'Body as bytes. Exactly one payload column is set. A string literal cast to bytea swallows backslashes: text belongs into payload_text.';
COMMENT ON COLUMN outbox.message.payload_text IS 'Body as text, sent as UTF-8.';
COMMENT ON COLUMN outbox.message.payload_json IS 'Body as JSON, sent as UTF-8 text as Postgres prints it.';
COMMENT ON COLUMN outbox.message.ordering_key IS 'Messages with the same key are delivered in the order written; header x-ordering-key. At most 1024 bytes.';
COMMENT ON COLUMN outbox.message.headers IS 'AMQP headers, a JSON object: keys up to 255 bytes, 32 levels, integers within int64, fractions become the nearest double.';
COMMENT ON COLUMN outbox.message.type IS 'AMQP property type, at most 255 bytes.';
COMMENT ON COLUMN outbox.message.app_id IS 'AMQP property app_id, at most 255 bytes.';
COMMENT ON COLUMN outbox.message.content_type IS 'AMQP property content_type, at most 255 bytes.';
COMMENT ON COLUMN outbox.message.content_encoding IS 'AMQP property content_encoding, at most 255 bytes.';
COMMENT ON COLUMN outbox.message.correlation_id IS 'AMQP property correlation_id, at most 255 bytes.';
COMMENT ON COLUMN outbox.message.reply_to IS 'AMQP property reply_to, at most 255 bytes.';
COMMENT ON COLUMN outbox.message.expiration IS 'AMQP property expiration (time to live in the queue), sent in milliseconds: 0 to below 2^32, without months or years.';
COMMENT ON COLUMN outbox.message.priority IS 'AMQP property priority, 0 to 255.';
COMMENT ON COLUMN outbox.message.persistent IS 'AMQP delivery_mode: true 2 (kept over a broker''s restart), false 1.';
COMMENT ON COLUMN outbox.message.created_at IS 'When the row was written; AMQP property timestamp (seconds).';

-- ---------------------------------------------------------------- sent

CREATE TABLE outbox.sent (
	seq               bigint NOT NULL PRIMARY KEY,
	sent_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
	prev              pg_snapshot NOT NULL,
	target            pg_snapshot,
	last_id           bigint NOT NULL,
	floor_id          bigint NOT NULL,
	max_id            bigint NOT NULL,
	messages          bigint NOT NULL,
	system_identifier bigint NOT NULL,
	database_oid      oid NOT NULL,
	table_oid         oid NOT NULL,
	xid               xid8 NOT NULL DEFAULT pg_current_xact_id(),
	CONSTRAINT last_id_only_in_an_open_interval CHECK (target IS NOT NULL OR last_id = 0)
);
-- The first mark that covers a row has, of all that reach beyond its xid, nearly
-- always one of the least seq: the status view starts there.
CREATE INDEX sent_reach_idx ON outbox.sent (pg_snapshot_xmax(coalesce(target, prev)), seq);

REVOKE ALL ON outbox.sent FROM PUBLIC;

COMMENT ON TABLE outbox.sent IS
	'Marks: one row for each recorded step of the relay. A message (xid, id) is marked sent by the first mark where xid is visible in prev, or visible in target with id <= last_id. No mark: nothing is sent.';
COMMENT ON COLUMN outbox.sent.seq IS 'Previous + 1: of two relays that both believe they lead, the second fails here.';
COMMENT ON COLUMN outbox.sent.sent_at IS 'When the mark was recorded, after the broker confirmed what it covers.';
COMMENT ON COLUMN outbox.sent.prev IS 'Everything visible in this snapshot is covered.';
COMMENT ON COLUMN outbox.sent.target IS 'The open interval is what is visible here and not in prev; null: none is open.';
COMMENT ON COLUMN outbox.sent.last_id IS 'Rows of the open interval up to this id are covered; 0 when none is open.';
COMMENT ON COLUMN outbox.sent.floor_id IS 'Greatest id visible in prev.';
COMMENT ON COLUMN outbox.sent.max_id IS 'Greatest id ever covered.';
COMMENT ON COLUMN outbox.sent.messages IS 'Messages that this mark newly covers.';
COMMENT ON COLUMN outbox.sent.system_identifier IS 'Identity of the cluster whose xids these are: a position of another one must not be used.';
COMMENT ON COLUMN outbox.sent.database_oid IS 'Identity of the database, see system_identifier.';
COMMENT ON COLUMN outbox.sent.table_oid IS 'Identity of the table of messages, see system_identifier.';
COMMENT ON COLUMN outbox.sent.xid IS 'Transaction that recorded the mark. A restored row was written by another one: that tells a restore from pg_upgrade.';

-- ---------------------------------------------------------------- delayed, dead

-- Columns and CHECKs of a message but the cursor's own, and but the payload
-- limit: a limit lowered later must not keep the relay from moving a row here.
CREATE TABLE outbox.delayed (LIKE outbox.message INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS);
ALTER TABLE outbox.delayed
	DROP CONSTRAINT payload_at_most_payload_limit,
	DROP COLUMN xid,
	DROP COLUMN slot,
	ADD COLUMN waits_for       text NOT NULL DEFAULT 'schedule',
	ADD COLUMN attempts        integer NOT NULL DEFAULT 0,
	ADD COLUMN deliver_at      timestamptz,
	ADD COLUMN next_attempt_at timestamptz NOT NULL,
	ADD COLUMN last_error      text,
	ADD COLUMN history         jsonb NOT NULL DEFAULT '[]',
	ADD CONSTRAINT waits_for_one_thing CHECK (waits_for IN ('schedule', 'retry', 'exchange', 'queue', 'key')),
	ADD CONSTRAINT attempts_not_negative CHECK (attempts >= 0),
	ADD CONSTRAINT deliver_at_1970_to_9999 CHECK (deliver_at >= timestamptz '1970-01-01 00:00:00+00'
		AND deliver_at < timestamptz '10000-01-01 00:00:00+00'),
	ADD CONSTRAINT history_is_an_array CHECK (jsonb_typeof(history) = 'array'),
	ADD PRIMARY KEY (id);
CREATE INDEX delayed_due_idx ON outbox.delayed (next_attempt_at, id);
-- All but scheduled rows hold their key: nothing later of it may pass them.  Of the
-- rows that hold one key, that with the least id never waits for its key, unless a
-- dead one holds it too: so there is always one that goes on, whoever dies when.
CREATE INDEX delayed_key_idx ON outbox.delayed (ordering_key, id)
	WHERE ordering_key IS NOT NULL AND waits_for <> 'schedule';
CREATE INDEX delayed_exchange_idx ON outbox.delayed (exchange, id) WHERE waits_for = 'exchange';
CREATE INDEX delayed_queue_idx ON outbox.delayed (exchange, routing_key, id) WHERE waits_for = 'queue';
REVOKE ALL ON outbox.delayed FROM PUBLIC;

COMMENT ON TABLE outbox.delayed IS
	'Messages that wait: for their time, for their next attempt, for an exchange or a queue to be well again, or behind an earlier one of their key. Never delete rows by hand: what waits behind them would not be told.';
COMMENT ON COLUMN outbox.delayed.id IS 'The id of the message; scheduled ones take it from the same sequence.';
COMMENT ON COLUMN outbox.delayed.waits_for IS 'schedule: for deliver_at, and holds nobody back; retry: for next_attempt_at; exchange, queue: for it to be well again; key: for the earlier messages of its ordering_key.';
COMMENT ON COLUMN outbox.delayed.attempts IS 'How often the broker refused it.';
COMMENT ON COLUMN outbox.delayed.deliver_at IS 'Scheduled for this time; null: it was due when written.';
COMMENT ON COLUMN outbox.delayed.next_attempt_at IS 'Not published before this time; infinity: it waits for something else than time.';
COMMENT ON COLUMN outbox.delayed.last_error IS 'Why the last attempt failed.';
COMMENT ON COLUMN outbox.delayed.history IS 'What happened to it, the newest 20 events, oldest first: a JSON array of objects with at, event (retry, exchange, queue, dead, retried), attempts, reason.';

-- No CHECKs: nothing may keep the relay from putting a bad message aside.
CREATE TABLE outbox.dead (LIKE outbox.message INCLUDING COMMENTS);
ALTER TABLE outbox.dead
	DROP COLUMN xid,
	DROP COLUMN slot,
	ADD COLUMN attempts     integer NOT NULL DEFAULT 0,
	ADD COLUMN deliver_at   timestamptz,
	ADD COLUMN last_error   text,
	ADD COLUMN reason       text NOT NULL,
	ADD COLUMN holds_key    boolean NOT NULL DEFAULT false,
	ADD COLUMN died_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
	ADD COLUMN discarded_at timestamptz,
	ADD COLUMN history      jsonb NOT NULL DEFAULT '[]',
	ADD PRIMARY KEY (id);
CREATE INDEX dead_died_at_idx ON outbox.dead (died_at, id) WHERE discarded_at IS NULL;
CREATE INDEX dead_holds_key_idx ON outbox.dead (ordering_key) WHERE holds_key;
REVOKE ALL ON outbox.dead FROM PUBLIC;

COMMENT ON TABLE outbox.dead IS 'Messages given up, with the reason. They stay until a person retries or discards them: retry_dead(ids), discard_dead(ids).';
COMMENT ON COLUMN outbox.dead.id IS 'The id of the message.';
COMMENT ON COLUMN outbox.dead.attempts IS 'How often the broker refused it.';
COMMENT ON COLUMN outbox.dead.deliver_at IS 'It was scheduled for this time; null: it was due when written.';
COMMENT ON COLUMN outbox.dead.last_error IS 'Why the last attempt failed.';
COMMENT ON COLUMN outbox.dead.reason IS 'Why it was given up.';
COMMENT ON COLUMN outbox.dead.holds_key IS 'Nothing later of its ordering_key is sent before a person has decided (on_dead: hold).';
COMMENT ON COLUMN outbox.dead.died_at IS 'When it was given up.';
COMMENT ON COLUMN outbox.dead.discarded_at IS 'When a person decided that it need not be sent.';
COMMENT ON COLUMN outbox.dead.history IS 'What happened to it, as in delayed.';

-- ---------------------------------------------------------------- operation

CREATE TABLE outbox.operation (
	id        bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at        timestamptz NOT NULL DEFAULT clock_timestamp(),
	actor     text NOT NULL DEFAULT session_user,
	operation text NOT NULL,
	details   jsonb NOT NULL DEFAULT '{}',
	messages  bigint NOT NULL DEFAULT 0
);
REVOKE ALL ON outbox.operation FROM PUBLIC;
COMMENT ON TABLE outbox.operation IS 'Who did what when: every retry, discard, replay, pause, rebase.';
COMMENT ON COLUMN outbox.operation.actor IS 'Database role that did it; who it was on the command line stands in details.';
COMMENT ON COLUMN outbox.operation.operation IS 'retry, discard, replay, pause, resume, rebase.';
COMMENT ON COLUMN outbox.operation.details IS 'What it was asked to do, a JSON object.';
COMMENT ON COLUMN outbox.operation.messages IS 'How many messages it touched.';

SELECT outbox.record_migration(1, 'tables', true);
