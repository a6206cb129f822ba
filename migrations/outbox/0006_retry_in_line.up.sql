-- A dead message that is retried lines up behind the earlier ones of its key,
-- as one does that the relay puts aside.  Were all of them due, each search for
-- what is due would walk over all that is not its key's turn: seconds, when a
-- person retries a million.
--
-- What must stay true: the first of a key never waits for its key.  So nobody
-- may leave while it is looked who is there: no mark is made meanwhile, and one
-- that is being made is waited for.  Each begins with a row of outbox.sent.

CREATE OR REPLACE FUNCTION outbox.retry_dead(ids bigint[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
	keys text[];
	touched bigint[];
BEGIN
	LOCK TABLE outbox.sent IN SHARE MODE;
	WITH gone AS (
		DELETE FROM outbox.dead AS x WHERE x.id = ANY (retry_dead.ids) RETURNING x.*
	), placed AS (
		SELECT g.*, g.ordering_key IS NOT NULL AND (earlier.found IS NOT NULL
			OR row_number() OVER (PARTITION BY g.ordering_key ORDER BY g.id) > 1) AS behind
		FROM gone AS g
		LEFT JOIN LATERAL (
			-- Bounds, not equality: no other index gives this order.
			SELECT true AS found
			FROM outbox.delayed AS l
			WHERE l.ordering_key >= g.ordering_key AND l.ordering_key <= g.ordering_key AND l.waits_for <> 'schedule'
				AND l.id < g.id
			ORDER BY l.ordering_key, l.id
			LIMIT 1) AS earlier ON true
	), kept AS (
		INSERT INTO outbox.delayed (id, message_id, exchange, routing_key, payload, payload_text, payload_json,
			ordering_key, headers, type, app_id, content_type, content_encoding, correlation_id, reply_to, expiration,
			priority, persistent, created_at, waits_for, attempts, deliver_at, next_attempt_at, last_error, history)
		SELECT p.id, p.message_id, p.exchange, p.routing_key, p.payload, p.payload_text, p.payload_json,
			p.ordering_key, p.headers, p.type, p.app_id, p.content_type, p.content_encoding, p.correlation_id, p.reply_to,
			p.expiration, p.priority, p.persistent, p.created_at, CASE WHEN p.behind THEN 'key' ELSE 'retry' END, 0,
			p.deliver_at, CASE WHEN p.behind THEN 'infinity' ELSE now() END, p.last_error,
			CASE WHEN jsonb_array_length(p.history) >= 20 THEN p.history - 0 ELSE p.history END
				|| jsonb_build_object('at', now(), 'event', 'retried', 'attempts', 0, 'reason', 'by ' || session_user)
		FROM placed AS p
	)
	SELECT array_agg(DISTINCT g.ordering_key) FILTER (WHERE g.ordering_key IS NOT NULL), array_agg(g.id ORDER BY g.id)
	INTO keys, touched FROM gone AS g;
	PERFORM outbox.release_keys(keys, array_fill(0::bigint, ARRAY[coalesce(cardinality(keys), 0)]), '{}');
	INSERT INTO outbox.operation (operation, details, messages)
	VALUES ('retry', outbox.operator() || jsonb_build_object('from', 'dead', 'first_ids', touched[1:100]),
		coalesce(cardinality(touched), 0));
	RETURN coalesce(cardinality(touched), 0);
END
$$;

SELECT outbox.record_migration(6, 'retry_in_line', true);
