-- Operating: what a person has paused.  A relay without this migration knows of no pause.

-- No row means that nothing is paused.
CREATE TABLE outbox.pause (
	everything boolean NOT NULL,
	exchange   text NOT NULL DEFAULT '',
	paused_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
	paused_by  text NOT NULL DEFAULT session_user,
	reason     text,
	PRIMARY KEY (everything, exchange),
	CONSTRAINT everything_names_no_exchange CHECK (NOT everything OR exchange = ''),
	CONSTRAINT exchange_at_most_255_bytes CHECK (octet_length(exchange) <= 255)
);
REVOKE ALL ON outbox.pause FROM PUBLIC;
COMMENT ON TABLE outbox.pause IS
	'What is paused: everything, or an exchange (the empty one is the default exchange). A running relay learns of it within a second. Write it by pause() and resume(), which record who did it.';
COMMENT ON COLUMN outbox.pause.everything IS 'Nothing is published at all.';
COMMENT ON COLUMN outbox.pause.exchange IS 'Unless everything: messages to this exchange wait.';
COMMENT ON COLUMN outbox.pause.paused_by IS 'Database role, and the person before it if the command line told.';
COMMENT ON COLUMN outbox.pause.reason IS 'Why, in the words of whoever paused.';

CREATE FUNCTION outbox.pause(exchange text DEFAULT NULL, reason text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
	most constant integer := 64;
	asked_exchange constant text := $1;
	asked_reason constant text := left($2, 200);
	person constant jsonb := outbox.operator();
BEGIN
	IF asked_exchange IS NOT NULL AND (SELECT count(*) FROM outbox.pause AS p
		WHERE NOT p.everything AND p.exchange <> asked_exchange) >= most THEN
		RAISE EXCEPTION '% exchanges are paused already', most
			USING ERRCODE = 'program_limit_exceeded', HINT = 'Pause everything instead.';
	END IF;
	INSERT INTO outbox.pause (everything, exchange, paused_by, reason)
	VALUES (asked_exchange IS NULL, coalesce(asked_exchange, ''),
		session_user || coalesce(' (' || (person ->> 'user') || '@' || (person ->> 'host') || ')', ''), asked_reason)
	ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO outbox.operation (operation, details)
	VALUES ('pause', person || jsonb_strip_nulls(jsonb_build_object('everything', asked_exchange IS NULL,
		'exchange', asked_exchange, 'reason', asked_reason)));
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION outbox.pause(text, text) FROM PUBLIC;
COMMENT ON FUNCTION outbox.pause(text, text) IS
	'Pauses an exchange, or (null) everything; false if it is paused already. Messages can be written as before.';

CREATE FUNCTION outbox.resume(exchange text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
	asked_exchange constant text := $1;
	gone outbox.pause;
BEGIN
	DELETE FROM outbox.pause AS p
	WHERE p.everything = (asked_exchange IS NULL) AND p.exchange = coalesce(asked_exchange, '')
	RETURNING p.* INTO gone;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO outbox.operation (operation, details)
	VALUES ('resume', outbox.operator() || jsonb_strip_nulls(jsonb_build_object('everything', asked_exchange IS NULL,
		'exchange', asked_exchange, 'paused_at', gone.paused_at, 'paused_by', gone.paused_by, 'reason', gone.reason)));
	RETURN true;
END
$$;
REVOKE ALL ON FUNCTION outbox.resume(text) FROM PUBLIC;
COMMENT ON FUNCTION outbox.resume(text) IS
	'Ends the pause of an exchange, or (null) that of everything; false if there is none. Each ends for itself.';

-- ---------------------------------------------------------------- dead letters

-- For those that are discarded, which go after the retention.
CREATE INDEX dead_discarded_at_idx ON outbox.dead (discarded_at) WHERE discarded_at IS NOT NULL;

-- ---------------------------------------------------------------- grants

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
	EXECUTE format('GRANT SELECT, INSERT, DELETE ON outbox.pause TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.applied_migrations(), outbox.schema_version(), outbox.retention(),'
		' outbox.slot_period(), outbox.current_slot(), outbox.payload_limit(), outbox.uuid_v7(),'
		' outbox.headers_valid(jsonb), outbox.backlog(), outbox.release_keys(text[], bigint[], bigint[]),'
		' outbox.operator(), outbox.retry_dead(bigint[]), outbox.discard_dead(bigint[]),'
		' outbox.pause(text, text), outbox.resume(text) TO %I', role);
END
$$;

CREATE OR REPLACE FUNCTION outbox.grant_monitor(role text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %I', role);
	EXECUTE format('GRANT SELECT ON outbox.message_status, outbox.sent, outbox.operation, outbox.migration,'
		' outbox.pause TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.applied_migrations(), outbox.schema_version(), outbox.retention(),'
		' outbox.slot_period(), outbox.current_slot(), outbox.payload_limit(), outbox.backlog() TO %I', role);
END
$$;

-- Those who were granted their part before this migration get the rest of it now.
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN
		SELECT a.grantee::regrole::text AS role, bool_or(a.privilege_type = 'INSERT') AS relay
		FROM pg_class AS c
		CROSS JOIN LATERAL aclexplode(c.relacl) AS a
		WHERE c.oid = 'outbox.sent'::regclass AND a.grantee NOT IN (0, c.relowner)
			AND a.privilege_type IN ('SELECT', 'INSERT')
		GROUP BY a.grantee
	LOOP
		IF r.relay THEN
			EXECUTE format('SELECT outbox.grant_relay(%L)', (parse_ident(r.role))[1]);
		ELSE
			EXECUTE format('SELECT outbox.grant_monitor(%L)', (parse_ident(r.role))[1]);
		END IF;
	END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION outbox.schema_version() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT '1.1'::text $$;

SELECT outbox.record_migration(4, 'operating', true);
