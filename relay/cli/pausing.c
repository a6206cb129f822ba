#include "cli/pausing.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

static void
copy(char * to, size_t size, struct bytes from)
{
	snprintf(to, size, "%.*s", (int)from.len, from.data == NULL ? "" : from.data);
}

static bool
has(const struct pausing * pausing, const char * exchange)
{
	for (size_t n = 0; n < pausing->exchange_count; n++) {
		if (strcmp(pausing->exchanges[n], exchange) == 0)
			return (true);
	}
	return (false);
}

static void
tell_paused(const char * reason)
{
	log_info("paused", LOG_STR("reason", reason),
	    LOG_STR("remedy", "outbox-relay resume, when it is time"));
}

static void
tell_exchanges(const struct pausing * before, const struct pausing * now,
    const struct pause * pause)
{
	char reason[512];

	for (size_t n = 0; n < now->exchange_count; n++) {
		if (has(before, now->exchanges[n]))
			continue;
		copy(reason, sizeof(reason), pause->lanes[n].reason);
		tell_paused(reason);
	}
	for (size_t n = 0; n < before->exchange_count; n++) {
		if (!has(now, before->exchanges[n]))
			log_info("resumed", LOG_STR("exchange", before->exchanges[n]));
	}
}

void
pausing_set(struct pausing * pausing, const struct pause * pause, bool room)
{
	struct pausing before = *pausing;

	*pausing = (struct pausing){.all = pause->all || !room};
	if (pause->all)
		copy(pausing->why, sizeof(pausing->why), pause->reason);
	else if (!room)
		strcpy(pausing->why,
		    "everything is paused, since more exchanges are than there is room for");
	for (size_t n = 0; n < pause->lane_count && n < PAUSES_MAX; n++)
		copy(pausing->exchanges[pausing->exchange_count++], sizeof(pausing->exchanges[0]),
		    pause->lanes[n].exchange);
	if (pausing->all && !before.all)
		tell_paused(pausing->why);
	if (before.all && !pausing->all)
		log_info("resumed", LOG_STR("exchange", "all that are not paused themselves"));
	tell_exchanges(&before, pausing, pause);
}
