#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "postgres/source.h"

/*
 * Drives the source for the tests that need no relay: reads commands from
 * stdin, a JSON object a line, and says on stdout what it is told, an event a
 * line.  Ends with 0 when stdin does.
 *
 *   source_driver DSN [--poll] [--flush] [--not-strict]
 */
#define LINE_MAX_BYTES (1 << 20)

struct driver {
	struct source * source;
	char line[LINE_MAX_BYTES];
	size_t length;
	clock_ns asked;
	bool ended;
};

static struct bytes
text_member(const json_t * object, const char * key)
{
	const json_t * value = json_object_get(object, key);

	if (!json_is_string(value))
		return (BYTES_NONE);
	return ((struct bytes){json_string_value(value), json_string_length(value)});
}

static int64_t
number_member(const json_t * object, const char * key, int64_t absent)
{
	const json_t * value = json_object_get(object, key);

	return (json_is_integer(value) ? json_integer_value(value) : absent);
}

/* ---- events ---- */

static void
say(json_t * line)
{
	json_dumpf(line, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	json_decref(line);
}

/* A body is long and need not be text: its length stands for it. */
static json_t *
text(struct bytes b)
{
	return (bytes_present(b) ? json_stringn(b.data, b.len) : json_null());
}

static json_t *
rows(const struct batch * batch)
{
	static const char * const origins[] = {"fresh", "scheduled", "retry", "lane", "behind"};
	json_t * list = json_array();

	for (size_t i = 0; batch != NULL && i < batch->count; i++) {
		const struct message * m = batch->messages[i];

		json_array_append_new(list,
		    json_pack("{s:I, s:s, s:i, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
			      "s:o, s:I, s:I, s:I, s:i, s:b}",
			"id", (json_int_t)m->id, "origin", origins[m->origin], "attempts",
			(int)m->attempts, "held", m->held, "exchange", text(m->exchange),
			"routing_key", text(m->routing_key), "ordering_key", text(m->ordering_key),
			"headers", text(m->headers), "type", text(m->type), "app_id",
			text(m->app_id), "content_type", text(m->content_type), "content_encoding",
			text(m->content_encoding), "correlation_id", text(m->correlation_id),
			"reply_to", text(m->reply_to), "body", (json_int_t)m->body.len,
			"timestamp_s", (json_int_t)m->timestamp_s, "expiration_ms",
			(json_int_t)m->expiration_ms, "priority", (int)m->priority, "persistent",
			m->persistent));
	}
	return (list);
}

static void
on_up(void * context)
{
	(void)context;
	say(json_pack("{s:s}", "event", "up"));
}

static void
on_down(void * context, const struct error * e, clock_ns retry_in)
{
	(void)context;
	say(json_pack("{s:s, s:s, s:b}", "event", "down", "text", e->text, "final",
	    retry_in == CLOCK_NEVER));
}

static void
on_standby(void * context)
{
	(void)context;
	say(json_pack("{s:s}", "event", "standby"));
}

static void
on_paused(void * context, const struct pause * pause)
{
	(void)context;
	if (pause->all || pause->lane_count > 0)
		say(json_pack("{s:s, s:b, s:i}", "event", "paused", "all", pause->all, "exchanges",
		    (int)pause->lane_count));
}

static void
on_discards(void * context, const struct discard * list, size_t count)
{
	(void)context;
	(void)list;
	if (count > 0)
		say(json_pack("{s:s, s:i}", "event", "discards", "count", (int)count));
}

static void
on_fetched(void * context, struct batch * batch, uint64_t interval, bool exhausted)
{
	(void)context;
	say(json_pack("{s:s, s:o, s:I, s:b}", "event", "fetched", "rows", rows(batch), "interval",
	    (json_int_t)interval, "exhausted", exhausted));
}

static void
on_found(void * context, const struct found * found)
{
	json_t * lanes = json_array();

	(void)context;
	for (size_t i = 0; i < found->lane_count; i++)
		json_array_append_new(lanes,
		    json_pack("[o, o, o]", text(found->lanes[i].exchange),
			text(found->lanes[i].routing_key), text(found->lanes[i].reason)));
	say(json_pack("{s:s, s:o, s:b, s:I, s:o}", "event", "found", "rows", rows(found->batch),
	    "more", found->more, "next_in_ms",
	    found->next_in == CLOCK_NEVER ? (json_int_t)-1 : (json_int_t)(found->next_in / 1000000),
	    "lanes", lanes));
}

static void
on_recorded(void * context)
{
	const struct driver * d = context;

	say(json_pack("{s:s, s:f}", "event", "recorded", "ms",
	    (double)(clock_now() - d->asked) / 1e6));
}

/* ---- commands ---- */

static void
search(struct driver * d, const json_t * command)
{
	static int64_t except[20000];
	const json_t * ids = json_object_get(command, "except");
	const char * what = json_string_value(json_object_get(command, "search"));
	struct search s = {.what = strcmp(what, "due") == 0 ? SEARCH_DUE :
		strcmp(what, "lane") == 0                   ? SEARCH_LANE :
							      SEARCH_DUE_ALL,
	    .rows = (uint32_t)number_member(command, "rows", 1000),
	    .bytes = (size_t)number_member(command, "bytes", 1 << 26),
	    .after = number_member(command, "after", 0),
	    .lane = {.exchange = text_member(command, "exchange"),
		.routing_key = text_member(command, "routing_key")},
	    .except = except,
	    .except_count = json_array_size(ids)};

	for (size_t i = 0; i < s.except_count; i++)
		except[i] = json_integer_value(json_array_get(ids, i));
	source_search(d->source, clock_now(), &s);
}

static uint8_t
fate(const char * name)
{
	static const char * const names[] = {"delivered", "retry", "exchange", "queue", "behind",
	    "dead"};
	uint8_t i = 0;

	while (strcmp(names[i], name) != 0)
		i++;
	return (i);
}

/* {"id":, "delayed":, "fate":, "hold":, "attempts":, "delay_ms":, "reason": or "reason_bytes": [...]} */
static void
record(struct driver * d, const json_t * command)
{
	static struct move moves[MOVES_MAX];
	static char reasons[MOVES_MAX][64];
	const json_t * list = json_object_get(command, "moves");
	struct source_mark mark = {.interval = (uint64_t)number_member(command, "record", 0),
	    .last_id = number_member(command, "last_id", 0),
	    .exhausted = json_is_true(json_object_get(command, "exhausted")),
	    .messages = (uint64_t)number_member(command, "messages", 0),
	    .max_id = number_member(command, "max_id", 0),
	    .moves = moves,
	    .move_count = json_array_size(list)};

	for (size_t i = 0; i < mark.move_count; i++) {
		const json_t * o = json_array_get(list, i);
		const json_t * raw = json_object_get(o, "reason_bytes");

		moves[i] = (struct move){.id = number_member(o, "id", 0),
		    .delayed = json_is_true(json_object_get(o, "delayed")),
		    .fate = fate(json_string_value(json_object_get(o, "fate"))),
		    .hold = json_is_true(json_object_get(o, "hold")),
		    .attempts = (uint32_t)number_member(o, "attempts", 0),
		    .delay = CLOCK_MS(number_member(o, "delay_ms", 0)),
		    .reason = text_member(o, "reason")};
		if (raw == NULL)
			continue;
		for (size_t k = 0; k < json_array_size(raw) && k < sizeof(reasons[i]); k++)
			reasons[i][k] = (char)json_integer_value(json_array_get(raw, k));
		moves[i].reason = (struct bytes){reasons[i], json_array_size(raw)};
	}
	d->asked = clock_now();
	source_record(d->source, d->asked, &mark);
}

static void
obey(struct driver * d, const char * line, size_t length)
{
	json_error_t reason;
	json_t * command = json_loadb(line, length, 0, &reason);

	if (json_object_get(command, "fetch") != NULL)
		source_fetch(d->source, clock_now(), (uint32_t)number_member(command, "rows", 1000),
		    (size_t)number_member(command, "bytes", 1 << 26),
		    json_is_true(json_object_get(command, "wait")));
	else if (json_object_get(command, "search") != NULL)
		search(d, command);
	else if (json_object_get(command, "record") != NULL)
		record(d, command);
	else
		d->ended = true;
	json_decref(command);
}

static void
read_commands(struct driver * d)
{
	ssize_t got = read(STDIN_FILENO, d->line + d->length, sizeof(d->line) - d->length);
	char * end;

	if (got <= 0) {
		d->ended = true;
		return;
	}
	d->length += (size_t)got;
	while ((end = memchr(d->line, '\n', d->length)) != NULL) {
		size_t used = (size_t)(end - d->line) + 1;

		obey(d, d->line, used);
		d->length -= used;
		memmove(d->line, d->line + used, d->length);
	}
}

static void
turn(struct driver * d)
{
	struct pollfd fds[SOURCE_FDS + 1] = {{.fd = STDIN_FILENO, .events = POLLIN}};
	size_t count = source_poll(d->source, fds + 1);
	clock_ns wait = source_deadline(d->source) - clock_now();
	int timeout_ms = wait > CLOCK_S(1) ? 1000 : wait <= 0 ? 0 : (int)(wait / CLOCK_MS(1)) + 1;

	(void)poll(fds, count + 1, timeout_ms);
	if (fds[0].revents != 0)
		read_commands(d);
	source_turn(d->source, clock_now(), fds + 1, count);
}

int
main(int argc, char ** argv)
{
	static const struct option options[] = {{"poll", no_argument, NULL, 'p'},
	    {"flush", no_argument, NULL, 'f'}, {"not-strict", no_argument, NULL, 'n'},
	    {"poll-interval-ms", required_argument, NULL, 'i'}, {NULL, 0, NULL, 0}};
	static const struct source_events events = {.up = on_up,
	    .down = on_down,
	    .standby = on_standby,
	    .paused = on_paused,
	    .discards = on_discards,
	    .fetched = on_fetched,
	    .found = on_found,
	    .recorded = on_recorded};
	static struct driver d;
	struct source_options o = {.schema = "outbox",
	    .strict = true,
	    .listen = true,
	    .poll_interval = CLOCK_S(1),
	    .seed = 1};
	struct error e;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'p':
			o.listen = false;
			break;
		case 'f':
			o.wait_for_flush = true;
			break;
		case 'n':
			o.strict = false;
			break;
		case 'i':
			o.poll_interval = CLOCK_MS(atoi(optarg));
			break;
		default:
			return (64);
		}
	}
	if (optind + 1 != argc)
		return (64);
	o.dsn = argv[optind];
	if ((d.source = source_new(&o, &events, &d, &e)) == NULL) {
		fprintf(stderr, "%s\n", e.text);
		return ((int)e.code);
	}
	while (!d.ended)
		turn(&d);
	source_close(d.source, clock_now());
	source_free(d.source);
	return (0);
}
