#include <stdio.h>
#include <string.h>

#include "config/loading.h"

/*
 * A loaded configuration for people: each value with the place that it comes
 * from.
 */

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
		    *(const size_t *)(const void *)((const char *)config + s->count_offset));
		break;
	default:
		schema_print(s, config, item->text, sizeof(item->text));
		break;
	}
	return (true);
}
