#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "amqp/rabbitmq.h"
#include "base/bytes.h"
#include "core/message.h"

/*
 * What the fuzz targets share.  A target is one file here, named after what it
 * feeds; libFuzzer calls LLVMFuzzerTestOneInput with whatever it has thought
 * of, starting from tests/fuzz/corpus/TARGET.  A target does more than wait
 * for a crash: it compares what came out with what must come out.
 */
int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

/* Said with the place, then the process is aborted: libFuzzer keeps the input. */
#define CHECK(condition) \
	do { \
		if (!(condition)) \
			FAIL(#condition); \
	} while (0)
#define FAIL(what) \
	do { \
		fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, what); \
		abort(); \
	} while (0)

/* Bytes that a target takes from the front of its input. */
struct input {
	const char * data;
	size_t left;
};

/* 0 behind the end. */
static inline unsigned int
input_byte(struct input * in)
{
	if (in->left == 0)
		return (0);
	in->left--;
	return ((unsigned char)*in->data++);
}

/* At most ${size} bytes. */
static inline struct bytes
input_bytes(struct input * in, size_t size)
{
	struct bytes b = {in->data, size < in->left ? size : in->left};

	in->data += b.len;
	in->left -= b.len;
	return (b);
}

/*
 * What headers become, said once more and in another way (reference.c), so
 * that the code and its check cannot share a mistake.
 */
#define REFERENCE_EVENTS 6
struct reference {
	json_t * object;                            /* of the headers; NULL: none */
	const char * why;                           /* they cannot be sent; NULL: they can */
	amqp_table_entry_t event[REFERENCE_EVENTS]; /* CloudEvents attributes behind them */
	size_t event_count;
	char id[40];
	char time[40];
};

/**
 * reference_read(text):
 * What is to become of the headers ${text} (BYTES_NONE: none).
 */
struct reference reference_read(struct bytes text);

/**
 * reference_event(r, message, source):
 * ${message} with the headers ${r} is sent as a CloudEvent of ${source} (NULL: it is
 * not).  Pointers into all of them are kept.
 */
void reference_event(struct reference * r, const struct message * message, const char * source);

/**
 * reference_free(r):
 * Give the memory back.
 */
void reference_free(struct reference * r);

/**
 * reference_size(r, own, own_count):
 * Bytes of the encoded table with the relay's ${own} entries.
 */
size_t reference_size(const struct reference * r, const amqp_table_entry_t * own, size_t own_count);

/**
 * reference_compare(r, own, own_count, table):
 * Abort unless ${table}, as decoded by rabbitmq-c, has ${own}, the headers and the
 * event's attributes, in that order, and nothing else.
 */
void reference_compare(const struct reference * r, const amqp_table_entry_t * own, size_t own_count,
    const amqp_table_t * table);

/**
 * reference_utf8(text):
 * Whether ${text} is UTF-8, as jansson sees it.
 */
bool reference_utf8(struct bytes text);

#endif /* FUZZ_H */
