#include "inbox_options.h"

#include <stdint.h>
#include <string.h>

#include "inbox_claims.h"
#include "inbox_error.h"
#include "inbox_queue.h"

/*
 * What must stay true: whoever reads an option later finds a value that it can
 * work with, as include/inbox.h says it, and looks no more.
 */
#define DEFAULT_PREFETCH 100
#define DEFAULT_MAX_ATTEMPTS 10
#define DEFAULT_HEARTBEAT_S 30
#define DEFAULT_RETRY_INITIAL_MS 1000
#define DEFAULT_RETRY_MAX_MS 300000
#define DEFAULT_LOCK_TIMEOUT_MS 5000
#define DEFAULT_RETENTION_S (7 * 86400)
#define DEFAULT_PURGE_INTERVAL_S 3600
#define HEARTBEAT_MAX_S 3600
#define DURATION_MAX (INT64_C(1) << 40)
#define NAME_MAX_BYTES 255

static enum inbox_code
check_text(const char * what, const char * text, size_t max, struct inbox_error * error)
{
	if (text == NULL || *text == '\0')
		return (inbox_error_set(error, INBOX_INVALID, "%s is required", what));
	if (strnlen(text, max + 1) > max)
		return (inbox_error_set(error, INBOX_INVALID, "%s is longer than %zu bytes", what,
		    max));
	return (INBOX_OK);
}

/* 0 stands for the default. */
static enum inbox_code
check_number(const char * what, int64_t * value, int64_t standard, int64_t low, int64_t high,
    struct inbox_error * error)
{
	if (*value == 0)
		*value = standard;
	if (*value < low || *value > high)
		return (inbox_error_set(error, INBOX_INVALID,
		    "%s is %lld: it must be from %lld to %lld", what, (long long)*value,
		    (long long)low, (long long)high));
	return (INBOX_OK);
}

static enum inbox_code
check_int(const char * what, int * value, int standard, int low, int high,
    struct inbox_error * error)
{
	int64_t wide = *value;
	enum inbox_code code = check_number(what, &wide, standard, low, high, error);

	*value = (int)wide;
	return (code);
}

static enum inbox_code
check_numbers(struct inbox_consumer_options * o, struct inbox_error * error)
{
	if (check_int("prefetch", &o->prefetch, DEFAULT_PREFETCH, 1, 65535, error) ||
	    check_int("batch", &o->batch, 1, 1, o->prefetch, error) ||
	    check_int("max_attempts", &o->max_attempts, DEFAULT_MAX_ATTEMPTS, 1, 1000000, error) ||
	    check_int("heartbeat_s", &o->heartbeat_s, DEFAULT_HEARTBEAT_S, 1, HEARTBEAT_MAX_S,
		error) ||
	    check_number("retry_initial_ms", &o->retry_initial_ms, DEFAULT_RETRY_INITIAL_MS, 1,
		DURATION_MAX, error) ||
	    check_number("retry_max_ms", &o->retry_max_ms, DEFAULT_RETRY_MAX_MS, 1, DURATION_MAX,
		error) ||
	    check_number("lock_timeout_ms", &o->lock_timeout_ms, DEFAULT_LOCK_TIMEOUT_MS, 1,
		INT32_MAX, error) ||
	    check_number("retention_s", &o->retention_s, DEFAULT_RETENTION_S, -1, DURATION_MAX,
		error) ||
	    check_number("purge_interval_s", &o->purge_interval_s, DEFAULT_PURGE_INTERVAL_S, 1,
		DURATION_MAX, error))
		return (INBOX_INVALID);
	return (INBOX_OK);
}

enum inbox_code
inbox_options_check(struct inbox_consumer_options * o, struct inbox_error * error)
{
	char schema[INBOX_QUOTED_MAX + 1];

	if (check_text("name", o->name, NAME_MAX_BYTES, error) ||
	    check_text("queue", o->queue, NAME_MAX_BYTES, error) ||
	    check_text("postgres", o->postgres, SIZE_MAX - 1, error))
		return (INBOX_INVALID);
	if (o->handler == NULL)
		return (inbox_error_set(error, INBOX_INVALID, "handler is required"));
	if (o->urls == NULL || o->urls[0] == NULL)
		return (inbox_error_set(error, INBOX_INVALID, "urls: at least one is required"));
	for (size_t i = 0; o->urls[i] != NULL; i++) {
		if (inbox_queue_check_url(o->urls[i], error) != INBOX_OK)
			return (INBOX_INVALID);
	}
	if ((o->cert_file == NULL) != (o->key_file == NULL))
		return (inbox_error_set(error, INBOX_INVALID,
		    "cert_file and key_file belong together"));
	if (inbox_quote_schema(schema, o->schema, error) != INBOX_OK)
		return (INBOX_INVALID);
	return (check_numbers(o, error));
}
