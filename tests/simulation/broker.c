#include <string.h>

#include "world.h"

/*
 * A connection is a pipe: the broker takes messages in the order sent, and
 * answers for those that it took in any order.
 */

void
broker_publish(struct world * w, const struct core_action * action)
{
	uint32_t n = (uint32_t)(action->publish.message->id - 1);
	uint64_t ticket = action->publish.ticket;
	struct world_row * row = &w->rows[n];

	promise_at_publish(w, action);
	if (w->queue_count == sizeof(w->queue) / sizeof(w->queue[0]) ||
	    (!w->quiet && one_in(w, 20))) {
		happened(w, EVENT_not_taken);
		w->full = true;
		core_on_settled(w->core, w->now, ticket, CORE_NOT_TAKEN);
		core_on_link_full(w->core, true);
		return;
	}
	happened(w, action->publish.again ? EVENT_republished : EVENT_published);
	row->out = true;
	row->refused = false;
	if (row->unfit > 0) {
		row->unfit--;
		row->refused = true;
		happened(w, EVENT_unfit);
		core_on_settled(w->core, w->now, ticket, CORE_UNFIT);
		return;
	}
	world_say(w, "publish %u%s", n + 1, action->publish.again ? " again" : "");
	row->ticket = ticket;
	w->queue[w->queue_count++] = (struct publication){.row = n, .ticket = ticket};
}

static void
deliver(struct world * w, uint32_t row)
{
	promise_at_delivery(w, row);
	w->rows[row].deliveries++;
	world_say(w, "delivered %u", row + 1);
}

static void
take(struct world * w, struct publication * p)
{
	p->state = TAKEN;
	if (w->refusals && !w->quiet && one_in(w, 10))
		p->state = one_in(w, 2) ? NACKED : RETURNED;
	if (p->state == NACKED && one_in(w, 3)) {
		/* One queue refused it, another one took it. */
		happened(w, EVENT_nacked_but_delivered);
		w->delivered_nacks++;
		deliver(w, p->row);
	}
	if (p->state == TAKEN)
		deliver(w, p->row);
}

void
broker_process(struct world * w)
{
	uint32_t count = 1 + below(w, 8);

	for (uint32_t n = 0; n < w->queue_count && count > 0; n++) {
		if (w->queue[n].state == SENT) {
			take(w, &w->queue[n]);
			count--;
		}
	}
}

static void
settle(struct world * w, uint32_t at)
{
	static const enum core_outcome outcomes[] =
	    {[TAKEN] = CORE_CONFIRMED, [NACKED] = CORE_NACKED, [RETURNED] = CORE_RETURNED};
	struct publication p = w->queue[at];
	struct world_row * row = &w->rows[p.row];

	if (at > 0 && w->queue[0].state != SENT)
		happened(w, EVENT_acked_out_of_order);
	happened(w,
	    p.state == TAKEN      ? EVENT_acked :
		p.state == NACKED ? EVENT_nacked :
				    EVENT_returned);
	w->queue_count--;
	memmove(&w->queue[at], &w->queue[at + 1], (w->queue_count - at) * sizeof(p));
	if (row->ticket == p.ticket) {
		row->ticket = 0;
		if (p.state == TAKEN)
			row->settled = row->confirmed = true;
		else
			row->refused = true;
	} else
		happened(w, EVENT_acked_stale);
	world_say(w, "settled %u: %d", p.row + 1, (int)p.state);
	core_on_settled(w->core, w->now, p.ticket, outcomes[p.state]);
}

void
broker_settle(struct world * w)
{
	uint32_t taken = 0;
	uint32_t which;

	while (taken < w->queue_count && w->queue[taken].state != SENT)
		taken++;
	if (w->former.ticket != 0 && one_in(w, 4)) {
		/* No link should say this; the core must not care. */
		happened(w, EVENT_acked_by_former_link);
		core_on_settled(w->core, w->now, w->former.ticket, CORE_CONFIRMED);
		w->former.ticket = 0;
	}
	if (taken == 0)
		return;
	which = below(w, taken);
	if (which > 0 && one_in(w, 3)) {
		happened(w, EVENT_acked_multiple);
		for (uint32_t n = 0; n <= which; n++)
			settle(w, 0);
	} else
		settle(w, which);
}

void
broker_up(struct world * w)
{
	w->link_up = true;
	w->blocked = w->full = false;
	world_say(w, "link up");
	core_on_link_up(w->core, w->now);
}

void
broker_lost(struct world * w)
{
	uint32_t sent = 0;
	uint32_t taken;

	for (uint32_t n = 0; n < w->queue_count; n++)
		sent += w->queue[n].state == SENT;
	/* Some of what lay in the sockets still arrives. */
	taken = one_in(w, 3) ? sent : below(w, sent + 1);
	happened(w,
	    w->queue_count == 0 ? EVENT_link_lost_idle :
		taken == sent   ? EVENT_link_lost_all_taken :
		taken == 0      ? EVENT_link_lost_none_taken :
				  EVENT_link_lost_some_taken);
	for (uint32_t n = 0; n < w->queue_count; n++) {
		if (w->queue[n].state == SENT && taken > 0) {
			take(w, &w->queue[n]);
			taken--;
		}
		w->rows[w->queue[n].row].ticket = 0;
		if (one_in(w, 2))
			w->former = w->queue[n];
	}
	w->queue_count = 0;
	w->link_up = false;
	w->deaths++;
	world_say(w, "link lost");
}
