#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/expand.h"
#include "config/loading.h"

/*
 * Defaults, file, environment, checks: each step overwrites what the one
 * before stored and remembers where the value came from.  A mistake never ends
 * a step, so that a person sees all of them in one go; the values are good
 * only when nothing was reported.
 */

struct origin *
loading_origin(const struct config * config, const struct setting * setting)
{
	return (&config->private->origins[setting - schema]);
}

/*
 * A file named without a directory of its own may be a systemd credential;
 * else it lies beside the configuration that names it.
 */
static const char *
find_file(struct loading * l, const char * name, const struct origin * origin)
{
	const char * credentials = expand_find(l->request->environment, "CREDENTIALS_DIRECTORY");
	char path[8192];

	if (name == NULL || name[0] == '/' || name[0] == '\0' || strlen(name) > 4000)
		return (name);
	if (credentials != NULL && credentials[0] != '\0') {
		int len = snprintf(path, sizeof(path), "%.4000s/%s", credentials, name);

		if (access(path, F_OK) == 0)
			return (pool_copy(l->pool, path, (size_t)len));
	}
	if (origin->kind == ORIGIN_FILE && strchr(l->request->file, '/') != NULL) {
		const char * file = l->request->file;
		int len = snprintf(path, sizeof(path), "%.*s/%s", (int)(strrchr(file, '/') - file),
		    file, name);

		if (len > 0 && (size_t)len < sizeof(path))
			return (pool_copy(l->pool, path, (size_t)len));
	}
	return (name);
}

static void
report_value(struct loading * l, const struct setting * setting, struct place place,
    const char * text, const char * why)
{
	/* A value that may hold a password is not repeated. */
	if (setting->secret != CONFIG_PUBLIC)
		report_error(l->report, place, NULL, "%s must be %s", setting->key, why);
	else if (text == NULL)
		report_error(l->report, place, NULL, "%s must be %s, not null", setting->key, why);
	else
		report_error(l->report, place, NULL, "%s must be %s, not \"%.60s\"%s", setting->key,
		    why, text, strlen(text) > 60 ? "..." : "");
}

void
loading_value(struct loading * l, const struct setting * setting, const char * text,
    const struct origin * origin)
{
	char why[256] = "";

	if (setting->type == SETTING_FILE && text != NULL &&
	    (text = find_file(l, text, origin)) == NULL) {
		l->report->out_of_memory = true;
		return;
	}
	switch (schema_store(setting, l->config, l->pool, text, why, sizeof(why))) {
	case 0:
		*loading_origin(l->config, setting) = *origin;
		break;
	case -1:
		report_value(l, setting, origin->place, text, why);
		break;
	default:
		l->report->out_of_memory = true;
		break;
	}
}

void
loading_list(struct loading * l, const struct setting * setting, const char * const * texts,
    size_t count, const struct origin * origin)
{
	char * config = (char *)l->config;
	unsigned int errors = l->report->errors;
	const char ** list;

	if (count < (size_t)setting->min || count > (size_t)setting->max) {
		report_error(l->report, origin->place, NULL,
		    "%s must have %d to %d entries, not %zu", setting->key, (int)setting->min,
		    (int)setting->max, count);
		return;
	}
	if ((list = pool_alloc(l->pool, (count + 1) * sizeof(*list))) == NULL) {
		l->report->out_of_memory = true;
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const char * why = setting->check(texts[i]);

		if (why != NULL)
			report_value(l, setting, origin->items[i], texts[i], why);
		else if ((list[i] = pool_copy(l->pool, texts[i], strlen(texts[i]))) == NULL)
			l->report->out_of_memory = true;
	}
	if (l->report->errors > errors || l->report->out_of_memory)
		return;
	*(const char ***)(config + setting->offset) = list;
	*(size_t *)(config + setting->count_offset) = count;
	*loading_origin(l->config, setting) = *origin;
}

void
loading_maps(struct loading * l, const struct setting * setting, const struct node * node,
    const struct origin * origin)
{
	if (node == NULL || node->kind != NODE_LIST || node->count > (size_t)setting->max) {
		report_error(l->report, origin->place, NULL, "%s must be a list of at most %d maps",
		    setting->key, (int)setting->max);
		return;
	}
	for (const struct node * item = node->first; item != NULL; item = item->next) {
		struct place place = {origin->place.source, item->line, item->column};

		if (item->kind != NODE_MAP)
			report_error(l->report, place, "write it as {name: ...}",
			    "an entry of %s must be a map", setting->key);
	}
	*(size_t *)((char *)l->config + setting->offset) = node->count;
	*loading_origin(l->config, setting) = *origin;
}

static void
load_defaults(struct loading * l)
{
	struct origin origin = {.kind = ORIGIN_DEFAULT, .place = {"default", 0, 0}};

	for (const struct setting * s = schema; s < schema + schema_size; s++) {
		if (s->type == SETTING_STRINGS)
			loading_list(l, s, &s->fallback, 1, &origin);
		else if (s->type == SETTING_MAPS)
			*loading_origin(l->config, s) = origin;
		else
			loading_value(l, s, s->fallback, &origin);
	}
}

int
config_load(struct config * config, const struct config_request * request,
    struct config_report * report)
{
	struct loading l = {.config = config, .report = report, .request = request};

	*config = (struct config){0};
	if ((config->private = calloc(1, sizeof(*config->private))) == NULL) {
		report->out_of_memory = true;
		return (-1);
	}
	l.pool = &config->private->pool;
	load_defaults(&l);
	loading_file(&l);
	loading_environment(&l);
	loading_check(&l);
	return (report->errors > 0 || report->out_of_memory ? -1 : 0);
}

void
config_free(struct config * config)
{
	if (config->private != NULL)
		pool_free(&config->private->pool);
	free(config->private);
	*config = (struct config){0};
}

void
config_complain(const struct config * config, struct config_report * report, const char * key,
    size_t item, const char * text, const char * remedy)
{
	const struct origin * origin = loading_origin(config, schema_find(key));
	struct place place = origin->place;

	if (item < SCHEMA_LIST_MAX && origin->items[item].source != NULL)
		place = origin->items[item];
	report_error(report, place, remedy, "%s: %s", key, text);
}

static void
describe_place(const struct origin * origin, struct config_item * item)
{
	if (origin->kind == ORIGIN_FILE)
		snprintf(item->place, sizeof(item->place), "%.4096s:%u", origin->place.source,
		    origin->place.line);
	else
		snprintf(item->place, sizeof(item->place), "%s", origin->place.source);
}

bool
config_item(const struct config * config, size_t index, struct config_item * item)
{
	const struct setting * s = &schema[index];
	const char * value;

	if (index >= schema_size)
		return (false);
	value = (const char *)config + s->offset;
	item->key = s->key;
	schema_environment_name(s, item->name, sizeof(item->name));
	item->environment_name = item->name;
	item->secret = s->secret;
	item->list = s->type == SETTING_STRINGS;
	item->count = 1;
	item->values[0] = item->text;
	describe_place(loading_origin(config, s), item);
	switch (s->type) {
	case SETTING_STRING:
	case SETTING_FILE:
		item->values[0] = *(const char * const *)(const void *)value;
		item->count = item->values[0] != NULL;
		break;
	case SETTING_STRINGS:
		item->count = *(const size_t *)(const void *)((const char *)config +
		    s->count_offset);
		memcpy(item->values, *(const char * const * const *)(const void *)value,
		    item->count * sizeof(item->values[0]));
		break;
	case SETTING_MAPS:
		snprintf(item->text, sizeof(item->text), "%zu declared",
		    *(const size_t *)(const void *)value);
		break;
	default:
		schema_print(s, config, item->text, sizeof(item->text));
		break;
	}
	return (true);
}
