-- A claim costs little more than its row.
--
-- What must stay true:
--   * A claim waits for no purge: whatever deletes claims by the hundreds holds,
--     shared, the advisory lock (oid of inbox.message as int4, 1) from before its
--     first look at them to the end of its transaction.  A claim tries the same
--     lock, exclusively, and lets it go at once.  If it is to be had, nobody is
--     deleting, and the plain INSERT waits for other handlers of the same message
--     alone.  If not, the claim looks first, and what it sees, even on its way
--     out, is an answer: handled before.
--   * That way round nobody waits for long: purges and forgets hold it together,
--     and claims never queue for it.  Two claims that try at the very same moment
--     may take each other for a purge, which costs one of them the look.
--   * Try and release are one expression without a table, in which Postgres looks
--     for no interrupt: no cancellation or timeout leaves the lock behind.
--   * Who tries just before a purge begins may insert what that purge has already
--     deleted.  It then waits for that step, and knows.  But a purge first finds and
--     locks all its rows, a claim goes straight to its INSERT: only a session that
--     is held up just there comes late.  A forget locks nothing before it deletes,
--     and wants its consumer stopped anyway.
--   * The class of the key is the oid of a table: the outbox's locks, of its own
--     table's oid, are others, also in the same database.
--   * Under SERIALIZABLE the look would make claims of different messages fail
--     each other (it locks pages of the index against what others insert), so it
--     is left out, and a claim of what is being purged waits for that step.
--   * The look is planned each time, for the size that the table has then.
--   * The functions refuse what is too long, under the names that the CHECKs
--     had: Postgres reads CHECKs anew for each statement, which cost a claim a
--     third of its time.

ALTER TABLE inbox.message
	DROP CONSTRAINT consumer_1_to_255_bytes,
	DROP CONSTRAINT message_id_1_to_255_bytes;

CREATE OR REPLACE FUNCTION inbox.claim(consumer text, message_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	seen boolean;
BEGIN
	IF octet_length(claim.consumer) NOT BETWEEN 1 AND 255 THEN
		RAISE EXCEPTION 'the name of a consumer has 1 to 255 bytes, not % (consumer_1_to_255_bytes)',
			octet_length(claim.consumer)
			USING ERRCODE = 'check_violation', SCHEMA = 'inbox', TABLE = 'message',
			COLUMN = 'consumer', CONSTRAINT = 'consumer_1_to_255_bytes';
	ELSIF octet_length(claim.message_id) NOT BETWEEN 1 AND 255 THEN
		RAISE EXCEPTION 'a message id has 1 to 255 bytes, not % (message_id_1_to_255_bytes)',
			octet_length(claim.message_id)
			USING ERRCODE = 'check_violation', SCHEMA = 'inbox', TABLE = 'message',
			COLUMN = 'message_id', CONSTRAINT = 'message_id_1_to_255_bytes';
	-- In parentheses: IF ends at the first THEN outside of any.
	ELSIF NOT (CASE WHEN pg_try_advisory_lock('inbox.message'::regclass::oid::int4, 1)
			THEN pg_advisory_unlock('inbox.message'::regclass::oid::int4, 1) ELSE false END)
		AND current_setting('transaction_isolation') <> 'serializable' THEN
		EXECUTE 'SELECT true FROM inbox.message AS m WHERE m.consumer = $1 AND m.message_id = $2'
			INTO seen USING claim.consumer, claim.message_id;
		IF seen THEN
			RETURN false;
		END IF;
	END IF;
	INSERT INTO inbox.message (consumer, message_id) VALUES (claim.consumer, claim.message_id)
	ON CONFLICT DO NOTHING;
	RETURN FOUND;
END
$$;

CREATE OR REPLACE FUNCTION inbox.claim(consumer text, message_ids text[]) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	ids text[] := claim.message_ids;
	bytes integer;
BEGIN
	IF octet_length(claim.consumer) NOT BETWEEN 1 AND 255 THEN
		RAISE EXCEPTION 'the name of a consumer has 1 to 255 bytes, not % (consumer_1_to_255_bytes)',
			octet_length(claim.consumer)
			USING ERRCODE = 'check_violation', SCHEMA = 'inbox', TABLE = 'message',
			COLUMN = 'consumer', CONSTRAINT = 'consumer_1_to_255_bytes';
	END IF;
	SELECT octet_length(u.id) INTO bytes FROM unnest(ids) AS u (id)
	WHERE octet_length(u.id) NOT BETWEEN 1 AND 255 LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'a message id has 1 to 255 bytes, not % (message_id_1_to_255_bytes)', bytes
			USING ERRCODE = 'check_violation', SCHEMA = 'inbox', TABLE = 'message',
			COLUMN = 'message_id', CONSTRAINT = 'message_id_1_to_255_bytes';
	END IF;
	IF NOT (CASE WHEN pg_try_advisory_lock('inbox.message'::regclass::oid::int4, 1)
			THEN pg_advisory_unlock('inbox.message'::regclass::oid::int4, 1) ELSE false END)
		AND current_setting('transaction_isolation') <> 'serializable' THEN
		EXECUTE 'SELECT array_agg(u.id) FROM unnest($2) AS u (id)'
			' WHERE (SELECT true FROM inbox.message AS m WHERE m.consumer = $1 AND m.message_id = u.id) IS NULL'
			INTO ids USING claim.consumer, ids;
	END IF;
	-- In one order for everybody, so that two batches cannot wait for each other.
	RETURN QUERY
	INSERT INTO inbox.message (consumer, message_id)
	SELECT claim.consumer, i.id
	FROM (SELECT DISTINCT u.id COLLATE "C" AS id FROM unnest(ids) AS u (id)) AS i
	ORDER BY i.id
	ON CONFLICT DO NOTHING
	RETURNING message.message_id;
END
$$;

CREATE OR REPLACE FUNCTION inbox.forget(consumer text, since timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	forgotten bigint;
BEGIN
	PERFORM pg_advisory_xact_lock_shared('inbox.message'::regclass::oid::int4, 1);
	DELETE FROM inbox.attempt AS a WHERE a.consumer = forget.consumer AND a.last_at >= forget.since;
	DELETE FROM inbox.message AS m WHERE m.consumer = forget.consumer AND m.claimed_at >= forget.since;
	GET DIAGNOSTICS forgotten = ROW_COUNT;
	RETURN forgotten;
END
$$;

-- Rows that somebody holds are left for the next time, so this never waits.
CREATE OR REPLACE FUNCTION inbox.purge(older_than interval, max_rows integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	purged bigint;
BEGIN
	IF purge.older_than IS NULL OR purge.older_than < interval '0' OR coalesce(purge.max_rows, 0) < 1 THEN
		RAISE EXCEPTION 'purge wants an age that is not negative and at least one row'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM pg_advisory_xact_lock_shared('inbox.message'::regclass::oid::int4, 1);
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

CREATE OR REPLACE FUNCTION inbox.schema_version() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '1.2'::text $$;

SELECT inbox.record_migration(3, 'cheap_claims', true);
