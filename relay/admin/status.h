#ifndef ADMIN_STATUS_H
#define ADMIN_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

/*
 * Questions about the outbox, for people: how it stands as a whole, and where
 * one message is.  Blocks.  A relay's or the owner's role may ask; the text of
 * times is the server's, in the session's time zone.
 */
struct status_options {
	const char * dsn;
	const char * password_file; /* NULL: none */
	const char * schema;
};

struct status;

/**
 * status_open(options, e):
 * Connect and see that the schema is there.  Strings are borrowed.  NULL with
 * ${e}.
 */
struct status * status_open(const struct status_options * options, struct error * e);
void status_close(struct status * status);

/*
 * Name and value, for printing; strings live until the next question.
 * value is NULL for what is not known or does not apply.
 */
struct status_line {
	const char * name;
	const char * value;
};
#define STATUS_LINES_MAX 24

/**
 * status_overview(status, lines, json, e):
 * The backlog, the position, who leads, how fast it goes: so many lines, and
 * the same as a JSON object.  0 with ${e} when it failed.
 */
size_t status_overview(struct status * status, struct status_line lines[STATUS_LINES_MAX],
    const char ** json, struct error * e);

/* What names a message on a command line. */
struct status_message {
	bool by_uuid;
	char uuid[37];
	int64_t id;
};

/**
 * status_message_from(text, message):
 * Read a UUID or a number.  false: neither.
 */
bool status_message_from(const char * text, struct status_message * message);

/**
 * status_find(status, message, ids, max, e):
 * The ids of the messages so named: one for a number, by UUID up to ${max},
 * since ids of messages need not be unique.  How many, or -1 with ${e}.  A
 * UUID that carries its time is looked for around it first, then everywhere.
 */
int status_find(struct status * status, const struct status_message * message, int64_t * ids,
    int max, struct error * e);

/**
 * status_show(status, id, lines, e):
 * All about one message but its payload: so many lines; 0 with ${e}, which is
 * EXIT_FOUND when there is no such message.
 */
size_t status_show(struct status * status, int64_t id, struct status_line lines[STATUS_LINES_MAX],
    struct error * e);

/**
 * status_payload(status, id, body, e):
 * Its body as it is, or will be, sent; lives until the next question.
 * 0, or -1 with ${e}.
 */
int status_payload(struct status * status, int64_t id, struct bytes * body, struct error * e);

#endif /* ADMIN_STATUS_H */
