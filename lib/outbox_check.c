#include "outbox_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "outbox_text.h"

/*
 * The rules of the columns of outbox.message, kept on this side of the
 * connection: a statement that the server refuses costs the caller the whole
 * transaction, a field that is refused here costs nothing.
 */
struct field {
	const char * name;
	size_t offset;
	size_t max;
};

#define FIELD(member, max) \
	{ \
#member, offsetof(struct outbox_message, member), (max) \
	}

static const struct field fields[] = {
    FIELD(exchange, OUTBOX_KEY_MAX),
    FIELD(routing_key, OUTBOX_KEY_MAX),
    FIELD(payload_text, OUTBOX_PAYLOAD_MAX),
    FIELD(payload_json, OUTBOX_PAYLOAD_MAX),
    FIELD(ordering_key, OUTBOX_ORDERING_KEY_MAX),
    FIELD(headers, OUTBOX_PAYLOAD_MAX),
    FIELD(type, OUTBOX_KEY_MAX),
    FIELD(app_id, OUTBOX_KEY_MAX),
    FIELD(content_type, OUTBOX_KEY_MAX),
    FIELD(content_encoding, OUTBOX_KEY_MAX),
    FIELD(correlation_id, OUTBOX_KEY_MAX),
    FIELD(reply_to, OUTBOX_KEY_MAX),
};

enum outbox_code
outbox_error_set(struct outbox_error * error, enum outbox_code code, const char * field,
    const char * format, ...)
{
	va_list arguments;

	error->code = code;
	error->sqlstate[0] = '\0';
	snprintf(error->field, sizeof(error->field), "%s", field == NULL ? "" : field);
	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	for (char * p = error->text; *p != '\0'; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	}
	return (code);
}

static enum outbox_code
check_text(const struct field * field, const char * text, struct outbox_error * error)
{
	/* One more than allowed is enough to know. */
	size_t len = strnlen(text, field->max + 1);
	size_t bad;

	if (len > field->max)
		return (outbox_error_set(error, OUTBOX_INVALID, field->name,
		    "%s is longer than %zu bytes", field->name, field->max));
	if ((bad = outbox_utf8_invalid(text, len)) < len)
		return (outbox_error_set(error, OUTBOX_INVALID, field->name,
		    "%s is not valid UTF-8 at byte %zu", field->name, bad));
	return (OUTBOX_OK);
}

static enum outbox_code
check_payload(const struct outbox_message * m, struct outbox_error * error)
{
	int given = (m->payload != NULL) + (m->payload_text != NULL) + (m->payload_json != NULL);

	if (m->payload == NULL && m->payload_len > 0)
		return (outbox_error_set(error, OUTBOX_INVALID, "payload",
		    "payload is NULL, but payload_len is %zu", m->payload_len));
	if (given != 1)
		return (outbox_error_set(error, OUTBOX_INVALID, "payload",
		    "%s of payload, payload_text and payload_json %s set: exactly one must be",
		    given == 0 ? "none" : "more than one", given == 0 ? "is" : "are"));
	if (m->payload_len > OUTBOX_PAYLOAD_MAX)
		return (outbox_error_set(error, OUTBOX_INVALID, "payload",
		    "payload is longer than %d bytes", OUTBOX_PAYLOAD_MAX));
	return (OUTBOX_OK);
}

/* 8-4-4-4-12 hexadecimal digits. */
static bool
is_uuid(const char * text)
{
	for (int i = 0; i < OUTBOX_ID_SIZE - 1; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i] != '-')
				return (false);
		} else if (text[i] == '\0' || strchr("0123456789abcdefABCDEF", text[i]) == NULL)
			return (false);
	}
	return (text[OUTBOX_ID_SIZE - 1] == '\0');
}

static enum outbox_code
check_json(const struct outbox_message * m, struct outbox_error * error)
{
	char reason[128];

	if (m->payload_json != NULL && !outbox_json_check(m->payload_json, reason, sizeof(reason)))
		return (outbox_error_set(error, OUTBOX_INVALID, "payload_json",
		    "payload_json is not valid JSON: %s", reason));
	if (m->headers != NULL && !outbox_headers_check(m->headers, reason, sizeof(reason)))
		return (outbox_error_set(error, OUTBOX_INVALID, "headers",
		    "headers must be a JSON object that AMQP can carry: %s", reason));
	return (OUTBOX_OK);
}

static enum outbox_code
check_numbers(const struct outbox_message * m, struct outbox_error * error)
{
	if (m->expiration_ms < OUTBOX_EXPIRES_AT_ONCE ||
	    m->expiration_ms > OUTBOX_EXPIRATION_MAX_MS)
		return (outbox_error_set(error, OUTBOX_INVALID, "expiration_ms",
		    "expiration_ms is %lld: it must be from 1 to %lld, or 0 for none",
		    (long long)m->expiration_ms, (long long)OUTBOX_EXPIRATION_MAX_MS));
	if (m->deliver_at_us < 0 || m->deliver_at_us > OUTBOX_DELIVER_AT_MAX_US)
		return (outbox_error_set(error, OUTBOX_INVALID, "deliver_at_us",
		    "deliver_at_us is %lld: it must be microseconds since 1970, before 10000",
		    (long long)m->deliver_at_us));
	if (m->priority < 0 || m->priority > 255)
		return (outbox_error_set(error, OUTBOX_INVALID, "priority",
		    "priority is %d: it must be from 0 to 255", m->priority));
	return (OUTBOX_OK);
}

enum outbox_code
outbox_check_message(const struct outbox_message * m, struct outbox_error * error)
{
	if (m->routing_key == NULL)
		return (outbox_error_set(error, OUTBOX_INVALID, "routing_key",
		    "routing_key is NULL: it is required, though it may be empty"));
	if (check_payload(m, error))
		return (error->code);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		const char * text;

		memcpy(&text, (const char *)m + fields[i].offset, sizeof(text));
		if (text != NULL && check_text(&fields[i], text, error))
			return (error->code);
	}
	if (check_json(m, error))
		return (error->code);
	if (m->message_id != NULL && !is_uuid(m->message_id))
		return (outbox_error_set(error, OUTBOX_INVALID, "message_id",
		    "message_id is no UUID like 01a1fc97-27c8-7a6e-9ab3-37137f6b813e"));
	return (check_numbers(m, error));
}
