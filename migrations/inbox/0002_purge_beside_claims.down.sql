CREATE OR REPLACE FUNCTION inbox.claim(consumer text, message_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	INSERT INTO inbox.message (consumer, message_id) VALUES (claim.consumer, claim.message_id)
	ON CONFLICT DO NOTHING;
	RETURN FOUND;
END
$$;

CREATE OR REPLACE FUNCTION inbox.claim(consumer text, message_ids text[]) RETURNS SETOF text
LANGUAGE sql VOLATILE
AS $$
	INSERT INTO inbox.message (consumer, message_id)
	SELECT claim.consumer, i.id
	FROM (SELECT DISTINCT u.id COLLATE "C" AS id FROM unnest(claim.message_ids) AS u (id)) AS i
	ORDER BY i.id
	ON CONFLICT DO NOTHING
	RETURNING message_id
$$;

CREATE OR REPLACE FUNCTION inbox.schema_version() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '1.0'::text $$;

SELECT inbox.record_migration(2, 'purge_beside_claims', false);
