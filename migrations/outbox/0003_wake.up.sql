-- Wakes a sleeping relay when messages are written.  Leave this one out where
-- producers use two-phase commit (PREPARE TRANSACTION fails after NOTIFY), and
-- set wake.mode: poll; without it the relay polls by itself and says so.
--
-- NOTIFY takes one cluster-wide lock through the commit, so it is sent only
-- while the relay sleeps: then it holds the advisory lock exclusively, and the
-- shared one is refused here.  The lock's second half is the second of the
-- clock, so that a writer that stays open keeps nobody from falling asleep.

CREATE FUNCTION outbox.wake() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
	IF NOT pg_try_advisory_xact_lock_shared(TG_RELID::int4,
		(floor(date_part('epoch', clock_timestamp()))::bigint & 1073741823)::int4) THEN
		PERFORM pg_notify(TG_TABLE_SCHEMA || '_wake', '');
	END IF;
	RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION outbox.wake() FROM PUBLIC;
COMMENT ON FUNCTION outbox.wake() IS 'Sends NOTIFY on channel <schema>_wake if the relay sleeps.';

CREATE TRIGGER wake AFTER INSERT ON outbox.message
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.wake();

-- The same lock for scheduled messages, whose table has another oid.
CREATE FUNCTION outbox.wake_delayed() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
	IF NOT pg_try_advisory_xact_lock_shared('outbox.message'::regclass::oid::int4,
		(floor(date_part('epoch', clock_timestamp()))::bigint & 1073741823)::int4) THEN
		PERFORM pg_notify(TG_TABLE_SCHEMA || '_wake', '');
	END IF;
	RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION outbox.wake_delayed() FROM PUBLIC;
COMMENT ON FUNCTION outbox.wake_delayed() IS 'As wake(), for messages scheduled for later.';

CREATE TRIGGER wake AFTER INSERT ON outbox.delayed
	FOR EACH STATEMENT EXECUTE FUNCTION outbox.wake_delayed();

SELECT outbox.record_migration(3, 'wake', true);
