#include "config/loading.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/expand.h"

/*
 * One value, wherever it comes from: stored with its origin, or reported.  A
 * mistake never ends a step, so that a person sees all of them in one go.
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
