-- Operating: what a person has paused, and what is not to be sent.  A relay that is older than this
-- migration knows of neither.

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

-- ---------------------------------------------------------------- discarding what is pending

-- Messages are never deleted: the relay, which alone knows what it has published, puts those
-- that an order means aside as discarded when their turn comes.
CREATE TABLE outbox.discard (
	id             bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	ordered_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
	ordered_by     text NOT NULL DEFAULT session_user,
	exchange       text,
	type           text,
	created_before timestamptz,
	max_id         bigint NOT NULL,
	done_at        timestamptz
);
CREATE INDEX discard_standing_idx ON outbox.discard (id) WHERE done_at IS NULL;
REVOKE ALL ON outbox.discard FROM PUBLIC;
COMMENT ON TABLE outbox.discard IS
	'Orders not to send messages that were pending: while one stands (done_at is null), the relay puts what it means into dead as discarded instead of publishing it. Written by discard_pending() and end_discard().';
COMMENT ON COLUMN outbox.discard.exchange IS 'Messages to this exchange; null: to any.';
COMMENT ON COLUMN outbox.discard.type IS 'Messages of this type; null: of any.';
COMMENT ON COLUMN outbox.discard.created_before IS 'Messages written before this time, in whole seconds; null: whenever.';
COMMENT ON COLUMN outbox.discard.max_id IS 'Messages up to this id: none that was written later.';
COMMENT ON COLUMN outbox.discard.done_at IS 'When the order ended.';

CREATE FUNCTION outbox.discard_pending(exchange text DEFAULT NULL, type text DEFAULT NULL, older_than interval DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
	most constant integer := 16;
	person constant jsonb := outbox.operator();
	made outbox.discard;
BEGIN
	IF (SELECT count(*) FROM outbox.discard AS d WHERE d.done_at IS NULL) >= most THEN
		RAISE EXCEPTION '% orders to discard stand already', most
			USING ERRCODE = 'program_limit_exceeded', HINT = 'Have them finished, or take them back.';
	END IF;
	INSERT INTO outbox.discard (ordered_by, exchange, type, created_before, max_id)
	VALUES (session_user || coalesce(' (' || (person ->> 'user') || '@' || (person ->> 'host') || ')', ''), $1, $2,
		date_trunc('second', now() - $3), greatest(
			(SELECT m.id FROM outbox.message AS m ORDER BY m.id DESC LIMIT 1),
			(SELECT l.id FROM outbox.delayed AS l ORDER BY l.id DESC LIMIT 1), 0))
	RETURNING * INTO made;
	INSERT INTO outbox.operation (operation, details)
	VALUES ('discard', person || jsonb_strip_nulls(jsonb_build_object('from', 'pending', 'order', made.id,
		'exchange', made.exchange, 'type', made.type, 'created_before', made.created_before, 'max_id', made.max_id)));
	RETURN made.id;
END
$$;
REVOKE ALL ON FUNCTION outbox.discard_pending(text, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION outbox.discard_pending(text, text, interval) IS
	'Orders that what is pending now (to this exchange, of this type, older than this; null: any) is not sent; returns the number of the order, which stands until end_discard().';

CREATE FUNCTION outbox.end_discard(id bigint) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	ended outbox.discard;
	discarded bigint;
BEGIN
	UPDATE outbox.discard AS d SET done_at = now() WHERE d.id = $1 AND d.done_at IS NULL RETURNING * INTO ended;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	SELECT count(*) INTO discarded
	FROM outbox.dead AS x
	WHERE x.discarded_at >= ended.ordered_at AND starts_with(x.reason, 'discarded: order ' || ended.id || ' ');
	INSERT INTO outbox.operation (operation, details, messages)
	VALUES ('discard', outbox.operator() || jsonb_strip_nulls(jsonb_build_object('from', 'pending', 'order', ended.id,
		'exchange', ended.exchange, 'type', ended.type, 'ended', true)), discarded);
	RETURN discarded;
END
$$;
REVOKE ALL ON FUNCTION outbox.end_discard(bigint) FROM PUBLIC;
COMMENT ON FUNCTION outbox.end_discard(bigint) IS
	'Ends an order to discard; returns how many messages it has discarded (null: it does not stand). What it meant and has not met is sent.';

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
	EXECUTE format('GRANT SELECT, INSERT, UPDATE ON outbox.discard TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.applied_migrations(), outbox.schema_version(), outbox.retention(),'
		' outbox.slot_period(), outbox.current_slot(), outbox.payload_limit(), outbox.uuid_v7(),'
		' outbox.headers_valid(jsonb), outbox.backlog(), outbox.release_keys(text[], bigint[], bigint[]),'
		' outbox.operator(), outbox.retry_dead(bigint[]), outbox.discard_dead(bigint[]),'
		' outbox.pause(text, text), outbox.resume(text), outbox.discard_pending(text, text, interval),'
		' outbox.end_discard(bigint) TO %I', role);
END
$$;

CREATE OR REPLACE FUNCTION outbox.grant_monitor(role text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %I', role);
	EXECUTE format('GRANT SELECT ON outbox.message_status, outbox.sent, outbox.operation, outbox.migration,'
		' outbox.pause, outbox.discard TO %I', role);
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
