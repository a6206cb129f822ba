#ifndef CLI_PAUSING_H
#define CLI_PAUSING_H

#include <stdbool.h>
#include <stddef.h>

#include "core/delayed.h"

/*
 * What is paused, as the running daemon knows it: for its log, its status, and
 * whoever else wants to show it.
 */
struct pausing {
	bool all;
	char why[512]; /* all: in words */
	size_t exchange_count;
	char exchanges[PAUSES_MAX][256];
};

/**
 * pausing_set(pausing, pause, room):
 * Take over what was learned, and log what is new and what is over.  ${room}: the
 * core had room for all of it.
 */
void pausing_set(struct pausing * pausing, const struct pause * pause, bool room);

#endif /* CLI_PAUSING_H */
