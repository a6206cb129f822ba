#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "config/expand.h"
#include "config/loading.h"
#include "config/value.h"

/*
 * The lists of topology: each entry is a map, read by the table of its
 * fields.  What RabbitMQ would refuse for certain is a mistake here, with its
 * place, so that a typing error is not found in production.
 */
#define NAME_BYTES_MAX 255

enum field_kind { FIELD_TEXT, FIELD_EXCHANGE_TYPE, FIELD_QUEUE_TYPE, FIELD_BOOL, FIELD_ARGUMENTS };

struct field {
	const char * name;
	enum field_kind kind;
	size_t offset;
	const char * fallback; /* NULL: none */
	bool required;
	bool ours; /* a name to declare, not only to mention */
};

struct shape {
	const char * key;
	const char * form; /* how an entry is written */
	size_t size;
	size_t place_offset;
	const struct field * fields; /* a NULL name ends them */
};

#define FIELD(type, member, field_kind) \
	.name = #member, .kind = (field_kind), .offset = offsetof(struct type, member)

static const struct field exchange_fields[] = {
    {FIELD(config_exchange, name, FIELD_TEXT), .required = true, .ours = true},
    {FIELD(config_exchange, type, FIELD_EXCHANGE_TYPE), .fallback = "topic"},
    {FIELD(config_exchange, durable, FIELD_BOOL), .fallback = "true"},
    {FIELD(config_exchange, auto_delete, FIELD_BOOL), .fallback = "false"},
    {FIELD(config_exchange, internal, FIELD_BOOL), .fallback = "false"},
    {FIELD(config_exchange, arguments, FIELD_ARGUMENTS)},
    {.name = NULL},
};

static const struct field queue_fields[] = {
    {FIELD(config_queue, name, FIELD_TEXT), .required = true, .ours = true},
    {FIELD(config_queue, type, FIELD_QUEUE_TYPE), .fallback = "quorum"},
    {FIELD(config_queue, durable, FIELD_BOOL), .fallback = "true"},
    {FIELD(config_queue, auto_delete, FIELD_BOOL), .fallback = "false"},
    {FIELD(config_queue, arguments, FIELD_ARGUMENTS)},
    {.name = NULL},
};

static const struct field binding_fields[] = {
    {FIELD(config_binding, exchange, FIELD_TEXT), .required = true},
    {FIELD(config_binding, queue, FIELD_TEXT)},
    {FIELD(config_binding, to_exchange, FIELD_TEXT)},
    {FIELD(config_binding, routing_key, FIELD_TEXT), .fallback = ""},
    {FIELD(config_binding, arguments, FIELD_ARGUMENTS)},
    {.name = NULL},
};

static const struct shape shapes[] = {
    {"topology.exchanges", "{name: ..., type: topic}", sizeof(struct config_exchange),
	offsetof(struct config_exchange, place), exchange_fields},
    {"topology.queues", "{name: ..., type: quorum}", sizeof(struct config_queue),
	offsetof(struct config_queue, place), queue_fields},
    {"topology.bindings", "{exchange: ..., queue: ..., routing_key: ...}",
	sizeof(struct config_binding), offsetof(struct config_binding, place), binding_fields},
};

static const char * const exchange_types[] = {"direct", "fanout", "topic", "headers", NULL};
static const char * const queue_types[] = {"quorum", "classic", "stream", NULL};

/* What reading an entry needs. */
struct entry {
	struct loading * l;
	const struct shape * shape;
	const struct origin * origin;
	const struct node * node;
	char * item; /* a struct of the shape */
};

static struct place
entry_place(const struct entry * entry, const struct node * node)
{
	return ((struct place){entry->origin->place.source, node->line, node->column});
}

static void
complain(const struct entry * entry, const struct node * node, const char * remedy,
    const char * text)
{
	report_error(entry->l->report, entry_place(entry, node), remedy, "%s: %s",
	    entry->shape->key, text);
}

/* A scalar's text; NULL with the error reported. */
static const char *
scalar_text(struct entry * entry, const char * name, const struct node * node)
{
	const char * text = node->text;
	char why[256] = "", words[400];

	if (node->kind != NODE_SCALAR || node_is_null(node)) {
		snprintf(words, sizeof(words), "%.255s must be a single value", name);
		complain(entry, node, NULL, words);
		return (NULL);
	}
	/* Variables of the environment are taken as they are. */
	if (entry->origin->kind == ORIGIN_FILE)
		text = expand_value(entry->l->pool, node->text, entry->l->request->environment, why,
		    sizeof(why));
	/* The document goes before the configuration does. */
	if (text != NULL)
		text = pool_copy(entry->l->pool, text, strlen(text));
	if (text == NULL && why[0] == '\0')
		entry->l->report->out_of_memory = true;
	else if (text == NULL)
		complain(entry, node, "set the variable, or write $$ for a $ of the value itself",
		    why);
	return (text);
}

static int
find_choice(struct entry * entry, const struct node * node, const char * const * choices,
    const char * text)
{
	struct suggestion suggestion = {.word = text};
	char words[200], remedy[80];
	size_t len;

	for (int i = 0; choices[i] != NULL; i++) {
		if (strcmp(choices[i], text) == 0)
			return (i);
		suggestion_offer(&suggestion, choices[i]);
	}
	len = (size_t)snprintf(words, sizeof(words), "type must be one of");
	for (int i = 0; choices[i] != NULL; i++)
		len += (size_t)snprintf(words + len, sizeof(words) - len, "%s %s", i > 0 ? "," : "",
		    choices[i]);
	snprintf(words + len, sizeof(words) - len, ", not \"%.60s\"", text);
	if (suggestion.best != NULL)
		snprintf(remedy, sizeof(remedy), "did you mean \"%s\"?", suggestion.best);
	complain(entry, node, suggestion.best != NULL ? remedy : NULL, words);
	return (-1);
}

static void
store_text(struct entry * entry, const struct field * field, const struct node * node,
    const char * text)
{
	if (field->required && *text == '\0')
		complain(entry, node, NULL,
		    field->ours ? "name must not be empty" :
				  "nothing can be bound to the default exchange");
	else if (strlen(text) > NAME_BYTES_MAX)
		complain(entry, node, NULL, "names have at most 255 bytes");
	else if (field->ours && strncmp(text, "amq.", 4) == 0)
		complain(entry, node, "its own are always there: leave it out",
		    "RabbitMQ keeps names that begin with amq. for itself");
	else
		*(const char **)(void *)(entry->item + field->offset) = text;
}

/* YAML's idea of a type decides what RabbitMQ is given. */
static int
read_argument(struct entry * entry, const struct node * node, struct config_argument * argument)
{
	double number;

	if (strlen(node->key->text) > NAME_BYTES_MAX) {
		complain(entry, node->key, NULL, "names have at most 255 bytes");
		return (-1);
	}
	if ((argument->name = pool_copy(entry->l->pool, node->key->text,
		 strlen(node->key->text))) == NULL) {
		entry->l->report->out_of_memory = true;
		return (-1);
	}
	if (node_is_null(node)) {
		argument->kind = CONFIG_ARGUMENT_NOTHING;
		argument->text = "null";
		return (0);
	}
	if ((argument->text = scalar_text(entry, argument->name, node)) == NULL)
		return (-1);
	argument->kind = CONFIG_ARGUMENT_TEXT;
	if (!node->plain)
		return (0);
	if (value_integer(argument->text, &argument->number) == NULL) {
		argument->kind = CONFIG_ARGUMENT_INTEGER;
	} else if (strcmp(argument->text, "true") == 0 || strcmp(argument->text, "false") == 0) {
		argument->kind = CONFIG_ARGUMENT_BOOLEAN;
		argument->number = argument->text[0] == 't';
	} else if (value_number(argument->text, &number) == NULL) {
		complain(entry, node, "write it in quotes if a text is meant",
		    "no argument of RabbitMQ is a fraction");
		return (-1);
	}
	return (0);
}

static void
store_arguments(struct entry * entry, const struct field * field, const struct node * node)
{
	struct config_arguments * arguments;

	if (node->kind != NODE_MAP) {
		if (!node_is_null(node))
			complain(entry, node, "write it as {x-name: value}",
			    "arguments must be a map");
		return;
	}
	if (node->count > CONFIG_ARGUMENTS_MAX) {
		complain(entry, node, NULL, "more than 32 arguments");
		return;
	}
	if ((arguments = pool_alloc(entry->l->pool, sizeof(*arguments))) == NULL) {
		entry->l->report->out_of_memory = true;
		return;
	}
	for (const struct node * n = node->first; n != NULL; n = n->next) {
		if (strcmp(n->key->text, "x-queue-type") == 0 &&
		    strcmp(entry->shape->key, "topology.queues") == 0)
			complain(entry, n->key, "write type: beside name: instead",
			    "x-queue-type is not an argument here");
		else if (read_argument(entry, n, &arguments->list[arguments->count]) == 0)
			arguments->count++;
	}
	*(const struct config_arguments **)(void *)(entry->item + field->offset) = arguments;
}

static void
store_field(struct entry * entry, const struct field * field, const struct node * node,
    const char * text)
{
	char * value = entry->item + field->offset;
	int choice;

	switch (field->kind) {
	case FIELD_TEXT:
		store_text(entry, field, node, text);
		break;
	case FIELD_EXCHANGE_TYPE:
		/* Those of plugins are x-something. */
		if (strncmp(text, "x-", 2) == 0 ||
		    find_choice(entry, node, exchange_types, text) >= 0)
			*(const char **)(void *)value = text;
		break;
	case FIELD_QUEUE_TYPE:
		if ((choice = find_choice(entry, node, queue_types, text)) >= 0)
			*(int *)(void *)value = choice;
		break;
	case FIELD_BOOL:
		if (value_bool(text, (bool *)value) != NULL)
			complain(entry, node, NULL, "must be true or false");
		break;
	case FIELD_ARGUMENTS:
		store_arguments(entry, field, node);
		break;
	}
}

static void
unknown_field(struct entry * entry, const struct node * key)
{
	struct suggestion suggestion = {.word = key->text};
	char words[100], remedy[200];
	size_t len = 0;

	for (const struct field * f = entry->shape->fields; f->name != NULL; f++) {
		suggestion_offer(&suggestion, f->name);
		len += (size_t)snprintf(remedy + len, sizeof(remedy) - len, "%s%s",
		    len > 0 ? ", " : "known here: ", f->name);
	}
	if (suggestion.best != NULL)
		snprintf(remedy, sizeof(remedy), "did you mean \"%s\"?", suggestion.best);
	snprintf(words, sizeof(words), "unknown key \"%.60s\"", key->text);
	complain(entry, key, remedy, words);
}

/* What no single field shows. */
static void
check_entry(struct entry * entry)
{
	const struct config_queue * queue = (const void *)entry->item;
	const struct config_binding * binding = (const void *)entry->item;

	if (entry->shape->fields == queue_fields && queue->type != CONFIG_QUEUE_CLASSIC &&
	    (!queue->durable || queue->auto_delete))
		complain(entry, entry->node, "write type: classic, or leave that out",
		    "only a classic queue can be not durable, or auto_delete");
	if (entry->shape->fields == binding_fields &&
	    (binding->queue == NULL) == (binding->to_exchange == NULL))
		complain(entry, entry->node, NULL,
		    "a binding leads to a queue or to_exchange, to one of them");
}

static void
read_entry(struct entry * entry)
{
	unsigned int errors = entry->l->report->errors;
	char place[4200];
	int len;

	if (entry->node->kind != NODE_MAP) {
		report_error(entry->l->report, entry_place(entry, entry->node), NULL,
		    "an entry of %s must be a map: %s", entry->shape->key, entry->shape->form);
		return;
	}
	len = snprintf(place, sizeof(place), "%.4096s:%u", entry->origin->place.source,
	    entry->node->line);
	if ((*(char **)(void *)(entry->item +
		 entry->shape->place_offset) = pool_copy(entry->l->pool, place, (size_t)len)) ==
	    NULL)
		entry->l->report->out_of_memory = true;
	for (const struct field * f = entry->shape->fields; f->name != NULL; f++) {
		if (f->fallback != NULL)
			store_field(entry, f, entry->node, f->fallback);
	}
	for (const struct node * n = entry->node->first; n != NULL; n = n->next) {
		const struct field * field = entry->shape->fields;
		const char * text = NULL;

		while (field->name != NULL && strcmp(field->name, n->key->text) != 0)
			field++;
		if (field->name == NULL)
			unknown_field(entry, n->key);
		else if (field->kind == FIELD_ARGUMENTS ||
		    (text = scalar_text(entry, field->name, n)) != NULL)
			store_field(entry, field, n, text);
	}
	/* One mistake at a time: what follows from it says nothing new. */
	if (entry->l->report->errors > errors)
		return;
	for (const struct field * f = entry->shape->fields; f->name != NULL; f++) {
		char words[64];

		if (!f->required || *(const char **)(void *)(entry->item + f->offset) != NULL)
			continue;
		snprintf(words, sizeof(words), "an entry needs %s", f->name);
		complain(entry, entry->node, NULL, words);
		return;
	}
	check_entry(entry);
}

void
loading_maps(struct loading * l, const struct setting * setting, const struct node * node,
    const struct origin * origin)
{
	struct entry entry = {.l = l, .shape = shapes, .origin = origin};
	char * config = (char *)l->config;
	char * items;

	if (node == NULL || node->kind != NODE_LIST || node->count > (size_t)setting->max) {
		report_error(l->report, origin->place, NULL, "%s must be a list of at most %d maps",
		    setting->key, (int)setting->max);
		return;
	}
	while (strcmp(entry.shape->key, setting->key) != 0)
		entry.shape++;
	if ((items = pool_alloc(l->pool, (node->count + 1) * entry.shape->size)) == NULL) {
		l->report->out_of_memory = true;
		return;
	}
	entry.item = items;
	for (entry.node = node->first; entry.node != NULL; entry.node = entry.node->next) {
		if (report_full(l->report))
			break;
		read_entry(&entry);
		entry.item += entry.shape->size;
	}
	*(const void **)(void *)(config + setting->offset) = items;
	*(size_t *)(void *)(config + setting->count_offset) = node->count;
	*loading_origin(l->config, setting) = *origin;
}
