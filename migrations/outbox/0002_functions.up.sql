-- What people and programs call: publish, status, settings, grants.
--
-- Every function is revoked from PUBLIC.  Those that run with the rights of their
-- owner (SECURITY DEFINER) pin search_path and qualify every name.

-- ---------------------------------------------------------------- publish

CREATE FUNCTION outbox.schedule_message(
	exchange         text,
	routing_key      text,
	payload          bytea,
	payload_text     text,
	payload_json     jsonb,
	ordering_key     text,
	headers          jsonb,
	type             text,
	content_type     text,
	content_encoding text,
	correlation_id   text,
	reply_to         text,
	expiration       interval,
	priority         integer,
	app_id           text,
	persistent       boolean,
	message_id       uuid,
	deliver_at       timestamptz
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	written uuid;
BEGIN
	-- The table has no such CHECK, for the relay's sake.
	IF coalesce(octet_length(schedule_message.payload), octet_length(schedule_message.payload_text),
		octet_length(schedule_message.payload_json::text)) > outbox.payload_limit() THEN
		RAISE EXCEPTION 'payload is larger than % bytes', outbox.payload_limit()
			USING ERRCODE = 'check_violation', CONSTRAINT = 'payload_at_most_payload_limit';
	END IF;
	INSERT INTO outbox.delayed (id, message_id, exchange, routing_key, payload, payload_text, payload_json,
		ordering_key, headers, type, content_type, content_encoding, correlation_id, reply_to, expiration,
		priority, app_id, persistent, waits_for, deliver_at, next_attempt_at)
	VALUES (nextval('outbox.message_id_seq'), coalesce(schedule_message.message_id, outbox.uuid_v7()),
		schedule_message.exchange, schedule_message.routing_key, schedule_message.payload,
		schedule_message.payload_text, schedule_message.payload_json, schedule_message.ordering_key,
		schedule_message.headers, schedule_message.type, schedule_message.content_type,
		schedule_message.content_encoding, schedule_message.correlation_id, schedule_message.reply_to,
		schedule_message.expiration, schedule_message.priority, schedule_message.app_id,
		schedule_message.persistent, 'schedule', schedule_message.deliver_at, schedule_message.deliver_at)
	RETURNING message_id INTO written;
	RETURN written;
END
$$;
REVOKE ALL ON FUNCTION outbox.schedule_message(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION outbox.schedule_message(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) IS
	'Used by publish() for deliver_at: the one way in which a writer reaches outbox.delayed.';

CREATE FUNCTION outbox.write_message(
	exchange         text,
	routing_key      text,
	payload          bytea,
	payload_text     text,
	payload_json     jsonb,
	ordering_key     text,
	headers          jsonb,
	type             text,
	content_type     text,
	content_encoding text,
	correlation_id   text,
	reply_to         text,
	expiration       interval,
	priority         integer,
	app_id           text,
	persistent       boolean,
	message_id       uuid,
	deliver_at       timestamptz
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
	written uuid;
BEGIN
	IF write_message.deliver_at IS NOT NULL THEN
		RETURN outbox.schedule_message(write_message.exchange, write_message.routing_key, write_message.payload,
			write_message.payload_text, write_message.payload_json, write_message.ordering_key,
			write_message.headers, write_message.type, write_message.content_type,
			write_message.content_encoding, write_message.correlation_id, write_message.reply_to,
			write_message.expiration, write_message.priority, write_message.app_id,
			write_message.persistent, write_message.message_id, write_message.deliver_at);
	END IF;
	INSERT INTO outbox.message (message_id, exchange, routing_key, payload, payload_text, payload_json,
		ordering_key, headers, type, content_type, content_encoding, correlation_id, reply_to, expiration,
		priority, app_id, persistent)
	VALUES (coalesce(write_message.message_id, outbox.uuid_v7()), write_message.exchange,
		write_message.routing_key, write_message.payload, write_message.payload_text,
		write_message.payload_json, write_message.ordering_key, write_message.headers, write_message.type,
		write_message.content_type, write_message.content_encoding, write_message.correlation_id,
		write_message.reply_to, write_message.expiration, write_message.priority, write_message.app_id,
		write_message.persistent)
	RETURNING message_id INTO written;
	RETURN written;
END
$$;
REVOKE ALL ON FUNCTION outbox.write_message(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION outbox.write_message(text, text, bytea, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) IS
	'What the forms of publish() share. Runs with the rights of the caller.';

-- A string literal of no declared type resolves to text.

CREATE FUNCTION outbox.publish(
	exchange         text,
	routing_key      text,
	payload          json,
	ordering_key     text DEFAULT NULL,
	headers          jsonb DEFAULT NULL,
	type             text DEFAULT NULL,
	content_type     text DEFAULT 'application/json',
	content_encoding text DEFAULT NULL,
	correlation_id   text DEFAULT NULL,
	reply_to         text DEFAULT NULL,
	expiration       interval DEFAULT NULL,
	priority         integer DEFAULT NULL,
	app_id           text DEFAULT NULL,
	persistent       boolean DEFAULT true,
	message_id       uuid DEFAULT NULL,
	deliver_at       timestamptz DEFAULT NULL
) RETURNS uuid
LANGUAGE sql VOLATILE
AS $$
	SELECT outbox.write_message(publish.exchange, publish.routing_key, NULL, publish.payload::text, NULL,
		publish.ordering_key, publish.headers, publish.type, publish.content_type, publish.content_encoding,
		publish.correlation_id, publish.reply_to, publish.expiration, publish.priority, publish.app_id,
		publish.persistent, publish.message_id, publish.deliver_at)
$$;
REVOKE ALL ON FUNCTION outbox.publish(text, text, json, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION outbox.publish(text, text, json, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) IS
	'Writes a message in this transaction and returns its message_id. json is sent as it was written, byte for byte.';

CREATE FUNCTION outbox.publish(
	exchange         text,
	routing_key      text,
	payload          jsonb,
	ordering_key     text DEFAULT NULL,
	headers          jsonb DEFAULT NULL,
	type             text DEFAULT NULL,
	content_type     text DEFAULT 'application/json',
	content_encoding text DEFAULT NULL,
	correlation_id   text DEFAULT NULL,
	reply_to         text DEFAULT NULL,
	expiration       interval DEFAULT NULL,
	priority         integer DEFAULT NULL,
	app_id           text DEFAULT NULL,
	persistent       boolean DEFAULT true,
	message_id       uuid DEFAULT NULL,
	deliver_at       timestamptz DEFAULT NULL
) RETURNS uuid
LANGUAGE sql VOLATILE
AS $$
	SELECT outbox.write_message(publish.exchange, publish.routing_key, NULL, NULL, publish.payload,
		publish.ordering_key, publish.headers, publish.type, publish.content_type, publish.content_encoding,
		publish.correlation_id, publish.reply_to, publish.expiration, publish.priority, publish.app_id,
		publish.persistent, publish.message_id, publish.deliver_at)
$$;
REVOKE ALL ON FUNCTION outbox.publish(text, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION outbox.publish(text, text, jsonb, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) IS
	'Writes a message in this transaction and returns its message_id. jsonb is sent as Postgres prints it.';

CREATE FUNCTION outbox.publish(
	exchange         text,
	routing_key      text,
	payload          text,
	ordering_key     text DEFAULT NULL,
	headers          jsonb DEFAULT NULL,
	type             text DEFAULT NULL,
	content_type     text DEFAULT 'application/json',
	content_encoding text DEFAULT NULL,
	correlation_id   text DEFAULT NULL,
	reply_to         text DEFAULT NULL,
	expiration       interval DEFAULT NULL,
	priority         integer DEFAULT NULL,
	app_id           text DEFAULT NULL,
	persistent       boolean DEFAULT true,
	message_id       uuid DEFAULT NULL,
	deliver_at       timestamptz DEFAULT NULL
) RETURNS uuid
LANGUAGE sql VOLATILE
AS $$
	SELECT outbox.write_message(publish.exchange, publish.routing_key, NULL, publish.payload, NULL,
		publish.ordering_key, publish.headers, publish.type, publish.content_type, publish.content_encoding,
		publish.correlation_id, publish.reply_to, publish.expiration, publish.priority, publish.app_id,
		publish.persistent, publish.message_id, publish.deliver_at)
$$;
REVOKE ALL ON FUNCTION outbox.publish(text, text, text, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION outbox.publish(text, text, text, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) IS
	'Writes a message in this transaction and returns its message_id. Text is sent as UTF-8. With deliver_at it waits in outbox.delayed until then.';

CREATE FUNCTION outbox.publish(
	exchange         text,
	routing_key      text,
	payload          bytea,
	ordering_key     text DEFAULT NULL,
	headers          jsonb DEFAULT NULL,
	type             text DEFAULT NULL,
	content_type     text DEFAULT 'application/json',
	content_encoding text DEFAULT NULL,
	correlation_id   text DEFAULT NULL,
	reply_to         text DEFAULT NULL,
	expiration       interval DEFAULT NULL,
	priority         integer DEFAULT NULL,
	app_id           text DEFAULT NULL,
	persistent       boolean DEFAULT true,
	message_id       uuid DEFAULT NULL,
	deliver_at       timestamptz DEFAULT NULL
) RETURNS uuid
LANGUAGE sql VOLATILE
AS $$
	SELECT outbox.write_message(publish.exchange, publish.routing_key, publish.payload, NULL, NULL,
		publish.ordering_key, publish.headers, publish.type, publish.content_type, publish.content_encoding,
		publish.correlation_id, publish.reply_to, publish.expiration, publish.priority, publish.app_id,
		publish.persistent, publish.message_id, publish.deliver_at)
$$;
REVOKE ALL ON FUNCTION outbox.publish(text, text, bytea, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION outbox.publish(text, text, bytea, text, jsonb, text, text, text, text, text, interval, integer, text, boolean, uuid, timestamptz) IS
	'Writes a message in this transaction and returns its message_id. bytea is sent as it is.';

-- ---------------------------------------------------------------- status

-- The newest mark alone says whether a row is sent.  When, is the first mark that
-- covers it: among those that reach beyond its xid nearly always one of the
-- first, so the scalar subquery stops early, and a pending row never runs it.
CREATE VIEW outbox.message_status AS
SELECT
	m.id,
	m.message_id,
	CASE
		WHEN d.id IS NOT NULL THEN 'delayed'
		WHEN x.id IS NOT NULL THEN 'dead'
		WHEN pg_visible_in_snapshot(m.xid, n.prev)
			OR (m.id <= n.last_id AND pg_visible_in_snapshot(m.xid, n.target)) THEN 'sent'
		ELSE 'pending'
	END AS state,
	CASE
		WHEN d.id IS NOT NULL OR x.id IS NOT NULL THEN NULL
		WHEN pg_visible_in_snapshot(m.xid, n.prev)
			OR (m.id <= n.last_id AND pg_visible_in_snapshot(m.xid, n.target)) THEN (
			SELECT s.sent_at
			FROM outbox.sent AS s
			WHERE pg_snapshot_xmax(coalesce(s.target, s.prev)) > m.xid
				AND (pg_visible_in_snapshot(m.xid, s.prev)
					OR (m.id <= s.last_id AND pg_visible_in_snapshot(m.xid, s.target)))
			ORDER BY pg_snapshot_xmax(coalesce(s.target, s.prev)), s.seq
			LIMIT 1)
	END AS sent_at,
	coalesce(d.attempts, x.attempts, 0) AS attempts,
	coalesce(d.last_error, x.last_error) AS last_error,
	CASE WHEN x.discarded_at IS NOT NULL AND NOT starts_with(x.reason, 'discarded: ') THEN 'discarded: ' ELSE '' END || x.reason AS reason,
	coalesce(d.deliver_at, x.deliver_at) AS deliver_at,
	d.waits_for,
	d.next_attempt_at,
	m.exchange,
	m.routing_key,
	m.ordering_key,
	m.type,
	m.slot,
	m.created_at
FROM outbox.message AS m
LEFT JOIN outbox.delayed AS d ON d.id = m.id
LEFT JOIN outbox.dead AS x ON x.id = m.id
LEFT JOIN (
	SELECT l.prev, l.target, l.last_id
	FROM outbox.sent AS l
	ORDER BY l.seq DESC
	LIMIT 1) AS n ON true
UNION ALL
SELECT d.id, d.message_id, 'delayed', NULL, d.attempts, d.last_error, NULL, d.deliver_at, d.waits_for,
	d.next_attempt_at, d.exchange, d.routing_key, d.ordering_key, d.type, NULL, d.created_at
FROM outbox.delayed AS d
WHERE NOT EXISTS (SELECT FROM outbox.message AS m WHERE m.id = d.id)
UNION ALL
SELECT x.id, x.message_id, 'dead', NULL, x.attempts, x.last_error,
	CASE WHEN x.discarded_at IS NOT NULL AND NOT starts_with(x.reason, 'discarded: ') THEN 'discarded: ' ELSE '' END || x.reason, x.deliver_at, NULL, NULL, x.exchange, x.routing_key, x.ordering_key, x.type, NULL, x.created_at
FROM outbox.dead AS x
WHERE NOT EXISTS (SELECT FROM outbox.message AS m WHERE m.id = x.id)
	AND NOT EXISTS (SELECT FROM outbox.delayed AS d WHERE d.id = x.id);
REVOKE ALL ON outbox.message_status FROM PUBLIC;

COMMENT ON VIEW outbox.message_status IS
	'Every message still kept and what became of it. Search by id; a search by message_id reads every row kept unless created_at is bounded too.';
COMMENT ON COLUMN outbox.message_status.state IS
	'pending; sent (confirmed by the broker and marked); delayed (scheduled, or to be tried again); dead (given up).';
COMMENT ON COLUMN outbox.message_status.waits_for IS 'What a delayed message waits for, as in delayed.';
COMMENT ON COLUMN outbox.message_status.sent_at IS 'Time of the first mark kept that covers the message; null unless sent.';
COMMENT ON COLUMN outbox.message_status.slot IS 'Where the message lies; null: no longer, or never, among the messages.';

-- Never reads the backlog: at most 10,001 rows of each kind, by index.  With G the
-- greater of last_id and floor_id of the newest mark, pending is, each disjoint:
--   fresh       id > G: nothing of that can be covered
--   stragglers  id <= G, written by a transaction that was in progress in target
--               (no row of it is covered), or that was so in prev alone (its rows
--               above last_id are not covered)
--   restarted   id <= G although the transaction began after the newest snapshot:
--               only after TRUNCATE ... RESTART IDENTITY
CREATE FUNCTION outbox.backlog(
	OUT pending bigint,
	OUT delayed bigint,
	OUT dead bigint,
	OUT oldest_pending_age interval,
	OUT estimated boolean
) RETURNS record
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
	bound constant bigint := 10001;
	mark outbox.sent;
	border bigint := 0;
	newest bigint;
	reached bigint;
	fresh bigint;
	others bigint := 0;
	more bigint;
	oldest timestamptz;
	old timestamptz;
BEGIN
	SELECT * INTO mark FROM outbox.sent AS s ORDER BY s.seq DESC LIMIT 1;
	estimated := false;
	border := coalesce(greatest(mark.last_id, mark.floor_id), 0);

	SELECT count(*), min(f.created_at), max(f.id) INTO fresh, oldest, reached
	FROM (SELECT m.id, m.created_at FROM outbox.message AS m
		WHERE m.id > border ORDER BY m.id LIMIT bound) AS f;
	IF fresh >= bound THEN
		estimated := true;
		SELECT m.id INTO newest FROM outbox.message AS m ORDER BY m.id DESC LIMIT 1;
		-- As dense beyond the sample as in it: rollbacks leave gaps.
		fresh := round((newest - border) * (fresh::double precision / (reached - border)));
	END IF;

	IF mark.seq IS NOT NULL THEN
		SELECT count(*), min(r.created_at) INTO others, old
		FROM (
			SELECT m.created_at
			FROM pg_snapshot_xip(mark.target) AS t(xid)
			CROSS JOIN LATERAL (SELECT i.created_at FROM outbox.message AS i
				WHERE i.xid = t.xid AND i.id <= border ORDER BY i.xid, i.id LIMIT bound) AS m
			UNION ALL
			SELECT m.created_at
			FROM pg_snapshot_xip(mark.prev) AS p(xid)
			CROSS JOIN LATERAL (SELECT i.created_at FROM outbox.message AS i
				WHERE i.xid = p.xid AND i.id > mark.last_id AND i.id <= border ORDER BY i.xid, i.id LIMIT bound) AS m
			WHERE mark.target IS NULL OR pg_visible_in_snapshot(p.xid, mark.target)
			LIMIT bound) AS r;
		oldest := least(oldest, old);

		SELECT count(*), min(r.created_at) INTO more, old
		FROM (SELECT m.id, m.created_at FROM outbox.message AS m
			WHERE m.xid >= pg_snapshot_xmax(coalesce(mark.target, mark.prev))
			ORDER BY m.xid, m.id LIMIT bound) AS r
		WHERE r.id <= border;
		others := others + more;
		oldest := least(oldest, old);
		estimated := estimated OR others >= bound;
	END IF;
	pending := fresh + others;
	IF oldest IS NOT NULL THEN
		oldest_pending_age := greatest(clock_timestamp() - oldest, interval '0');
	END IF;

	SELECT count(*) INTO delayed FROM (SELECT FROM outbox.delayed LIMIT bound) AS r;
	IF delayed >= bound THEN
		estimated := true;
		SELECT greatest(delayed, c.reltuples::bigint) INTO delayed
		FROM pg_class AS c WHERE c.oid = 'outbox.delayed'::regclass;
	END IF;
	SELECT count(*) INTO dead FROM (SELECT FROM outbox.dead AS x
		WHERE x.discarded_at IS NULL ORDER BY x.died_at, x.id LIMIT bound) AS r;
	IF dead >= bound THEN
		estimated := true;
		SELECT greatest(dead, c.reltuples::bigint) INTO dead
		FROM pg_class AS c WHERE c.oid = 'outbox.dead'::regclass;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION outbox.backlog() FROM PUBLIC;
COMMENT ON FUNCTION outbox.backlog() IS
	'How many messages are pending, delayed and dead (not discarded), and the age of the oldest pending one (null: none). Exact up to 10,000 of each, above that an estimate (estimated is true).';

-- ---------------------------------------------------------------- dead messages

-- Called wherever something that held a key goes: the relay in a mark, people by
-- retry_dead and discard_dead.  A lock that somebody else holds is never waited for,
-- so that a person who leaves a transaction open does not stop the relay: a dead row
-- in such hands counts as gone, and the first of its key becomes due, but nobody is
-- sent past a dead row that holds its key (the searches see to that) should it stay.
-- The other way round, whoever takes a dead row away waits for marks that found it
-- there, and then sees what they put behind it.
--
-- The first of a key may be due already, and have been passed over while something
-- came before it: then it falls due anew, so that the next search sees it.  That is
-- so if its id is above after, the least id that has gone (0: whatever it is; null:
-- nothing has gone).
CREATE FUNCTION outbox.release_keys(keys text[], after bigint[], leaving bigint[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
	WITH held AS MATERIALIZED (
		SELECT x.ordering_key
		FROM outbox.dead AS x
		WHERE x.holds_key AND x.ordering_key = ANY (release_keys.keys)
		FOR SHARE SKIP LOCKED
	), stuck AS MATERIALIZED (
		SELECT w.id
		FROM unnest(release_keys.keys, release_keys.after) AS k(key, after)
		CROSS JOIN LATERAL (
			-- Bounds, not equality: no other index gives this order.
			SELECT l.id, l.waits_for, l.next_attempt_at
			FROM outbox.delayed AS l
			WHERE l.ordering_key >= k.key AND l.ordering_key <= k.key AND l.waits_for <> 'schedule'
				AND l.id NOT IN (SELECT unnest(release_keys.leaving))
			ORDER BY l.ordering_key, l.id
			LIMIT 1) AS w
		WHERE (w.waits_for = 'key' OR (w.waits_for = 'retry' AND w.next_attempt_at <= now() AND w.id > k.after))
			AND k.key NOT IN (SELECT h.ordering_key FROM held AS h)
	), mine AS MATERIALIZED (
		SELECT d.id
		FROM stuck AS s
		CROSS JOIN LATERAL (
			SELECT l.id FROM outbox.delayed AS l
			WHERE l.id = s.id AND l.waits_for IN ('key', 'retry')
			FOR UPDATE SKIP LOCKED) AS d
	)
	UPDATE outbox.delayed AS d
	SET waits_for = 'retry', next_attempt_at = now()
	FROM mine AS m
	WHERE d.id = m.id;
END
$$;
REVOKE ALL ON FUNCTION outbox.release_keys(text[], bigint[], bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION outbox.release_keys(text[], bigint[], bigint[]) IS
	'Makes the first waiting message of each key due if it waits for its key, leaving aside those that are about to leave. Used by retry_dead(), discard_dead() and the relay.';

-- A setting of the session, so that a command line can tell who sits before it.
CREATE FUNCTION outbox.operator() RETURNS jsonb
LANGUAGE sql STABLE
AS $$ SELECT coalesce(nullif(current_setting('outbox_relay.operator', true), '')::jsonb, '{}') $$;
REVOKE ALL ON FUNCTION outbox.operator() FROM PUBLIC;
COMMENT ON FUNCTION outbox.operator() IS
	'What this session says of the person who acts: the setting outbox_relay.operator, a JSON object. It goes into the details of operation.';

CREATE FUNCTION outbox.retry_dead(ids bigint[]) RETURNS bigint
LANGUAGE plpgsql
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
REVOKE ALL ON FUNCTION outbox.retry_dead(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION outbox.retry_dead(bigint[]) IS
	'Has dead messages sent again, due now, with all their attempts before them; returns how many. Their order within a key is lost unless they held it.';

CREATE FUNCTION outbox.discard_dead(ids bigint[]) RETURNS bigint
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
	keys text[];
	touched bigint[];
BEGIN
	WITH gone AS (
		UPDATE outbox.dead AS x
		SET discarded_at = now(), holds_key = false
		WHERE x.id = ANY (discard_dead.ids) AND x.discarded_at IS NULL
		RETURNING x.id, x.ordering_key
	)
	SELECT array_agg(DISTINCT g.ordering_key) FILTER (WHERE g.ordering_key IS NOT NULL), array_agg(g.id ORDER BY g.id)
	INTO keys, touched FROM gone AS g;
	PERFORM outbox.release_keys(keys, array_fill(0::bigint, ARRAY[coalesce(cardinality(keys), 0)]), '{}');
	INSERT INTO outbox.operation (operation, details, messages)
	VALUES ('discard', outbox.operator() || jsonb_build_object('from', 'dead', 'first_ids', touched[1:100]),
		coalesce(cardinality(touched), 0));
	RETURN coalesce(cardinality(touched), 0);
END
$$;
REVOKE ALL ON FUNCTION outbox.discard_dead(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION outbox.discard_dead(bigint[]) IS
	'Marks dead messages as not to be sent; returns how many. Keys that they held go on.';

-- ---------------------------------------------------------------- settings

CREATE FUNCTION outbox.set_retention(retention interval) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	seconds bigint;
	period bigint;
BEGIN
	IF set_retention.retention IS NULL OR set_retention.retention < interval '0'
		OR set_retention.retention > interval '3650 days' THEN
		RAISE EXCEPTION 'retention must be between 0 and 3650 days, not %', coalesce(set_retention.retention::text, 'null')
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	seconds := ceil(date_part('epoch', set_retention.retention));
	period := greatest(seconds, 60);
	EXECUTE format('CREATE OR REPLACE FUNCTION outbox.retention() RETURNS interval'
		' LANGUAGE sql STABLE PARALLEL SAFE AS %L', format(' SELECT ''%s seconds''::interval ', seconds));
	EXECUTE format('CREATE OR REPLACE FUNCTION outbox.slot_period() RETURNS interval'
		' LANGUAGE sql STABLE PARALLEL SAFE AS %L', format(' SELECT ''%s seconds''::interval ', period));
	EXECUTE format('CREATE OR REPLACE FUNCTION outbox.current_slot() RETURNS smallint'
		' LANGUAGE sql STABLE PARALLEL SAFE AS %L',
		format(' SELECT (floor(date_part(''epoch'', now()) / %s)::bigint %% 3)::smallint ', period));
END
$$;
REVOKE ALL ON FUNCTION outbox.set_retention(interval) FROM PUBLIC;
COMMENT ON FUNCTION outbox.set_retention(interval) IS
	'How long sent messages are kept (default a day; a month counts 30 days): at least this, at most twice and the time that emptying takes. 0 keeps as little as possible: slots change every minute, so one to two minutes.';

CREATE FUNCTION outbox.set_payload_limit(bytes integer) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	IF set_payload_limit.bytes IS NULL OR set_payload_limit.bytes < 0 OR set_payload_limit.bytes > 536870912 THEN
		RAISE EXCEPTION 'payload limit must be between 0 and 536870912 bytes, not %', coalesce(set_payload_limit.bytes::text, 'null')
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'RabbitMQ carries no message above 512 MiB, and by default none above 16 MiB (4.x) or 128 MiB (3.x).';
	END IF;
	EXECUTE format('CREATE OR REPLACE FUNCTION outbox.payload_limit() RETURNS integer'
		' LANGUAGE sql STABLE PARALLEL SAFE AS %L', format(' SELECT %s ', set_payload_limit.bytes));
END
$$;
REVOKE ALL ON FUNCTION outbox.set_payload_limit(integer) FROM PUBLIC;
COMMENT ON FUNCTION outbox.set_payload_limit(integer) IS
	'Most bytes of a payload from now on (default 16 MiB). Raise RabbitMQ''s max_message_size too.';

-- ---------------------------------------------------------------- grants

CREATE FUNCTION outbox.grant_writer(role text) RETURNS void
LANGUAGE plpgsql
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
REVOKE ALL ON FUNCTION outbox.grant_writer(text) FROM PUBLIC;
COMMENT ON FUNCTION outbox.grant_writer(text) IS
	'Lets a role write messages and read back id and message_id, and nothing else. Call it again after adding columns.';

CREATE FUNCTION outbox.grant_relay(role text) RETURNS void
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
REVOKE ALL ON FUNCTION outbox.grant_relay(text) FROM PUBLIC;
COMMENT ON FUNCTION outbox.grant_relay(text) IS 'Lets a role run the relay and its commands, and nothing more.';

CREATE FUNCTION outbox.grant_monitor(role text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA outbox TO %I', role);
	EXECUTE format('GRANT SELECT ON outbox.message_status, outbox.sent, outbox.operation, outbox.migration TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION outbox.applied_migrations(), outbox.schema_version(), outbox.retention(),'
		' outbox.slot_period(), outbox.current_slot(), outbox.payload_limit(), outbox.backlog() TO %I', role);
END
$$;
REVOKE ALL ON FUNCTION outbox.grant_monitor(text) FROM PUBLIC;
COMMENT ON FUNCTION outbox.grant_monitor(text) IS 'Lets a role read the status of messages, without payloads and headers.';

SELECT outbox.record_migration(2, 'functions', true);
