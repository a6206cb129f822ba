#include "config/config.h"

#include <stdlib.h>

#include "config/loading.h"

/*
 * Defaults, file, environment, checks: each step overwrites what the one
 * before stored and remembers where the value came from.  The values are good
 * only when nothing was reported.
 */

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
