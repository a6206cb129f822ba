SELECT outbox.record_migration(6, 'retry_in_line', false);

CREATE OR REPLACE FUNCTION outbox.retry_dead(ids bigint[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	keys text[];
	touched bigint[];
BEGIN
	WITH gone AS (
		DELETE FROM outbox.dead AS x WHERE x.id = ANY (retry_dead.ids) RETURNING x.*
	), kept AS (
		INSERT INTO outbox.delayed (id, message_id, exchange, routing_key, payload, payload_text, payload_json,
			ordering_key, headers, type, app_id, content_type, content_encoding, correlation_id, reply_to, expiration,
			priority, persistent, created_at, waits_for, attempts, deliver_at, next_attempt_at, last_error, history)
		SELECT g.id, g.message_id, g.exchange, g.routing_key, g.payload, g.payload_text, g.payload_json,
			g.ordering_key, g.headers, g.type, g.app_id, g.content_type, g.content_encoding, g.correlation_id, g.reply_to,
			g.expiration, g.priority, g.persistent, g.created_at, 'retry', 0, g.deliver_at, now(), g.last_error,
			CASE WHEN jsonb_array_length(g.history) >= 20 THEN g.history - 0 ELSE g.history END
				|| jsonb_build_object('at', now(), 'event', 'retried', 'attempts', 0, 'reason', 'by ' || session_user)
		FROM gone AS g
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
