-- Refuses while a message is unsent; see the hint.  The locks keep new ones out.
LOCK TABLE outbox.message, outbox.delayed, outbox.dead IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
	IF coalesce(current_setting('outbox_relay.force_down', true), '') = 'on' THEN
		RETURN;
	END IF;
	IF EXISTS (SELECT FROM outbox.delayed) OR EXISTS (SELECT FROM outbox.dead WHERE discarded_at IS NULL) OR EXISTS (
		SELECT
		FROM outbox.message AS m
		LEFT JOIN (
			SELECT s.prev, s.target, s.last_id FROM outbox.sent AS s ORDER BY s.seq DESC LIMIT 1) AS n ON true
		WHERE (pg_visible_in_snapshot(m.xid, n.prev)
			OR (m.id <= n.last_id AND pg_visible_in_snapshot(m.xid, n.target))) IS NOT TRUE) THEN
		RAISE EXCEPTION 'schema outbox still holds messages that are pending, delayed or dead'
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Let the relay send them (run --until-empty), retry or discard the others; or throw them away: PGOPTIONS="-c outbox_relay.force_down=on".';
	END IF;
END
$$;

DROP TABLE outbox.operation;
DROP TABLE outbox.dead;
DROP TABLE outbox.delayed;
DROP TABLE outbox.sent;
DROP TABLE outbox.message;
DROP FUNCTION outbox.headers_valid(jsonb);
DROP FUNCTION outbox.uuid_v7();
DROP FUNCTION outbox.payload_limit();
DROP FUNCTION outbox.current_slot();
DROP FUNCTION outbox.slot_period();
DROP FUNCTION outbox.retention();
DROP FUNCTION outbox.record_migration(integer, text, boolean);
DROP FUNCTION outbox.schema_version();
DROP FUNCTION outbox.applied_migrations();
DROP TABLE outbox.migration;

-- The schema itself goes only if the up migration made it and nothing of the
-- application's lies in it.
DO $$
BEGIN
	IF obj_description(to_regnamespace('outbox')::oid, 'pg_namespace')
		= 'Messages on their way to RabbitMQ' THEN
		DROP SCHEMA outbox;
	END IF;
EXCEPTION
	WHEN dependent_objects_still_exist THEN
		RAISE NOTICE 'schema outbox is kept: there is more in it';
END
$$;
