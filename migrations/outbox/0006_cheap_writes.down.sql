SELECT outbox.record_migration(6, 'cheap_writes', false);

CREATE OR REPLACE FUNCTION outbox.uuid_v7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
	SELECT (overlay(lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000000)::bigint * 512 / 125), 15, '0')
		PLACING '7' FROM 13 FOR 0) || right(gen_random_uuid()::text, 17))::uuid
$$;

-- Reads every message that is kept, once.
ALTER TABLE outbox.message
	DROP CONSTRAINT message_amqp_can_carry,
	ADD CONSTRAINT exchange_at_most_255_bytes CHECK (octet_length(exchange) <= 255),
	ADD CONSTRAINT routing_key_at_most_255_bytes CHECK (octet_length(routing_key) <= 255),
	ADD CONSTRAINT payload_exactly_one_of_bytea_text_json CHECK (num_nonnulls(payload, payload_text, payload_json) = 1),
	ADD CONSTRAINT payload_at_most_payload_limit CHECK (coalesce(octet_length(payload), octet_length(payload_text),
		octet_length(payload_json::text)) <= outbox.payload_limit()),
	ADD CONSTRAINT ordering_key_at_most_1024_bytes CHECK (octet_length(ordering_key) <= 1024),
	ADD CONSTRAINT headers_amqp_can_carry CHECK (headers IS NULL OR outbox.headers_valid(headers)),
	ADD CONSTRAINT type_at_most_255_bytes CHECK (octet_length(type) <= 255),
	ADD CONSTRAINT app_id_at_most_255_bytes CHECK (octet_length(app_id) <= 255),
	ADD CONSTRAINT content_type_at_most_255_bytes CHECK (octet_length(content_type) <= 255),
	ADD CONSTRAINT content_encoding_at_most_255_bytes CHECK (octet_length(content_encoding) <= 255),
	ADD CONSTRAINT correlation_id_at_most_255_bytes CHECK (octet_length(correlation_id) <= 255),
	ADD CONSTRAINT reply_to_at_most_255_bytes CHECK (octet_length(reply_to) <= 255),
	ADD CONSTRAINT expiration_without_months_below_2_to_32_ms CHECK (expiration IS NULL
		OR (date_part('year', expiration) = 0 AND date_part('month', expiration) = 0
			AND date_part('epoch', expiration) >= 0 AND date_part('epoch', expiration) * 1000 < 4294967296)),
	ADD CONSTRAINT priority_0_to_255 CHECK (priority BETWEEN 0 AND 255),
	ADD CONSTRAINT created_at_1970_to_9999 CHECK (created_at >= timestamptz '1970-01-01 00:00:00+00'
		AND created_at < timestamptz '10000-01-01 00:00:00+00');

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
		' outbox.headers_valid(jsonb) TO %I', role);
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

DROP FUNCTION outbox.message_valid(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, text, interval, smallint, timestamptz);
