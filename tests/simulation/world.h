#ifndef SIMULATION_WORLD_H
#define SIMULATION_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"
#include "kinds.h"

/*
 * A fake world around the core, made from a seed: a database with writers
 * that commit late or roll back, a standby of it, a broker, a clock, and one
 * or two relays.  Everything that the real ones may do happens here by dice.
 *
 * Each turn throws dice of its own, made from the seed and the turn's number,
 * so that a turn may be left out and the others stay what they were.
 */

#define WORLD_ROWS 200
#define WORLD_KEYS 5
#define WORLD_EXCHANGES 4 /* the first one is "" and always there */
#define WORLD_QUEUES 3    /* routing keys of each exchange */
#define WORLD_INTERVALS 2048
#define WORLD_TURNS 1024
#define WORLD_RELAYS 2
#define WORLD_TRANSACTIONS 4 /* open at once */

/* The source's figures (DESIGN.md, "One relay leads"). */
#define LEASE CLOCK_S(8)
#define STUCK_AFTER CLOCK_S(10)

/* ---- messages ---- */

/* A message as its writer meant it, and what became of it in truth. */
struct row {
	int64_t id;
	uint8_t key; /* 0: none */
	uint8_t exchange;
	uint8_t queue;
	uint32_t size;
	bool scheduled;
	clock_ns deliver_at;
	enum { GOOD, UNFIT, POISON, REFUSED, UNROUTABLE } kind;
	uint32_t refusals; /* left; of those that are not always refused */

	bool committed;   /* ever, on whichever primary */
	bool lost;        /* the present primary does not know it */
	bool published;   /* ever */
	bool confirmed;   /* ever, to any relay */
	bool discarded;   /* ever, by a person */
	bool to_discard;  /* a relay was told to, ever */
	bool died;        /* ever */
	bool aside;       /* ever; a relay asked for it */
	uint64_t read_at; /* moment; first, by any relay */
	uint32_t deliveries;
};

/* A message as the database has it. */
struct stored {
	uint32_t transaction; /* 0: not here */
	uint32_t commit;      /* how many had committed with it; 0: not yet */
	enum { NOWHERE, MESSAGE, DELAYED, DEAD, DONE } place;
	enum waits { SCHEDULE, RETRY, EXCHANGE, QUEUE, KEY } waits_for; /* DELAYED */
	clock_ns next_attempt_at;
	uint32_t attempts;
	bool holds_key;   /* DEAD */
	bool discarded;   /* DEAD */
	uint64_t in_line; /* moment since when it holds its key; 0: never did */
};

struct position {
	uint32_t prev; /* snapshots: how many had committed */
	uint32_t target;
	int64_t last_id;
	bool open;
};

struct database {
	struct stored rows[WORLD_ROWS];
	uint32_t count;
	uint32_t commits;
	int64_t sequence;
	uint64_t seq; /* of the newest mark */
	struct position recorded;
	uint32_t transactions; /* begun */
	uint32_t open[WORLD_TRANSACTIONS];
	struct paused {
		bool all;
		bool exchange[WORLD_EXCHANGES];
	} paused;
	/* For each exchange, what is not to be sent: up to this id; 0: nothing. */
	int64_t discard[WORLD_EXCHANGES];
};

/* ---- a relay ---- */

/* What one core was told of a message, since it was handed over. */
struct view {
	bool handed, held, confirmed, unfit;
	bool killed;  /* its last publication went down with its link */
	bool suspect; /* it was unsettled when a channel closed unnamed */
	uint8_t origin;
	uint8_t link;
	uint32_t attempts; /* as handed over */
	uint32_t refusals; /* told since */
	uint32_t accused;  /* channels closed while it was alone on suspects */
	uint64_t number;   /* fresh ones: in the order handed over */
	uint32_t publications;
	uint64_t ticket; /* unsettled; 0: none */
	clock_ns published_at;
	clock_ns waited; /* for a confirm, until the channel was closed */
	bool passed;     /* one published later in the same stripe was answered */
	bool overtaken;  /* ... or anywhere on the same link */
};

enum request_kind { REQUEST_FETCH, REQUEST_LOOKUP, REQUEST_SEARCH, REQUEST_MARK };

/*
 * A session with the database.  Requests are executed and answered in the order
 * sent, but for a fetch that waits for something to be written.
 */
struct session {
	enum { SESSION_DOWN, SESSION_STANDBY, SESSION_LEADING } state; /* as the relay sees it */
	bool alive;                                                    /* as the server sees it */
	bool locked;                                                   /* it has the lock */
	clock_ns active; /* the server heard from it */
	uint64_t seq;
	struct position recorded, cursor;
	struct position intervals[WORLD_INTERVALS];
	uint64_t interval;

	struct request {
		enum request_kind kind;
		bool executed;
	} requests[4];
	uint32_t request_count;

	uint32_t fetch_rows;
	size_t fetch_bytes;
	bool fetch_waits;
	clock_ns read_at; /* last */
	struct batch * fetched;
	bool fetched_exhausted;

	struct search search;
	int64_t except[WORLD_ROWS];
	clock_ns due_at; /* where the last search stopped */
	int64_t due_id;
	struct batch * found;
	bool found_more;
	clock_ns found_next; /* CLOCK_NEVER: none */
	struct lane lanes[WORLD_EXCHANGES * (WORLD_QUEUES + 1)];
	uint32_t lane_count;

	struct position mark;
	uint64_t mark_messages;
	bool mark_covers[WORLD_ROWS]; /* rows */
	struct move moves[WORLD_ROWS];
	size_t move_count;
};

/* The relay's end of a connection, and all that is on its way. */
struct connection {
	bool up, blocked, full;
	bool mute; /* nothing comes from there any more */
	bool told; /* something was heard since it became mute */
	enum { CLOSING_NOT, CLOSING_NAMED, CLOSING_UNNAMED } closing;
	uint8_t closing_exchange;
	clock_ns since; /* of the confirm timeout: up, or unblocked */
	clock_ns heard_at;
	clock_ns answered_at[MESSAGE_STRIPES]; /* for any message of the stripe */
	struct publication {
		uint32_t row;
		uint64_t ticket;
		enum { SENT, TAKEN, NACKED, RETURNED, SILENT } state;
	} queue[2 * WORLD_ROWS];
	uint32_t count;
};

struct relay {
	uint32_t number;
	struct core * core;
	bool frozen, stopping, draining, finished;
	clock_ns lease;
	struct session session;
	struct connection connections[CORE_LINKS];
	struct view views[WORLD_ROWS];
	uint64_t former_ticket;                             /* of a lost connection; 0: none */
	struct paused paused;                               /* as its core was told */
	int64_t discard[WORLD_EXCHANGES];                   /* the same */
	bool lane_known[WORLD_EXCHANGES][WORLD_QUEUES + 1]; /* last: the exchange's own */
	bool unnamed_close;
	struct core_counts expected; /* since it was started */
};

/* ---- the world ---- */

struct knobs {
	uint64_t seed;
	uint32_t turns, rows; /* at most */
	uint64_t without;     /* kinds */
	uint64_t skipped[WORLD_TURNS / 64];
	bool verbose;
};

struct world {
	struct knobs knobs;
	uint64_t random;
	uint64_t kinds; /* of this history */
	uint64_t events[EVENT_COUNT];

	struct core_options options;
	clock_ns now;
	uint64_t moment; /* counts what happens in the database */
	bool calm;       /* no more faults; bad rows, exchanges and queues stay bad */
	bool healed;     /* ... and all are well but for those that never will be */
	uint32_t deaths;
	uint64_t excused; /* deliveries repeated by nacks and failovers */

	struct row rows[WORLD_ROWS];
	uint32_t row_count, row_max;
	struct database database, standby;
	uint32_t keys_locked[WORLD_KEYS + 1]; /* by which transaction */
	bool held_by_later;
	bool ghost; /* the lock is held by the server's end of a lost session ... */
	clock_ns ghost_active;

	/* The broker, as the dice have it now. */
	bool exchange_gone[WORLD_EXCHANGES], exchange_forbidden[WORLD_EXCHANGES];
	enum queue_state {
		WELL,
		IS_SILENT,
		IS_GONE,
		REFUSES
	} queues[WORLD_EXCHANGES][WORLD_QUEUES];
	bool silence_freezes;                            /* all that comes behind, or only itself */
	bool lasting[WORLD_EXCHANGES][WORLD_QUEUES + 1]; /* never becomes well */

	struct relay relays[WORLD_RELAYS];
	uint32_t relay_count;
	int leaders; /* how often the lead was won */
	int last_leader;
	int batches;
	clock_ns slowest_good, slowest_settled; /* how long it took */
};

/* ---- dice ---- */

uint64_t world_random(struct world * w);

/* Dice for one step: the same whatever came before it. */
void world_throw(struct world * w, uint64_t step);

static inline uint32_t
below(struct world * w, uint32_t n)
{
	return ((uint32_t)(world_random(w) % n));
}

/* True once in n times. */
static inline bool
one_in(struct world * w, uint32_t n)
{
	return (below(w, n) == 0);
}

/* May this go wrong in this history, now? */
static inline bool
has(const struct world * w, enum world_kind kind)
{
	return (!w->calm && (w->kinds >> kind & 1) != 0);
}

/* ---- the world's report ---- */

void world_tell(const struct world * w, const char * format, ...)
    __attribute__((format(printf, 2, 3)));
#define world_say(w, ...) \
	do { \
		if ((w)->knobs.verbose) \
			world_tell(w, __VA_ARGS__); \
	} while (0)

/**
 * world_broken(w, promise, format, ...):
 * A promise is broken: say how and end the process.
 */
_Noreturn void world_broken(struct world * w, const char * promise, const char * format, ...)
    __attribute__((format(printf, 3, 4)));

static inline void
happened(struct world * w, enum world_event event)
{
	w->events[event]++;
}

/* ---- history.c ---- */

void history_run(struct world * w, const struct knobs * knobs);

/* ---- chaos.c: what the dice do to the world ---- */

void chaos_turn(struct world * w, uint32_t fault_rate);
/* Bring back, at once, what can come back by itself. */
void chaos_mend(struct world * w, struct relay * relay);

/* ---- writers.c: applications and persons ---- */

void writers_write(struct world * w);
void writers_write_good(struct world * w);
void writers_end_some(struct world * w);
void writers_end_all(struct world * w);
void writers_abort_all(struct world * w);
void person_acts(struct world * w);

/* ---- database.c ---- */

/* Whether its unsent, or waiting, rows hold their key. */
bool database_holds(const struct database * d, uint32_t row);
bool database_held_by_dead(const struct world * w, uint8_t key);
bool database_covers(const struct world * w, const struct position * position, uint32_t row);
uint32_t database_row(const struct world * w, int64_t id); /* or WORLD_ROWS */
/* No earlier one of its key waits for anything but its time. */
bool database_is_first(const struct world * w, uint32_t row);
/*
 * Of its key, the first one that holds it must not wait for its key.  If it was
 * due before, and passed over because of one before it that is gone (its id is
 * above ${after}), it falls due anew.
 */
void database_free_key(struct world * w, uint8_t key, int64_t after);
/* False: the fence (seq) held it up. */
bool database_mark(struct world * w, struct session * session);
void database_replicate(struct world * w);
void database_fail_over(struct world * w);

/* ---- session.c ---- */

void session_connect(struct world * w, struct relay * relay);
/* A standby tries to lead; a leader proves that it still does. */
void session_tend(struct world * w, struct relay * relay);
void session_execute(struct world * w, struct relay * relay);
void session_answer(struct world * w, struct relay * relay);
/* The server's end is gone; the relay may not know. */
void session_end(struct world * w, struct relay * relay);
/* The relay finds out, or is gone itself. */
void session_lost(struct world * w, struct relay * relay);
void session_fetch(struct world * w, struct relay * relay, const struct core_action * action);
void session_search(struct world * w, struct relay * relay, const struct core_action * action);
void session_record(struct world * w, struct relay * relay, const struct core_action * action);
bool session_searches(const struct session * session); /* a search is under way */
bool session_idle(const struct session * session);     /* nothing but a fetch that waits */

/* ---- pauses.c ---- */

/* A person pauses or resumes something; everything is resumed. */
void pauses_change(struct world * w);
void pauses_end(struct world * w, bool exchanges);
/* The relay leads from now on; it looks again. */
void pauses_begin(struct world * w, struct relay * relay);
void pauses_learn(struct world * w, struct relay * relay);

/* ---- discards.c: the same of orders to discard ---- */

void discards_change(struct world * w);
void discards_end(struct world * w);
void discards_begin(struct world * w, struct relay * relay);
void discards_learn(struct world * w, struct relay * relay);

/* ---- reading.c ---- */

void reading_fetch(struct world * w, struct session * session);
void reading_look_up(struct world * w, struct session * session);
void reading_search(struct world * w, struct session * session);
bool reading_must_wait(struct world * w, struct session * session);

/* ---- broker.c ---- */

void broker_publish(struct world * w, struct relay * relay, const struct core_action * action);
void broker_process(struct world * w, struct connection * connection, uint32_t count);
/* Which of the connection's channels takes it. */
uint32_t broker_stripe(const struct world * w, const struct relay * relay,
    const struct connection * connection, uint32_t row);
void broker_settle(struct world * w, struct relay * relay, enum core_link link);
void broker_up(struct world * w, struct relay * relay, enum core_link link);
/* The connection is gone, with some of what it carried; the core is not told. */
void broker_lost(struct world * w, struct relay * relay, enum core_link link);
/* ... because the core wanted that. */
void broker_reset(struct world * w, struct relay * relay, enum core_link link);
bool broker_lane_is_sick(const struct world * w, const struct row * row);
void broker_change(struct world * w);
/* A node dies: some queues are silent from now on. */
void broker_lose_node(struct world * w);
void broker_heal(struct world * w);

/* ---- relay.c ---- */

void relay_start(struct world * w, struct relay * relay);
void relay_end(struct world * w, struct relay * relay); /* kill -9 */
void relay_act(struct world * w, struct relay * relay);
/* The core may take the lane for sick: it was told so. */
void relay_knows_lane(struct relay * relay, const struct lane * lane);
struct bytes relay_exchange_name(uint32_t exchange);
struct bytes relay_queue_name(uint32_t queue);

/* ---- promises.c ---- */

/* Has the relay published one that it read later (or itself) and that no mark covers? */
bool promise_keeps_a_mark_back(const struct world * w, const struct relay * relay, uint32_t n);
void promise_at_publish(struct world * w, struct relay * relay, const struct core_action * action);
void promise_at_delivery(struct world * w, const struct publication * publication);
void promise_at_mark(struct world * w, struct relay * relay, const struct core_action * action);
void promise_at_lane_search(struct world * w, const struct relay * relay, const struct lane * lane);
void promise_at_reset(struct world * w, struct relay * relay, enum core_link link);
/* Where a queue is known to be silent, a link may stand still for so long at least. */
clock_ns promise_least_patience(const struct world * w);

/* ---- standing.c ---- */

/* The core wants nothing: is there nothing to do?  Are its figures right? */
void promise_at_rest(struct world * w, struct relay * relay);
/* The core has nothing to publish, or has finished. */
void promise_nobody_can_go(struct world * w, const struct relay * relay);
/* Does all stand as it should, once nothing more goes wrong? */
bool promise_good_are_sent(struct world * w);
bool promise_all_is_settled(struct world * w, char * why, size_t size);
void promise_at_end(struct world * w);

#endif /* SIMULATION_WORLD_H */
