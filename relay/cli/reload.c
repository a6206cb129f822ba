/*
 * What must stay true: nothing of a configuration with a mistake is taken over, and
 * the log says of each changed key whether it is in force.
 */
#include "cli/reload.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/configure.h"

/* What reload_now takes over, if it is another value. */
static const char * const changeable[] = {"log.level", "log.format", "retry.initial",
    "retry.multiplier", "retry.max", "retry.max_attempts", "publish.window"};

void
reload_init(struct reload * reload, const struct cli_arguments * arguments,
    const struct config * config)
{
	*reload = (struct reload){.arguments = arguments, .started = config, .in_force = *config};
}

static bool
is_changeable(const char * key)
{
	for (size_t i = 0; i < sizeof(changeable) / sizeof(changeable[0]); i++) {
		if (strcmp(changeable[i], key) == 0)
			return (true);
	}
	return (false);
}

/* The daemon does not look at what is to be declared: "topology apply" does. */
static bool
is_read_elsewhere(const char * key)
{
	return (strncmp(key, "topology.", strlen("topology.")) == 0);
}

static bool
is_same(const struct config_item * a, const struct config_item * b)
{
	if (a->count != b->count)
		return (false);
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->values[i], b->values[i]) != 0)
			return (false);
	}
	return (true);
}

static void
refuse(const char * key, const char * reason)
{
	log_warn("reload_refused", LOG_STR("key", key), LOG_STR("reason", reason),
	    LOG_STR("remedy", "restart the relay"));
}

/* Say what has changed and cannot; put together what has and can. */
static void
compare(const struct config * now, const struct config * fresh, char * changed, size_t size)
{
	struct config_item before, after;
	size_t used = 0;

	changed[0] = '\0';
	for (size_t i = 0; config_item(now, i, &before) && config_item(fresh, i, &after); i++) {
		if (is_same(&before, &after) || is_read_elsewhere(before.key))
			continue;
		if (!is_changeable(before.key))
			refuse(before.key, "it cannot change while the relay runs");
		else if (used < size)
			used += (size_t)snprintf(changed + used, size - used, "%s%s",
			    used > 0 ? " " : "", before.key);
	}
}

void
reload_now(struct reload * reload, struct core * core)
{
	struct config_report report = {0};
	struct config fresh = {0};
	struct config * now = &reload->in_force;
	char changed[256];

	if (configure_load(&fresh, reload->arguments, &report)) {
		config_report_log(&report);
		log_error("reload_failed", LOG_INT("mistakes", report.errors),
		    LOG_STR("reason", "the old configuration stays in force"),
		    LOG_STR("remedy", "outbox-relay check, then reload again"));
		goto out;
	}
	config_report_log(&report);
	if (fresh.publish.window > reload->started->publish.window) {
		refuse("publish.window", "it cannot become more than it was at the start");
		fresh.publish.window = now->publish.window;
	}
	compare(now, &fresh, changed, sizeof(changed));
	now->log = fresh.log;
	now->publish.window = fresh.publish.window;
	fresh.retry.on_dead = now->retry.on_dead;
	now->retry = fresh.retry;
	core_change(core,
	    &(struct core_change){.window = now->publish.window,
		.initial = now->retry.initial,
		.multiplier = now->retry.multiplier,
		.max = now->retry.max,
		.max_attempts = now->retry.max_attempts});
	log_configure((enum log_level)now->log.level, (enum log_format)now->log.format);
	log_info("reloaded", LOG_STR("changed", changed[0] == '\0' ? "nothing" : changed));
out:
	config_report_free(&report);
	config_free(&fresh);
}
