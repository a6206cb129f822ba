SELECT outbox.record_migration(5, 'search_path', false);

ALTER FUNCTION outbox.grant_monitor(text) RESET search_path;
ALTER FUNCTION outbox.grant_relay(text) RESET search_path;
ALTER FUNCTION outbox.grant_writer(text) RESET search_path;
ALTER FUNCTION outbox.set_payload_limit(integer) RESET search_path;
ALTER FUNCTION outbox.set_retention(interval) RESET search_path;
ALTER FUNCTION outbox.end_discard(bigint) RESET search_path;
ALTER FUNCTION outbox.discard_pending(text, text, interval) RESET search_path;
ALTER FUNCTION outbox.resume(text) RESET search_path;
ALTER FUNCTION outbox.pause(text, text) RESET search_path;
ALTER FUNCTION outbox.discard_dead(bigint[]) RESET search_path;
ALTER FUNCTION outbox.retry_dead(bigint[]) RESET search_path;
ALTER FUNCTION outbox.operator() RESET search_path;
ALTER FUNCTION outbox.release_keys(text[], bigint[], bigint[]) RESET search_path;
ALTER FUNCTION outbox.record_migration(integer, text, boolean) RESET search_path;
