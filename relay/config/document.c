#include "config/document.h"

#include <stdio.h>
#include <string.h>

#include <yaml.h>

/*
 * From libyaml's events to a tree.  The events are taken one by one rather
 * than as libyaml's own document, so that every bound holds while the file is
 * read and not after, and so that aliases are seen: they are refused, as no
 * configuration of this size needs them and expanding them has none.
 */
struct reading {
	yaml_parser_t parser;
	struct pool * pool;
	struct config_report * report;
	const char * source;
	const char * data;
	size_t size;
	size_t nodes;
};

static struct place
place_of(const struct reading * r, yaml_mark_t mark)
{
	return ((struct place){r->source, (unsigned int)mark.line + 1,
	    (unsigned int)mark.column + 1});
}

static bool
is_indented_by_tab(const struct reading * r, size_t line)
{
	size_t i = 0;

	for (; line > 0 && i < r->size; i++)
		line -= r->data[i] == '\n';
	while (i < r->size && r->data[i] == ' ')
		i++;
	return (i < r->size && r->data[i] == '\t');
}

static void
report_syntax(struct reading * r)
{
	const yaml_parser_t * p = &r->parser;
	const char * problem = p->problem == NULL ? "not readable" : p->problem;

	if (p->error == YAML_MEMORY_ERROR) {
		r->report->out_of_memory = true;
	} else if (p->error == YAML_READER_ERROR) {
		unsigned int line = 1;

		for (size_t i = 0; i < p->problem_offset && i < r->size; i++)
			line += r->data[i] == '\n';
		report_error(r->report, (struct place){r->source, line, 1},
		    "the file must be UTF-8 text", "not valid YAML: %s", problem);
	} else {
		report_error(r->report, place_of(r, p->problem_mark),
		    is_indented_by_tab(r, p->problem_mark.line) ? "indent with spaces, not tabs" :
								  NULL,
		    "not valid YAML: %s%s%s", problem, p->context == NULL ? "" : " ",
		    p->context == NULL ? "" : p->context);
	}
}

/* The next event, or -1 with the error reported. */
static int
next_event(struct reading * r, yaml_event_t * event)
{
	if (!yaml_parser_parse(&r->parser, event)) {
		report_syntax(r);
		return (-1);
	}
	return (0);
}

static struct node *
new_node(struct reading * r, enum node_kind kind, yaml_mark_t mark)
{
	struct node * node;

	if (++r->nodes > DOCUMENT_NODES_MAX) {
		report_error(r->report, place_of(r, mark), NULL, "the file has more than %d values",
		    DOCUMENT_NODES_MAX);
		return (NULL);
	}
	if ((node = pool_alloc(r->pool, sizeof(*node))) == NULL) {
		r->report->out_of_memory = true;
		return (NULL);
	}
	node->kind = kind;
	node->line = (unsigned int)mark.line + 1;
	node->column = (unsigned int)mark.column + 1;
	return (node);
}

static struct node *
read_scalar(struct reading * r, const yaml_event_t * event)
{
	struct node * node = new_node(r, NODE_SCALAR, event->start_mark);
	const char * text = (const char *)event->data.scalar.value;

	if (node == NULL)
		return (NULL);
	if (strlen(text) != event->data.scalar.length) {
		report_error(r->report, place_of(r, event->start_mark), "remove the \\0",
		    "a value holds a zero byte");
		return (NULL);
	}
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	if ((node->text = pool_copy(r->pool, text, event->data.scalar.length)) == NULL) {
		r->report->out_of_memory = true;
		return (NULL);
	}
	return (node);
}

/* Whether the event bears an anchor or a tag; reports it. */
static bool
is_decorated(struct reading * r, const yaml_event_t * event)
{
	const yaml_char_t * anchor = NULL;
	const yaml_char_t * tag = NULL;

	if (event->type == YAML_SCALAR_EVENT) {
		anchor = event->data.scalar.anchor;
		tag = event->data.scalar.tag;
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		anchor = event->data.sequence_start.anchor;
		tag = event->data.sequence_start.tag;
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		anchor = event->data.mapping_start.anchor;
		tag = event->data.mapping_start.tag;
	}
	if (event->type == YAML_ALIAS_EVENT || anchor != NULL) {
		report_error(r->report, place_of(r, event->start_mark),
		    "write the value where it is used",
		    "anchors (&) and aliases (*) are not supported");
		return (true);
	}
	if (tag != NULL) {
		report_error(r->report, place_of(r, event->start_mark), "remove the tag",
		    "tags (!) are not supported");
		return (true);
	}
	return (false);
}

static void
check_duplicate(struct reading * r, const struct node * map, const struct node * key)
{
	for (const struct node * entry = map->first; entry != NULL; entry = entry->next) {
		if (strcmp(entry->key->text, key->text) == 0) {
			report_error(r->report, (struct place){r->source, key->line, key->column},
			    "keep one of them", "\"%.60s\" is set twice (first in line %u)",
			    key->text, entry->key->line);
			return;
		}
	}
}

static struct node * read_node(struct reading *, const yaml_event_t *, int depth);

/* The key of a map's next entry into *key; 0 at the end of the map. */
static int
read_key(struct reading * r, const struct node * map, struct node ** key)
{
	yaml_event_t event;
	int status = -1;

	if (next_event(r, &event))
		return (-1);
	if (event.type == YAML_MAPPING_END_EVENT) {
		status = 0;
	} else if (map->count >= DOCUMENT_ENTRIES_MAX) {
		report_error(r->report, place_of(r, event.start_mark), NULL,
		    "a map has more than %d keys", DOCUMENT_ENTRIES_MAX);
	} else if (event.type != YAML_SCALAR_EVENT && event.type != YAML_ALIAS_EVENT) {
		report_error(r->report, place_of(r, event.start_mark), NULL,
		    "a key must be a word, not a list or map");
	} else if (!is_decorated(r, &event)) {
		if ((*key = read_scalar(r, &event)) != NULL) {
			check_duplicate(r, map, *key);
			status = 1;
		}
	}
	yaml_event_delete(&event);
	return (status);
}

static int
read_children(struct reading * r, struct node * parent, int depth)
{
	struct node ** end = &parent->first;

	for (;;) {
		yaml_event_t event;
		struct node * key = NULL;
		struct node * child;
		int status = 1;

		if (parent->kind == NODE_MAP && (status = read_key(r, parent, &key)) <= 0)
			return (status);
		if (next_event(r, &event))
			return (-1);
		if (event.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&event);
			return (0);
		}
		child = read_node(r, &event, depth);
		yaml_event_delete(&event);
		if (child == NULL)
			return (-1);
		child->key = key;
		*end = child;
		end = &child->next;
		parent->count++;
	}
}

/* The node that begins with the event; NULL with the error reported. */
static struct node *
read_node(struct reading * r, const yaml_event_t * event, int depth)
{
	struct node * node;

	if (is_decorated(r, event))
		return (NULL);
	if (event->type == YAML_SCALAR_EVENT)
		return (read_scalar(r, event));
	if (depth >= DOCUMENT_DEPTH_MAX) {
		report_error(r->report, place_of(r, event->start_mark), NULL,
		    "nested deeper than %d levels", DOCUMENT_DEPTH_MAX);
		return (NULL);
	}
	node = new_node(r, event->type == YAML_MAPPING_START_EVENT ? NODE_MAP : NODE_LIST,
	    event->start_mark);
	if (node == NULL || read_children(r, node, depth + 1))
		return (NULL);
	return (node);
}

static struct node *
read_stream(struct reading * r)
{
	struct node * root = NULL;

	for (;;) {
		yaml_event_t event;
		yaml_event_type_t type;
		bool failed = false;

		if (next_event(r, &event))
			return (NULL);
		type = event.type;
		if (type == YAML_DOCUMENT_START_EVENT && root != NULL) {
			report_error(r->report, place_of(r, event.start_mark), "keep one document",
			    "the file holds more than one document");
			failed = true;
		} else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
		    type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT) {
			root = read_node(r, &event, 0);
			failed = root == NULL;
		}
		yaml_event_delete(&event);
		if (failed)
			return (NULL);
		if (type == YAML_STREAM_END_EVENT)
			return (root);
	}
}

struct node *
document_read(struct pool * pool, struct config_report * report, const char * source,
    const char * data, size_t size)
{
	struct reading r = {
	    .pool = pool,
	    .report = report,
	    .source = source,
	    .data = data,
	    .size = size,
	};
	struct node * root;

	if (size > DOCUMENT_BYTES_MAX) {
		report_error(report, (struct place){source, 0, 0}, NULL, "larger than %d bytes",
		    DOCUMENT_BYTES_MAX);
		return (NULL);
	}
	if (!yaml_parser_initialize(&r.parser)) {
		report->out_of_memory = true;
		return (NULL);
	}
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)data, size);
	root = read_stream(&r);
	yaml_parser_delete(&r.parser);
	return (root);
}

bool
node_is_null(const struct node * node)
{
	return (node->kind == NODE_SCALAR && node->plain &&
	    (node->text[0] == '\0' || strcmp(node->text, "~") == 0 ||
		strcasecmp(node->text, "null") == 0));
}
