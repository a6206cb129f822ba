-- Refuses while there are claims: without them what comes again takes effect again.
LOCK TABLE inbox.message IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
	IF coalesce(current_setting('outbox_relay.force_down', true), '') = 'on' THEN
		RETURN;
	END IF;
	IF EXISTS (SELECT FROM inbox.message) THEN
		RAISE EXCEPTION 'schema inbox still holds claims: without them a message that comes again takes effect again'
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'To throw them away: PGOPTIONS="-c outbox_relay.force_down=on".';
	END IF;
END
$$;

DROP FUNCTION inbox.grant_consumer(text);
DROP VIEW inbox.status;
DROP FUNCTION inbox.attempts(text, text);
DROP FUNCTION inbox.fail(text, text, text);
DROP FUNCTION inbox.purge(interval, integer);
DROP FUNCTION inbox.forget(text, timestamptz);
DROP FUNCTION inbox.claim(text, text[]);
DROP FUNCTION inbox.claim(text, text);
DROP TABLE inbox.attempt;
DROP TABLE inbox.message;
DROP FUNCTION inbox.record_migration(integer, text, boolean);
DROP FUNCTION inbox.schema_version();
DROP FUNCTION inbox.applied_migrations();
DROP TABLE inbox.migration;

-- The schema itself goes only if the up migration made it and nothing of the
-- application's lies in it.
DO $$
BEGIN
	IF obj_description(to_regnamespace('inbox')::oid, 'pg_namespace')
		= 'Messages that consumers have handled' THEN
		DROP SCHEMA inbox;
	END IF;
EXCEPTION
	WHEN dependent_objects_still_exist THEN
		RAISE NOTICE 'schema inbox is kept: there is more in it';
END
$$;
