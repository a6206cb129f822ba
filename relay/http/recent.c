#include "http/recent.h"

/*
 * Each call compares with the oldest sample, and leaves one of its own if the
 * newest is a second old.
 */
#define SPACING CLOCK_S(1)

static const struct recent_sample nothing;

static void
keep(struct recent * recent, clock_ns now, const struct stats * stats)
{
	recent->samples[recent->next] = (struct recent_sample){.at = now,
	    .confirmed = stats->confirmed,
	    .confirm = stats->confirm,
	    .commit = stats->commit_to_confirm};
	recent->next = (recent->next + 1) % RECENT_SAMPLES;
	if (recent->count < RECENT_SAMPLES)
		recent->count++;
}

void
recent_fill(struct recent * recent, clock_ns now, struct stats * stats)
{
	size_t newest = (recent->next + RECENT_SAMPLES - 1) % RECENT_SAMPLES;
	size_t first = recent->count < RECENT_SAMPLES ? 0 : recent->next;
	const struct recent_sample * oldest = recent->count == 0 ?
	    &nothing :
	    &recent->samples[first];
	double seconds = (double)(now - oldest->at) / (double)CLOCK_S(1);

	stats->confirmed_per_second = recent->count == 0 || seconds <= 0 ?
	    0 :
	    (double)(stats->confirmed - oldest->confirmed) / seconds;
	stats->confirm_p50 = histogram_quantile(&stats->confirm, &oldest->confirm, 0.5);
	stats->confirm_p99 = histogram_quantile(&stats->confirm, &oldest->confirm, 0.99);
	stats->commit_p50 = histogram_quantile(&stats->commit_to_confirm, &oldest->commit, 0.5);
	stats->commit_p99 = histogram_quantile(&stats->commit_to_confirm, &oldest->commit, 0.99);
	if (recent->count == 0 || now - recent->samples[newest].at >= SPACING)
		keep(recent, now, stats);
}
