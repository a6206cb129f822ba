#ifndef AMQP_ENQUIRY_DECLARE_H
#define AMQP_ENQUIRY_DECLARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "amqp/enquiry.h"
#include "base/error.h"

/*
 * Exchanges, queues and bindings, made by the connection of an enquiry.  Any
 * answer but ENQUIRY_YES comes with ${e}.
 */

/* An optional argument of what is declared; at most ENQUIRY_ARGUMENTS_MAX. */
enum enquiry_argument_kind {
	ENQUIRY_ARGUMENT_TEXT,
	ENQUIRY_ARGUMENT_INTEGER,
	ENQUIRY_ARGUMENT_BOOLEAN,
	ENQUIRY_ARGUMENT_NOTHING
};

struct enquiry_argument {
	const char * name;
	enum enquiry_argument_kind kind;
	const char * text;
	int64_t number; /* an integer; 0 or 1 */
};

#define ENQUIRY_ARGUMENTS_MAX 40

struct enquiry_arguments {
	size_t count;
	struct enquiry_argument list[ENQUIRY_ARGUMENTS_MAX];
};

struct enquiry_declaration {
	const char * name;
	const char * type; /* of an exchange */
	bool durable;
	bool auto_delete;
	bool internal; /* of an exchange */
	struct enquiry_arguments arguments;
};

struct enquiry_binding {
	const char * exchange;    /* from here */
	const char * destination; /* to there */
	bool to_exchange;
	const char * routing_key;
	struct enquiry_arguments arguments;
};

/**
 * enquiry_declare_exchange(enquiry, declaration, e),
 * enquiry_declare_queue(enquiry, declaration, e), enquiry_bind(enquiry, binding, e):
 * Make it, or find that it is there as described (ENQUIRY_YES either way), or
 * find that it is there and differs, and change nothing.
 */
enum enquiry_answer enquiry_declare_exchange(struct enquiry * enquiry,
    const struct enquiry_declaration * declaration, struct error * e);
enum enquiry_answer enquiry_declare_queue(struct enquiry * enquiry,
    const struct enquiry_declaration * declaration, struct error * e);
enum enquiry_answer enquiry_bind(struct enquiry * enquiry, const struct enquiry_binding * binding,
    struct error * e);

#endif /* AMQP_ENQUIRY_DECLARE_H */
