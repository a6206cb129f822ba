#ifndef CONFIG_DOCUMENT_H
#define CONFIG_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "config/pool.h"
#include "config/report.h"

/* A YAML document as a tree that knows where everything stands. */
enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
	enum node_kind kind;
	bool plain;          /* a scalar without quotes */
	unsigned int line;   /* from 1 */
	unsigned int column; /* from 1, in characters */
	const char * text;   /* of a scalar */
	struct node * key;   /* of a map's entry: a scalar */
	struct node * first; /* of a list or map */
	struct node * next;  /* sibling */
	size_t count;        /* of children */
};

/* What a file may be made of; more is a mistake, not a configuration. */
#define DOCUMENT_BYTES_MAX (1024 * 1024)
#define DOCUMENT_DEPTH_MAX 16
#define DOCUMENT_NODES_MAX 50000
#define DOCUMENT_ENTRIES_MAX 256 /* of one map */

/**
 * document_read(pool, report, source, data, size):
 * Parse one YAML document of UTF-8 text; memory comes from ${pool}.  NULL
 * when it is empty or when an error was reported: syntax, more than one
 * document, anchors, aliases, tags, duplicate keys, a bound passed.
 * Duplicates are reported and the rest is read on.
 */
struct node * document_read(struct pool * pool, struct config_report * report, const char * source,
    const char * data, size_t size);

/**
 * node_is_null(node):
 * Whether it is YAML's null: nothing, ~ or null, without quotes.
 */
bool node_is_null(const struct node * node);

#endif /* CONFIG_DOCUMENT_H */
