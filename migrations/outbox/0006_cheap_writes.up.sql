-- Writing a message costs the application less.
--
-- One CHECK instead of fifteen: Postgres reads the stored expression of every
-- CHECK anew for each INSERT statement, and that took two thirds of the time of
-- writing one message.  A function's body stays in the session, so one CHECK
-- that calls a function costs a twelfth of it.  And uuid_v7() is no longer
-- inlined: for that Postgres parses it anew with each INSERT that is planned,
-- and most are sent unprepared.
--
-- What must stay true:
--   * What was refused is refused, with the same SQLSTATE and the same name of a
--     constraint, which says what is wrong.  The row itself is not repeated: the
--     DETAIL of a CHECK would bring it into the server's log.
--   * Whoever may write messages may call the function: a CHECK runs with the
--     rights of who inserts.  Every function in it is named with its schema, so
--     none of the caller's schemas can bring one that fits better.
--   * Rows that are there have passed the same tests, so they are not read again
--     (NOT VALID) while writers wait.
-- outbox.delayed keeps its own CHECKs.

CREATE FUNCTION outbox.message_valid(
	exchange text, routing_key text, payload bytea, payload_text text, payload_json jsonb, ordering_key text, headers jsonb,
	type text, app_id text, content_type text, content_encoding text, correlation_id text, reply_to text,
	expiration interval, priority smallint, created_at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
	-- Nothing in here asks for a query of its own.
	refused text := CASE
		WHEN pg_catalog.octet_length(exchange) > 255 THEN 'exchange_at_most_255_bytes'
		WHEN pg_catalog.octet_length(routing_key) > 255 THEN 'routing_key_at_most_255_bytes'
		WHEN pg_catalog.num_nonnulls(payload, payload_text, payload_json) <> 1 THEN 'payload_exactly_one_of_bytea_text_json'
		WHEN coalesce(pg_catalog.octet_length(payload), pg_catalog.octet_length(payload_text),
			pg_catalog.octet_length(payload_json::pg_catalog.text)) > outbox.payload_limit() THEN 'payload_at_most_payload_limit'
		WHEN pg_catalog.octet_length(ordering_key) > 1024 THEN 'ordering_key_at_most_1024_bytes'
		WHEN headers IS NOT NULL AND NOT outbox.headers_valid(headers) THEN 'headers_amqp_can_carry'
		WHEN pg_catalog.octet_length(type) > 255 THEN 'type_at_most_255_bytes'
		WHEN pg_catalog.octet_length(app_id) > 255 THEN 'app_id_at_most_255_bytes'
		WHEN pg_catalog.octet_length(content_type) > 255 THEN 'content_type_at_most_255_bytes'
		WHEN pg_catalog.octet_length(content_encoding) > 255 THEN 'content_encoding_at_most_255_bytes'
		WHEN pg_catalog.octet_length(correlation_id) > 255 THEN 'correlation_id_at_most_255_bytes'
		WHEN pg_catalog.octet_length(reply_to) > 255 THEN 'reply_to_at_most_255_bytes'
		WHEN expiration IS NOT NULL AND NOT (
			pg_catalog.date_part('year'::pg_catalog.text, expiration) = 0::pg_catalog.float8
			AND pg_catalog.date_part('month'::pg_catalog.text, expiration) = 0::pg_catalog.float8
			AND pg_catalog.date_part('epoch'::pg_catalog.text, expiration) >= 0::pg_catalog.float8
			AND pg_catalog.date_part('epoch'::pg_catalog.text, expiration) * 1000::pg_catalog.float8
				< 4294967296::pg_catalog.float8) THEN 'expiration_without_months_below_2_to_32_ms'
		WHEN priority < 0::pg_catalog.int2 OR priority > 255::pg_catalog.int2 THEN 'priority_0_to_255'
		WHEN created_at < '1970-01-01 00:00:00+00'::pg_catalog.timestamptz
			OR created_at >= '10000-01-01 00:00:00+00'::pg_catalog.timestamptz THEN 'created_at_1970_to_9999'
	END;
BEGIN
	IF refused IS NULL THEN
		RETURN true;
	END IF;
	RAISE EXCEPTION 'new row for relation "message" violates check constraint "%"', refused
		USING ERRCODE = 'check_violation', SCHEMA = 'outbox', TABLE = 'message', CONSTRAINT = refused;
END
$$;
REVOKE ALL ON FUNCTION outbox.message_valid(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, text, interval, smallint, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION outbox.message_valid(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, text, interval, smallint, timestamptz) IS
	'True, or an error that names the rule of outbox.message that a row breaks.';

-- Those who may write already.
DO $$
DECLARE
	grantee text;
BEGIN
	FOR grantee IN
		SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
		FROM pg_proc AS p, aclexplode(p.proacl) AS a
		WHERE p.oid = 'outbox.headers_valid(jsonb)'::regprocedure
	LOOP
		EXECUTE 'GRANT EXECUTE ON FUNCTION outbox.message_valid(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, text, interval, smallint, timestamptz)'
			' TO ' || grantee;
	END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION outbox.grant_writer(role text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	columns text;
BEGIN
	-- Without xid, id and slot: a forged xid would be a lost message.
	SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
	FROM pg_attribute AS a
	WHERE a.attrelid = 'outbox.message'::regclass AND a.attnum > 0 AND NOT a.attisdropped
		AND a.attgenerated = '' AND a.attname NOT IN ('xid', 'id', 'slot');
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %I', role);
	EXECUTE format('GRANT INSERT (%s), SELECT (id, message_id) ON outbox.message TO %I', columns, role);
	-- Defaults and CHECKs run with the rights of who inserts.
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.uuid_v7(), outbox.current_slot(), outbox.payload_limit(),'
		' outbox.headers_valid(jsonb),'
		' outbox.message_valid(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, text, interval, smallint, timestamptz)'
		' TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION'
		' outbox.publish(text, text, json, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz),'
		' outbox.publish(text, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz),'
		' outbox.publish(text, text, text, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz),'
		' outbox.publish(text, text, bytea, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz),'
		' outbox.write_message(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz),'
		' outbox.schedule_message(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz)'
		' TO %I', role);
END
$$;

ALTER TABLE outbox.message
	DROP CONSTRAINT exchange_at_most_255_bytes,
	DROP CONSTRAINT routing_key_at_most_255_bytes,
	DROP CONSTRAINT payload_exactly_one_of_bytea_text_json,
	DROP CONSTRAINT payload_at_most_payload_limit,
	DROP CONSTRAINT ordering_key_at_most_1024_bytes,
	DROP CONSTRAINT headers_amqp_can_carry,
	DROP CONSTRAINT type_at_most_255_bytes,
	DROP CONSTRAINT app_id_at_most_255_bytes,
	DROP CONSTRAINT content_type_at_most_255_bytes,
	DROP CONSTRAINT content_encoding_at_most_255_bytes,
	DROP CONSTRAINT correlation_id_at_most_255_bytes,
	DROP CONSTRAINT reply_to_at_most_255_bytes,
	DROP CONSTRAINT expiration_without_months_below_2_to_32_ms,
	DROP CONSTRAINT priority_0_to_255,
	DROP CONSTRAINT created_at_1970_to_9999,
	ADD CONSTRAINT message_amqp_can_carry CHECK (outbox.message_valid(exchange, routing_key, payload, payload_text, payload_json,
		ordering_key, headers, type, app_id, content_type, content_encoding, correlation_id, reply_to, expiration, priority,
		created_at)) NOT VALID;

-- The same value as before: see migration 1.
CREATE OR REPLACE FUNCTION outbox.uuid_v7() RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL SAFE
AS $$
BEGIN
	RETURN (overlay(lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000000)::bigint * 512 / 125), 15, '0')
		PLACING '7' FROM 13 FOR 0) || right(gen_random_uuid()::text, 17))::uuid;
END
$$;

SELECT outbox.record_migration(6, 'cheap_writes', true);
