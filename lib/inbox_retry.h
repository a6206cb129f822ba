#ifndef INBOX_RETRY_H
#define INBOX_RETRY_H

#include <stdint.h>

/*
 * When to try a lost connection again: twice as long each time, not quite at
 * the same moment as others.
 */
#define INBOX_RETRY_MIN_MS 100
#define INBOX_RETRY_MAX_MS 10000

struct inbox_retry {
	int64_t wait_ms;   /* the last wait */
	int64_t at_ms;     /* the next attempt */
	int64_t opened_ms; /* when it was connected; 0: it was not since the last loss */
};

/**
 * inbox_retry_lost(retry, now_ms, random):
 * It is lost, or could not be connected.  A connection that has lasted begins
 * with short waits again.
 */
void inbox_retry_lost(struct inbox_retry * retry, int64_t now_ms, unsigned int random);

/**
 * inbox_backoff_ms(initial_ms, max_ms, failures):
 * How long to wait after so many failures (at least one).
 */
int64_t inbox_backoff_ms(int64_t initial_ms, int64_t max_ms, int failures);

#endif /* INBOX_RETRY_H */
