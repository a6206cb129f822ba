-- Takes back what operating brought; pauses and orders to discard end with it.
DROP INDEX outbox.dead_discarded_at_idx;
DROP FUNCTION outbox.end_discard(bigint);
DROP FUNCTION outbox.discard_pending(text, text, interval);
DROP TABLE outbox.discard;
DROP FUNCTION outbox.resume(text);
DROP FUNCTION outbox.pause(text, text);
DROP TABLE outbox.pause;

CREATE OR REPLACE FUNCTION outbox.grant_relay(role text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %I', role);
	EXECUTE format('GRANT SELECT ON outbox.message, outbox.message_0, outbox.message_1, outbox.message_2, outbox.sent,'
		' outbox.delayed, outbox.dead, outbox.operation, outbox.migration, outbox.message_status TO %I', role);
	EXECUTE format('GRANT TRUNCATE ON outbox.message_0, outbox.message_1, outbox.message_2 TO %I', role);
	EXECUTE format('GRANT INSERT, DELETE ON outbox.sent TO %I', role);
	EXECUTE format('GRANT INSERT, UPDATE, DELETE ON outbox.delayed, outbox.dead TO %I', role);
	EXECUTE format('GRANT INSERT ON outbox.operation TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.applied_migrations(), outbox.schema_version(), outbox.retention(),'
		' outbox.slot_period(), outbox.current_slot(), outbox.payload_limit(), outbox.uuid_v7(),'
		' outbox.headers_valid(jsonb), outbox.backlog(), outbox.release_keys(text[], bigint[], bigint[]),'
		' outbox.operator(), outbox.retry_dead(bigint[]), outbox.discard_dead(bigint[]) TO %I', role);
END
$$;

CREATE OR REPLACE FUNCTION outbox.grant_monitor(role text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %I', role);
	EXECUTE format('GRANT SELECT ON outbox.message_status, outbox.sent, outbox.operation, outbox.migration TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.applied_migrations(), outbox.schema_version(), outbox.retention(),'
		' outbox.slot_period(), outbox.current_slot(), outbox.payload_limit(), outbox.backlog() TO %I', role);
END
$$;

CREATE OR REPLACE FUNCTION outbox.schema_version() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '1.0'::text $$;

SELECT outbox.record_migration(4, 'operating', false);
