-- A claim waits for no purge.
--
-- What must stay true:
--   * A claim that is there, even one that a purge is just removing, is an
--     answer: handled before.  Only what cannot be seen is inserted, and only
--     there another handler of the same message is waited for.
--   * Under SERIALIZABLE that look would make claims of different messages
--     fail each other (it locks pages of the index against what others insert),
--     so it is left out, and a claim of what is being purged waits for that step.
--   * The look is by the index, also while a session's plan is older than the
--     table's size: that is why sequential scans are off.

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

-- In one order for everybody, so that two batches cannot wait for each other.
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

CREATE OR REPLACE FUNCTION inbox.schema_version() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '1.1'::text $$;

SELECT inbox.record_migration(2, 'purge_beside_claims', true);
