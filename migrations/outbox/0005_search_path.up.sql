-- Functions that people and the relay call, and that are no part of writing a
-- message, find nothing in the schemas of whoever calls them: a function or an
-- operator there that fits better than the built-in one would run with the
-- caller's rights, the owner's among them.  What writers call stays as it is:
-- it runs with their own rights, and Postgres inlines most of it.

ALTER FUNCTION outbox.record_migration(integer, text, boolean) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.release_keys(text[], bigint[], bigint[]) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.operator() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.retry_dead(bigint[]) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.discard_dead(bigint[]) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.pause(text, text) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.resume(text) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.discard_pending(text, text, interval) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.end_discard(bigint) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.set_retention(interval) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.set_payload_limit(integer) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.grant_writer(text) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.grant_relay(text) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION outbox.grant_monitor(text) SET search_path = pg_catalog, pg_temp;

SELECT outbox.record_migration(5, 'search_path', true);
