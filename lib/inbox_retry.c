#include "inbox_retry.h"

void
inbox_retry_lost(struct inbox_retry * retry, int64_t now_ms, unsigned int random)
{
	if (retry->opened_ms != 0 && now_ms - retry->opened_ms > INBOX_RETRY_MAX_MS)
		retry->wait_ms = 0;
	retry->opened_ms = 0;
	retry->wait_ms = retry->wait_ms == 0 ? INBOX_RETRY_MIN_MS : 2 * retry->wait_ms;
	if (retry->wait_ms > INBOX_RETRY_MAX_MS)
		retry->wait_ms = INBOX_RETRY_MAX_MS;
	retry->at_ms = now_ms + retry->wait_ms - random % (unsigned int)(retry->wait_ms / 4);
}

int64_t
inbox_backoff_ms(int64_t initial_ms, int64_t max_ms, int failures)
{
	int64_t wait = initial_ms;

	for (int i = 1; i < failures && wait < max_ms; i++)
		wait *= 2;
	return (wait < max_ms ? wait : max_ms);
}
