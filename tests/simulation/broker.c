#include <string.h>

#include "world.h"

/*
 * A connection is a pipe: the broker takes messages in the order sent, and
 * answers for those that it took in any order.  It goes on taking what lies in
 * the pipe while the relay is stopped.
 */

#define QUEUE_MAX ((uint32_t)(sizeof(((struct connection *)0)->queue) / sizeof(struct publication)))

static const char *
link_name(enum core_link link)
{
	return (link == CORE_MAIN ? "main" : "suspects");
}

/* ---- the relay's side ---- */

void
broker_publish(struct world * w, struct relay * relay, const struct core_action * action)
{
	const struct message * message = action->publish.message;
	struct connection * c = &relay->connections[action->publish.link];
	uint64_t ticket = action->publish.ticket;
	struct view * v;
	uint32_t n;

	promise_at_publish(w, relay, action);
	memcpy(&n, message->message_id, sizeof(n));
	v = &relay->views[n];
	if (c->count == QUEUE_MAX || (has(w, KIND_full) && one_in(w, 20))) {
		happened(w, EVENT_not_taken);
		c->full = true;
		core_on_settled(relay->core, w->now, ticket, CORE_NOT_TAKEN, BYTES_NONE);
		core_on_link_full(relay->core, action->publish.link, true);
		return;
	}
	happened(w, action->publish.again ? EVENT_republished : EVENT_published);
	if (action->publish.link == CORE_SUSPECTS)
		happened(w, EVENT_published_on_suspects);
	if (action->publish.link == CORE_SUSPECTS && v->origin == MESSAGE_LANE)
		happened(w, EVENT_published_probe);
	relay->expected.published++;
	relay->expected.republished += action->publish.again;
	v->publications++;
	v->killed = v->passed = v->overtaken = false;
	v->link = (uint8_t)action->publish.link;
	v->published_at = w->now;
	world_say(w, "relay %u publishes id %d on %s%s", relay->number, (int)message->id,
	    link_name(action->publish.link), action->publish.again ? " again" : "");
	if (w->rows[n].kind == UNFIT) {
		happened(w, EVENT_unfit);
		v->unfit = true;
		relay->expected.unfit++;
		core_on_settled(relay->core, w->now, ticket, CORE_UNFIT, bytes_from("unfit"));
		return;
	}
	w->rows[n].published = true;
	v->ticket = ticket;
	relay->expected.in_flight++;
	c->queue[c->count++] = (struct publication){.row = n, .ticket = ticket};
}

/* ---- the broker's side ---- */

bool
broker_lane_is_sick(const struct world * w, const struct row * row)
{
	return (w->database.paused.exchange[row->exchange] || w->exchange_gone[row->exchange] ||
	    w->exchange_forbidden[row->exchange] || w->queues[row->exchange][row->queue] != WELL);
}

static void
deliver(struct world * w, const struct publication * p)
{
	struct row * row = &w->rows[p->row];

	promise_at_delivery(w, p);
	row->deliveries++;
	world_say(w, "delivered id %d%s", (int)row->id, row->deliveries > 1 ? " again" : "");
}

static void
refuse(struct world * w, struct publication * p, bool returned)
{
	p->state = returned ? RETURNED : NACKED;
	if (!returned && one_in(w, 3)) {
		/* One queue refused it, another one took it. */
		happened(w, EVENT_nacked_but_delivered);
		w->excused++;
		deliver(w, p);
	}
}

static void
close_channel(struct world * w, struct connection * c, bool named, const struct row * row)
{
	c->closing = named ? CLOSING_NAMED : CLOSING_UNNAMED;
	c->closing_exchange = row->exchange;
	world_say(w, "the broker closes a channel because of id %d%s", (int)row->id,
	    named ? ", naming its exchange" : "");
}

static void
take(struct world * w, struct connection * c, struct publication * p)
{
	struct row * row = &w->rows[p->row];
	bool refused = false;

	if (w->exchange_gone[row->exchange] || w->exchange_forbidden[row->exchange]) {
		if (w->exchange_forbidden[row->exchange])
			happened(w, EVENT_closed_forbidden);
		close_channel(w, c, true, row);
		return;
	}
	if (row->kind == POISON) {
		close_channel(w, c, false, row);
		return;
	}
	if (w->queues[row->exchange][row->queue] == IS_SILENT) {
		p->state = SILENT;
		return;
	}
	if ((row->kind == REFUSED || row->kind == UNROUTABLE) && row->refusals > 0) {
		refused = true;
		row->refusals -= row->refusals < UINT32_MAX;
	}
	if (w->queues[row->exchange][row->queue] == IS_GONE) {
		p->state = RETURNED;
		return;
	}
	if (refused || w->queues[row->exchange][row->queue] == REFUSES) {
		refuse(w, p, refused && row->kind == UNROUTABLE);
		return;
	}
	p->state = TAKEN;
	deliver(w, p);
}

void
broker_process(struct world * w, struct connection * c, uint32_t count)
{
	if (c->mute)
		return;
	for (uint32_t n = 0; n < c->count && count > 0 && c->closing == CLOSING_NOT; n++) {
		struct publication * p = &c->queue[n];
		const struct row * row = &w->rows[p->row];

		if (p->state == SILENT) {
			if (w->queues[row->exchange][row->queue] == IS_SILENT) {
				if (w->silence_freezes)
					return;
				continue;
			}
			happened(w, EVENT_silence_ended);
			take(w, c, p);
			count--;
		} else if (p->state == SENT) {
			take(w, c, p);
			count--;
		}
	}
}

/* ---- its answers ---- */

enum loss { LOST, RESET, CLOSED, CLOSED_BY_ANY };

/* Nothing more will be heard of what is unsettled on this link. */
static void
forget_tickets(struct world * w, struct relay * relay, enum core_link link, enum loss loss)
{
	bool unnamed = loss == CLOSED_BY_ANY;
	uint32_t alone = WORLD_ROWS;
	uint32_t count = 0;

	for (uint32_t n = 0; n < w->row_count; n++) {
		struct view * v = &relay->views[n];

		if (v->ticket == 0 || v->link != link)
			continue;
		count++;
		alone = n;
		v->killed = true;
		v->suspect |= unnamed;
		v->waited = loss >= CLOSED || (loss == RESET && v->passed) ?
		    v->waited + w->now - v->published_at :
		    0;
		if (one_in(w, 4))
			relay->former_ticket = v->ticket;
		v->ticket = 0;
		relay->expected.in_flight--;
	}
	if (count == 1 && unnamed && link == CORE_SUSPECTS)
		relay->views[alone].accused++;
}

/* Is anything for the exchange?  It may be of a session that was lost. */
static bool
is_in_flight(const struct world * w, const struct relay * relay, enum core_link link,
    uint32_t exchange)
{
	for (uint32_t n = 0; n < w->row_count; n++) {
		if (relay->views[n].ticket != 0 && relay->views[n].link == link &&
		    w->rows[n].exchange == exchange)
			return (true);
	}
	return (false);
}

static void
tell_closed(struct world * w, struct relay * relay, enum core_link link)
{
	struct connection * c = &relay->connections[link];
	bool named = c->closing == CLOSING_NAMED;

	happened(w,
	    named ?
		(link == CORE_MAIN ? EVENT_closed_named_main : EVENT_closed_named_suspects) :
		(link == CORE_MAIN ? EVENT_closed_unnamed_main : EVENT_closed_unnamed_suspects));
	for (uint32_t n = 0; n < c->count; n++) {
		if (c->queue[n].state == SENT) {
			happened(w, EVENT_vanished_after_close);
			break;
		}
	}
	if (is_in_flight(w, relay, link, named ? c->closing_exchange : WORLD_EXCHANGES)) {
		relay->lane_known[c->closing_exchange][WORLD_QUEUES] = true;
		forget_tickets(w, relay, link, CLOSED);
	} else {
		relay->unnamed_close = true;
		forget_tickets(w, relay, link, CLOSED_BY_ANY);
	}
	c->count = 0;
	c->up = false;
	c->closing = CLOSING_NOT;
	w->deaths++;
	world_say(w, "relay %u hears that %s was closed", relay->number, link_name(link));
	core_on_channel_closed(relay->core, w->now, link,
	    named ? relay_exchange_name(c->closing_exchange) : BYTES_NONE,
	    bytes_from(named ? "404" : "406"));
}

uint32_t
broker_stripe(const struct world * w, const struct relay * relay, const struct connection * c,
    uint32_t row)
{
	return (c == &relay->connections[CORE_MAIN] ? w->rows[row].key % MESSAGE_STRIPES : 0);
}

static void
settle(struct world * w, struct relay * relay, struct connection * c, uint32_t at)
{
	static const enum core_outcome outcomes[] =
	    {[TAKEN] = CORE_CONFIRMED, [NACKED] = CORE_NACKED, [RETURNED] = CORE_RETURNED};
	struct publication p = c->queue[at];
	struct view * v = &relay->views[p.row];
	bool live = v->ticket == p.ticket;

	if (at > 0 && c->queue[0].state != SENT)
		happened(w, EVENT_acked_out_of_order);
	c->count--;
	memmove(&c->queue[at], &c->queue[at + 1], (c->count - at) * sizeof(p));
	if (live) {
		uint32_t stripe = broker_stripe(w, relay, c, p.row);

		for (uint32_t n = 0; n < at; n++) {
			struct view * earlier = &relay->views[c->queue[n].row];

			if (earlier->ticket != c->queue[n].ticket)
				continue;
			earlier->overtaken = true;
			earlier->passed |= broker_stripe(w, relay, c, c->queue[n].row) == stripe;
		}
		c->answered_at[stripe] = w->now;
		v->ticket = 0;
		relay->expected.in_flight--;
	} else {
		happened(w, EVENT_acked_stale);
	}
	if (p.state == TAKEN) {
		happened(w, EVENT_acked);
		v->confirmed |= live;
		w->rows[p.row].confirmed |= live;
		relay->expected.confirmed += live;
	} else {
		happened(w, p.state == NACKED ? EVENT_nacked : EVENT_returned);
		v->refusals += live;
		relay->expected.nacked += live && p.state == NACKED;
		relay->expected.returned += live && p.state == RETURNED;
	}
	world_say(w, "relay %u hears of id %d: %s", relay->number, (int)w->rows[p.row].id,
	    p.state == TAKEN      ? "confirmed" :
		p.state == NACKED ? "nacked" :
				    "returned");
	core_on_settled(relay->core, w->now, p.ticket, outcomes[p.state],
	    p.state == TAKEN ? BYTES_NONE : bytes_from("refused"));
}

static bool
is_answered(const struct publication * p)
{
	return (p->state != SENT && p->state != SILENT);
}

void
broker_settle(struct world * w, struct relay * relay, enum core_link link)
{
	struct connection * c = &relay->connections[link];
	uint32_t answers = 0;
	uint32_t which;
	bool multiple;

	if (relay->former_ticket != 0 && one_in(w, 4)) {
		/* No link should say this; the core must not care. */
		happened(w, EVENT_acked_by_former_link);
		core_on_settled(relay->core, w->now, relay->former_ticket, CORE_CONFIRMED,
		    BYTES_NONE);
		relay->former_ticket = 0;
	}
	if (!c->up || (c->mute && c->told))
		return;
	c->told = c->mute;
	c->heard_at = w->now;
	core_on_heard(relay->core, w->now, link);
	for (uint32_t n = 0; n < c->count; n++)
		answers += is_answered(&c->queue[n]);
	if (c->closing != CLOSING_NOT && (answers == 0 || one_in(w, 3))) {
		tell_closed(w, relay, link);
		return;
	}
	if (answers == 0)
		return;
	which = below(w, answers);
	multiple = which > 0 && one_in(w, 3);
	if (multiple)
		happened(w, EVENT_acked_multiple);
	for (uint32_t n = 0; n < c->count;) {
		if (!is_answered(&c->queue[n])) {
			n++;
		} else if (which == 0 || multiple) {
			settle(w, relay, c, n);
			if (which-- == 0)
				return;
		} else {
			which--;
			n++;
		}
	}
}

/* ---- up and down ---- */

void
broker_up(struct world * w, struct relay * relay, enum core_link link)
{
	struct connection * c = &relay->connections[link];

	*c = (struct connection){.up = true, .since = w->now, .heard_at = c->heard_at};
	world_say(w, "relay %u: %s up", relay->number, link_name(link));
	core_on_link_up(relay->core, w->now, link);
}

static void
lose(struct world * w, struct relay * relay, enum core_link link, enum loss loss)
{
	struct connection * c = &relay->connections[link];
	uint32_t sent = 0;
	uint32_t taken;

	if (!c->up)
		return;
	for (uint32_t n = 0; n < c->count; n++)
		sent += c->queue[n].state == SENT;
	/* Some of what lay in the sockets still arrives. */
	taken = one_in(w, 3) ? sent : below(w, sent + 1);
	happened(w,
	    c->count == 0     ? EVENT_link_lost_idle :
		taken == sent ? EVENT_link_lost_all_taken :
		taken == 0    ? EVENT_link_lost_none_taken :
				EVENT_link_lost_some_taken);
	c->mute = false;
	broker_process(w, c, taken);
	for (uint32_t n = 0; n < c->count; n++) {
		/* A queue that was silent may have it all the same. */
		if (c->queue[n].state == SILENT && one_in(w, 2))
			deliver(w, &c->queue[n]);
	}
	forget_tickets(w, relay, link, loss);
	c->count = 0;
	c->up = c->blocked = c->full = false;
	c->closing = CLOSING_NOT;
	w->deaths++;
	world_say(w, "relay %u: %s lost", relay->number, link_name(link));
}

void
broker_lost(struct world * w, struct relay * relay, enum core_link link)
{
	lose(w, relay, link, LOST);
}

void
broker_reset(struct world * w, struct relay * relay, enum core_link link)
{
	lose(w, relay, link, RESET);
}

/* ---- exchanges and queues come and go ---- */

static void
change_queue(struct world * w, uint32_t e, uint32_t q)
{
	static const enum world_kind kinds[] = {[IS_SILENT] = KIND_queue_silent,
	    [IS_GONE] = KIND_unroutable,
	    [REFUSES] = KIND_queue_refuses};
	static const enum world_event falls[] = {[IS_SILENT] = EVENT_queue_silent,
	    [IS_GONE] = EVENT_queue_gone,
	    [REFUSES] = EVENT_queue_refuses};
	static const enum world_event rises[] = {[IS_SILENT] = EVENT_queue_speaks,
	    [IS_GONE] = EVENT_queue_back,
	    [REFUSES] = EVENT_queue_takes};
	static const char * const says[] =
	    {[WELL] = "well", [IS_SILENT] = "silent", [IS_GONE] = "gone", [REFUSES] = "full"};
	enum queue_state state = WELL;

	if (w->queues[e][q] != WELL) {
		happened(w, rises[w->queues[e][q]]);
	} else {
		state = 1 + below(w, 3);
		if (!has(w, kinds[state]))
			return;
		happened(w, falls[state]);
	}
	w->queues[e][q] = state;
	world_say(w, "queue %u of exchange %u is %s", q, e, says[state]);
}

void
broker_change(struct world * w)
{
	uint32_t e = below(w, WORLD_EXCHANGES);
	uint32_t q = below(w, WORLD_QUEUES);
	bool exchange = e > 0 && one_in(w, 2);

	if (exchange && (w->exchange_gone[e] || w->exchange_forbidden[e])) {
		happened(w, EVENT_exchange_back);
		w->exchange_gone[e] = w->exchange_forbidden[e] = false;
		world_say(w, "exchange %u is there", e);
	} else if (exchange) {
		bool forbid = has(w, KIND_forbidden) && one_in(w, 3);

		if (!forbid && !has(w, KIND_exchange_gone))
			return;
		happened(w, EVENT_exchange_gone);
		w->exchange_gone[e] = !forbid;
		w->exchange_forbidden[e] = forbid;
		world_say(w, "exchange %u is %s", e, forbid ? "forbidden" : "gone");
	} else if (e + q > 0) { /* the first queue of all is always well */
		change_queue(w, e, q);
	}
}

void
broker_lose_node(struct world * w)
{
	happened(w, EVENT_many_silent);
	world_say(w, "a node of the broker is gone");
	for (uint32_t n = 1; n < WORLD_EXCHANGES * WORLD_QUEUES; n++) {
		if (!one_in(w, 4))
			w->queues[n / WORLD_QUEUES][n % WORLD_QUEUES] = IS_SILENT;
	}
}

/* All become well, but for those that never do. */
void
broker_heal(struct world * w)
{
	for (uint32_t e = 0; e < WORLD_EXCHANGES; e++) {
		if (!w->lasting[e][WORLD_QUEUES])
			w->exchange_gone[e] = w->exchange_forbidden[e] = false;
		for (uint32_t q = 0; q < WORLD_QUEUES; q++) {
			if (!w->lasting[e][q])
				w->queues[e][q] = WELL;
		}
	}
}
