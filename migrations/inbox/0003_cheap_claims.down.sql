-- A row that a claim did not write may break the CHECKs: then this fails, names the
-- one, and changes nothing.
ALTER TABLE inbox.message
	ADD CONSTRAINT consumer_1_to_255_bytes CHECK (octet_length(consumer) BETWEEN 1 AND 255),
	ADD CONSTRAINT message_id_1_to_255_bytes CHECK (octet_length(message_id) BETWEEN 1 AND 255);

CREATE OR REPLACE FUNCTION inbox.claim(consumer text, message_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
BEGIN
	INSERT INTO inbox.message (consumer, message_id)
	SELECT claim.consumer, claim.message_id
	WHERE current_setting('transaction_isolation') = 'serializable'
		OR (SELECT true FROM inbox.message AS m
			WHERE m.consumer = claim.consumer AND m.message_id = claim.message_id) IS NULL
	ON CONFLICT DO NOTHING;
	RETURN FOUND;
END
$$;

CREATE OR REPLACE FUNCTION inbox.claim(consumer text, message_ids text[]) RETURNS SETOF text
LANGUAGE sql VOLATILE
SET enable_seqscan = off
AS $$
	INSERT INTO inbox.message (consumer, message_id)
	SELECT claim.consumer, i.id
	FROM (SELECT DISTINCT u.id COLLATE "C" AS id FROM unnest(claim.message_ids) AS u (id)) AS i
	WHERE current_setting('transaction_isolation') = 'serializable'
		OR (SELECT true FROM inbox.message AS m
			WHERE m.consumer = claim.consumer AND m.message_id = i.id COLLATE "default") IS NULL
	ORDER BY i.id
	ON CONFLICT DO NOTHING
	RETURNING message_id
$$;

CREATE OR REPLACE FUNCTION inbox.forget(consumer text, since timestamptz) RETURNS bigint
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
AS $$ SELECT '1.1'::text $$;

SELECT inbox.record_migration(3, 'cheap_claims', false);
