-- Refuses while messages would lose their way out; see the hint.
DO $$
DECLARE
	b record;
BEGIN
	IF coalesce(current_setting('outbox_relay.force_down', true), '') = 'on' THEN
		RETURN;
	END IF;
	SELECT * INTO b FROM outbox.backlog();
	IF b.pending > 0 OR b.delayed > 0 OR b.dead > 0 THEN
		RAISE EXCEPTION 'schema outbox still holds % pending, % delayed and % dead messages', b.pending, b.delayed, b.dead
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Let the relay send them (run --until-empty), retry or discard the others; or throw them away: PGOPTIONS="-c outbox_relay.force_down=on".';
	END IF;
END
$$;

DROP FUNCTION outbox.grant_monitor(text);
DROP FUNCTION outbox.grant_relay(text);
DROP FUNCTION outbox.grant_writer(text);
DROP FUNCTION outbox.set_payload_limit(integer);
DROP FUNCTION outbox.set_retention(interval);
DROP FUNCTION outbox.discard_dead(bigint[]);
DROP FUNCTION outbox.retry_dead(bigint[]);
DROP FUNCTION outbox.operator();
DROP FUNCTION outbox.release_keys(text[], bigint[], bigint[]);
DROP FUNCTION outbox.backlog();
DROP VIEW outbox.message_status;
DROP FUNCTION outbox.publish(text, text, bytea, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz);
DROP FUNCTION outbox.publish(text, text, text, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz);
DROP FUNCTION outbox.publish(text, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz);
DROP FUNCTION outbox.publish(text, text, json, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz);
DROP FUNCTION outbox.write_message(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz);
DROP FUNCTION outbox.schedule_message(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz);

SELECT outbox.record_migration(2, 'functions', false);
