#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "config/loading.h"

/*
 * OUTBOX_RELAY_* variables, which beat the file.  They are taken as they are:
 * no ${NAME} inside.  A variable that is no setting is a mistake like an
 * unknown key, but for those that container platforms make by themselves for
 * a service that is called outbox-relay.
 */
#define PREFIX SCHEMA_ENVIRONMENT_PREFIX

static bool
is_foreign(const char * name)
{
	static const char * const exact[] = {PREFIX "CONFIG", PREFIX "PORT", PREFIX "SERVICE_HOST",
	    PREFIX "SERVICE_PORT"};
	static const char * const families[] = {PREFIX "PORT_", PREFIX "SERVICE_PORT_"};

	for (size_t i = 0; i < sizeof(exact) / sizeof(exact[0]); i++) {
		if (strcmp(name, exact[i]) == 0)
			return (true);
	}
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		if (strncmp(name, families[i], strlen(families[i])) == 0)
			return (true);
	}
	return (false);
}

static void
report_unknown(struct loading * l, const char * name)
{
	char names[SCHEMA_SIZE_MAX][64];
	struct suggestion suggestion = {.word = name + strlen(PREFIX)};
	char remedy[128];

	for (size_t i = 0; i < schema_size; i++) {
		schema_environment_name(&schema[i], names[i], sizeof(names[i]));
		suggestion_offer(&suggestion, names[i] + strlen(PREFIX));
	}
	if (suggestion.best != NULL)
		snprintf(remedy, sizeof(remedy), "did you mean " PREFIX "%s?", suggestion.best);
	else
		snprintf(remedy, sizeof(remedy), "outbox-relay check --print lists all settings");
	report_error(l->report, (struct place){"environment", 0, 0}, remedy,
	    "unknown variable %.100s", name);
}

/* "a,b,c" to a list; blanks around an entry do not count. */
static void
read_list(struct loading * l, const struct setting * setting, const char * value,
    struct origin * origin)
{
	const char * texts[SCHEMA_LIST_MAX + 1];
	size_t count = 0;

	while (*value != '\0' && count <= SCHEMA_LIST_MAX) {
		size_t len = strcspn(value, ",");
		const char * next = value + len + (value[len] == ',');

		while (len > 0 && *value == ' ') {
			value++;
			len--;
		}
		while (len > 0 && value[len - 1] == ' ')
			len--;
		if ((texts[count] = pool_copy(l->pool, value, len)) == NULL) {
			l->report->out_of_memory = true;
			return;
		}
		if (count < SCHEMA_LIST_MAX)
			origin->items[count] = origin->place;
		count++;
		value = next;
	}
	loading_list(l, setting, texts, count, origin);
}

/* "[a, b]", as the file has it: no entry that we know begins with a bracket. */
static void
read_bracketed(struct loading * l, const struct setting * setting, const char * value,
    struct origin * origin)
{
	struct pool nodes = {0};
	unsigned int errors = l->report->errors;
	const char * texts[SCHEMA_LIST_MAX];
	const struct node * node = document_read(&nodes, l->report, origin->place.source, value,
	    strlen(value));
	size_t count = 0;

	if (l->report->errors > errors || node == NULL)
		goto done;
	for (const struct node * n = node->first; n != NULL && count < SCHEMA_LIST_MAX;
	     n = n->next) {
		if (node->kind != NODE_LIST || n->kind != NODE_SCALAR || node_is_null(n)) {
			report_error(l->report, origin->place, NULL,
			    "an entry of %s must be a text", setting->key);
			goto done;
		}
		origin->items[count] = origin->place;
		texts[count++] = n->text;
	}
	loading_list(l, setting, texts, node->count, origin);
done:
	pool_free(&nodes);
}

static void
read_maps(struct loading * l, const struct setting * setting, const char * value,
    const struct origin * origin)
{
	struct pool nodes = {0};
	unsigned int errors = l->report->errors;
	const struct node * node = document_read(&nodes, l->report, origin->place.source, value,
	    strlen(value));

	if (errors == l->report->errors)
		loading_maps(l, setting, node, origin);
	pool_free(&nodes);
}

static void
read_variable(struct loading * l, const struct setting * setting, const char * name,
    const char * value)
{
	struct origin origin = {.kind = ORIGIN_ENVIRONMENT};
	char source[128];
	int len = snprintf(source, sizeof(source), "environment %s", name);

	if ((origin.place.source = pool_copy(l->pool, source, (size_t)len)) == NULL) {
		l->report->out_of_memory = true;
		return;
	}
	if (setting->type == SETTING_STRINGS && *value == '[')
		read_bracketed(l, setting, value, &origin);
	else if (setting->type == SETTING_STRINGS)
		read_list(l, setting, value, &origin);
	else if (setting->type == SETTING_MAPS)
		read_maps(l, setting, value, &origin);
	else if (setting->nullable && (*value == '\0' || strcasecmp(value, "null") == 0))
		loading_value(l, setting, NULL, &origin);
	else
		loading_value(l, setting, value, &origin);
}

static const struct setting *
find_variable(const char * name)
{
	char candidate[64];

	for (size_t i = 0; i < schema_size; i++) {
		schema_environment_name(&schema[i], candidate, sizeof(candidate));
		if (strcmp(candidate, name) == 0)
			return (&schema[i]);
	}
	return (NULL);
}

void
loading_environment(struct loading * l)
{
	for (char * const * e = l->request->environment; e != NULL && *e != NULL; e++) {
		char name[256];
		const char * equals = strchr(*e, '=');
		const struct setting * setting;

		if (strncmp(*e, PREFIX, strlen(PREFIX)) != 0 || equals == NULL)
			continue;
		if (report_full(l->report))
			return;
		snprintf(name, sizeof(name), "%.*s", (int)(equals - *e), *e);
		if (is_foreign(name))
			continue;
		if ((setting = find_variable(name)) != NULL)
			read_variable(l, setting, name, equals + 1);
		else
			report_unknown(l, name);
	}
}
