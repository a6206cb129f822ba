-- The consumer's half.  Postgres 13 and later.
--
-- Run in one transaction, by any role that may create objects in the schema
-- (or the schema itself): neither superuser nor CREATEROLE.  Wherever the bare
-- word "inbox" stands in these files it is the schema's name, so another name
-- is a textual replacement; nothing else depends on it.
--
-- What must stay true:
--   * A claim is a row with a unique key, written in the handler's transaction:
--     claim and effect are committed together or not at all.
--   * It is one table with one key.  Partitions by time of arrival would let the
--     same message be claimed once in each.

DO $$
BEGIN
	-- CREATE SCHEMA IF NOT EXISTS would ask for CREATE on the database even
	-- where the schema is there already.
	IF to_regnamespace('inbox') IS NULL THEN
		CREATE SCHEMA inbox;
		-- The comment tells the down migration that the schema is ours.
		COMMENT ON SCHEMA inbox IS 'Messages that consumers have handled';
	END IF;
END
$$;

-- ---------------------------------------------------------------- versions

CREATE TABLE inbox.migration (
	version    integer NOT NULL PRIMARY KEY,
	name       text NOT NULL,
	applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	applied_by text NOT NULL DEFAULT session_user
);
REVOKE ALL ON inbox.migration FROM PUBLIC;
COMMENT ON TABLE inbox.migration IS
	'History of migrations, for people. What counts is applied_migrations(), which a schema-only dump keeps.';

CREATE FUNCTION inbox.applied_migrations() RETURNS integer[]
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '{}'::integer[] $$;
REVOKE ALL ON FUNCTION inbox.applied_migrations() FROM PUBLIC;
COMMENT ON FUNCTION inbox.applied_migrations() IS
	'Versions of the migrations that are applied, ascending. Rewritten by each migration.';

CREATE FUNCTION inbox.schema_version() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '1.0'::text $$;
REVOKE ALL ON FUNCTION inbox.schema_version() FROM PUBLIC;
COMMENT ON FUNCTION inbox.schema_version() IS
	'major.minor of the schema: a client library works with every minor of its major.';

CREATE FUNCTION inbox.record_migration(version integer, name text, applied boolean) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	versions integer[];
BEGIN
	SELECT coalesce(array_agg(v ORDER BY v), '{}') INTO versions
	FROM unnest(inbox.applied_migrations()) AS v
	WHERE v <> record_migration.version;
	DELETE FROM inbox.migration AS m WHERE m.version = record_migration.version;
	IF applied THEN
		INSERT INTO inbox.migration (version, name) VALUES (record_migration.version, record_migration.name);
		SELECT array_agg(v ORDER BY v) INTO versions
		FROM unnest(versions || record_migration.version) AS v;
	END IF;
	EXECUTE format('CREATE OR REPLACE FUNCTION inbox.applied_migrations() RETURNS integer[]'
		' LANGUAGE sql STABLE PARALLEL SAFE AS %L',
		format(' SELECT %L::integer[] ', versions));
END
$$;
REVOKE ALL ON FUNCTION inbox.record_migration(integer, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION inbox.record_migration(integer, text, boolean) IS
	'Called by each migration: it is applied now, or no longer.';

-- ---------------------------------------------------------------- tables

CREATE TABLE inbox.message (
	consumer   text NOT NULL,
	message_id text NOT NULL,
	claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (consumer, message_id),
	CONSTRAINT consumer_1_to_255_bytes CHECK (octet_length(consumer) BETWEEN 1 AND 255),
	CONSTRAINT message_id_1_to_255_bytes CHECK (octet_length(message_id) BETWEEN 1 AND 255)
);
-- For purge and forget.
CREATE INDEX message_claimed_at_idx ON inbox.message (claimed_at);
REVOKE ALL ON inbox.message FROM PUBLIC;
COMMENT ON TABLE inbox.message IS
	'What each consumer has handled. Keep it for longer than a message can come again: the replay window plus the longest stay in a dead letter queue.';
COMMENT ON COLUMN inbox.message.consumer IS 'Name of who handles: each handles every message once.';
COMMENT ON COLUMN inbox.message.message_id IS 'AMQP property message_id.';
COMMENT ON COLUMN inbox.message.claimed_at IS 'When it was claimed, in the transaction that handled it.';

CREATE TABLE inbox.attempt (
	consumer   text NOT NULL,
	message_id text NOT NULL,
	attempts   integer NOT NULL,
	last_error text,
	first_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
	last_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (consumer, message_id),
	CONSTRAINT consumer_1_to_255_bytes CHECK (octet_length(consumer) BETWEEN 1 AND 255),
	CONSTRAINT message_id_1_to_255_bytes CHECK (octet_length(message_id) BETWEEN 1 AND 255)
);
CREATE INDEX attempt_last_at_idx ON inbox.attempt (last_at);
REVOKE ALL ON inbox.attempt FROM PUBLIC;
COMMENT ON TABLE inbox.attempt IS
	'Messages whose handling failed, and how often: by this a consumer knows a poisonous one after a restart, too.';
COMMENT ON COLUMN inbox.attempt.attempts IS 'How often handling it has failed.';

-- ---------------------------------------------------------------- claims

CREATE FUNCTION inbox.claim(consumer text, message_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	INSERT INTO inbox.message (consumer, message_id) VALUES (claim.consumer, claim.message_id)
	ON CONFLICT DO NOTHING;
	RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION inbox.claim(text, text) FROM PUBLIC;
COMMENT ON FUNCTION inbox.claim(text, text) IS
	'First statement of the handler''s transaction. true: new, handle it; false: handled before, skip it. While another transaction handles the same message this waits for its end (set lock_timeout to bound that); under REPEATABLE READ and above it may fail with 40001 then: begin anew.';

-- In one order for everybody, so that two batches cannot wait for each other.
CREATE FUNCTION inbox.claim(consumer text, message_ids text[]) RETURNS SETOF text
LANGUAGE sql VOLATILE
AS $$
	INSERT INTO inbox.message (consumer, message_id)
	SELECT claim.consumer, i.id
	FROM (SELECT DISTINCT u.id COLLATE "C" AS id FROM unnest(claim.message_ids) AS u (id)) AS i
	ORDER BY i.id
	ON CONFLICT DO NOTHING
	RETURNING message_id
$$;
REVOKE ALL ON FUNCTION inbox.claim(text, text[]) FROM PUBLIC;
COMMENT ON FUNCTION inbox.claim(text, text[]) IS
	'As claim() for many messages at once: returns those that are new. Two batches at once wait for each other in turn, never both.';

CREATE FUNCTION inbox.forget(consumer text, since timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	forgotten bigint;
BEGIN
	DELETE FROM inbox.attempt AS a WHERE a.consumer = forget.consumer AND a.last_at >= forget.since;
	DELETE FROM inbox.message AS m WHERE m.consumer = forget.consumer AND m.claimed_at >= forget.since;
	GET DIAGNOSTICS forgotten = ROW_COUNT;
	RETURN forgotten;
END
$$;
REVOKE ALL ON FUNCTION inbox.forget(text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION inbox.forget(text, timestamptz) IS
	'Lets one consumer handle again what it has claimed since then, when it is replayed. Returns how many claims are gone.';

-- Rows that somebody holds are left for the next time, so this never waits, and
-- a claim waits for it only if it claims again what is so old.
CREATE FUNCTION inbox.purge(older_than interval, max_rows integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	purged bigint;
BEGIN
	IF purge.older_than IS NULL OR purge.older_than < interval '0' OR coalesce(purge.max_rows, 0) < 1 THEN
		RAISE EXCEPTION 'purge wants an age that is not negative and at least one row'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	DELETE FROM inbox.attempt AS a WHERE (a.consumer, a.message_id) IN (
		SELECT o.consumer, o.message_id FROM inbox.attempt AS o
		WHERE o.last_at < now() - purge.older_than
		ORDER BY o.last_at LIMIT purge.max_rows FOR UPDATE SKIP LOCKED);
	DELETE FROM inbox.message AS m WHERE m.ctid = ANY (ARRAY(
		SELECT o.ctid FROM inbox.message AS o
		WHERE o.claimed_at < now() - purge.older_than
		ORDER BY o.claimed_at LIMIT purge.max_rows FOR UPDATE SKIP LOCKED));
	GET DIAGNOSTICS purged = ROW_COUNT;
	RETURN purged;
END
$$;
REVOKE ALL ON FUNCTION inbox.purge(interval, integer) FROM PUBLIC;
COMMENT ON FUNCTION inbox.purge(interval, integer) IS
	'Removes at most max_rows claims older than that, and returns how many; call it again, each time in a transaction of its own, while it returns max_rows. Never younger than a message can come again.';

-- ---------------------------------------------------------------- attempts

CREATE FUNCTION inbox.fail(consumer text, message_id text, error text) RETURNS integer
LANGUAGE sql VOLATILE
AS $$
	INSERT INTO inbox.attempt AS a (consumer, message_id, attempts, last_error)
	VALUES (fail.consumer, fail.message_id, 1, left(fail.error, 1000))
	ON CONFLICT ON CONSTRAINT attempt_pkey DO UPDATE
	SET attempts = a.attempts + 1, last_error = excluded.last_error, last_at = excluded.last_at
	RETURNING attempts
$$;
REVOKE ALL ON FUNCTION inbox.fail(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION inbox.fail(text, text, text) IS
	'Handling has failed, and was rolled back: count it, in a transaction of its own. Returns how often it has failed so far.';

CREATE FUNCTION inbox.attempts(consumer text, message_id text) RETURNS integer
LANGUAGE sql STABLE
AS $$
	SELECT coalesce((SELECT a.attempts FROM inbox.attempt AS a
		WHERE a.consumer = attempts.consumer AND a.message_id = attempts.message_id), 0)
$$;
REVOKE ALL ON FUNCTION inbox.attempts(text, text) FROM PUBLIC;
COMMENT ON FUNCTION inbox.attempts(text, text) IS 'How often handling the message has failed so far.';

-- ---------------------------------------------------------------- status, roles

CREATE VIEW inbox.status AS
SELECT
	c.consumer,
	count(*) AS claimed,
	min(c.claimed_at) AS oldest,
	max(c.claimed_at) AS newest,
	(SELECT count(*) FROM inbox.attempt AS a WHERE a.consumer = c.consumer) AS failing
FROM inbox.message AS c
GROUP BY c.consumer;
REVOKE ALL ON inbox.status FROM PUBLIC;
COMMENT ON VIEW inbox.status IS 'Each consumer: how many claims are kept, from when to when, and how many messages have failed. Reads all claims.';

CREATE FUNCTION inbox.grant_consumer(role text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA inbox TO %I', role);
	EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON inbox.message, inbox.attempt TO %I', role);
	EXECUTE format('GRANT SELECT ON inbox.status TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION inbox.applied_migrations(), inbox.schema_version(),'
		' inbox.claim(text, text), inbox.claim(text, text[]), inbox.forget(text, timestamptz),'
		' inbox.purge(interval, integer), inbox.fail(text, text, text), inbox.attempts(text, text) TO %I', role);
END
$$;
REVOKE ALL ON FUNCTION inbox.grant_consumer(text) FROM PUBLIC;
COMMENT ON FUNCTION inbox.grant_consumer(text) IS 'Lets a role claim, forget and purge, and count failures; nothing else.';

SELECT inbox.record_migration(1, 'claims', true);
