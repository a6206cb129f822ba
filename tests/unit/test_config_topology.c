#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"

/* The lists of topology: what they may hold, and what is said about the rest. */
struct loaded {
	struct config config;
	struct config_report report;
	int result;
	char * said;
};

static void
load(struct loaded * l, const char * text, char * const * environment)
{
	char path[] = "/tmp/test_topology.XXXXXX";
	int fd = mkstemp(path);
	struct config_request request = {path, true, environment};
	size_t size;
	FILE * out;
	char *p, *q;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	memset(l, 0, sizeof(*l));
	l->result = config_load(&l->config, &request, &l->report);
	unlink(path);
	out = open_memstream(&l->said, &size);
	config_report_print(&l->report, out);
	fclose(out);
	/* FILE in place of its name. */
	while ((p = strstr(l->said, path)) != NULL) {
		memcpy(p, "FILE", 4);
		q = p + strlen(path);
		memmove(p + 4, q, strlen(q) + 1);
	}
}

static void
drop(struct loaded * l)
{
	config_free(&l->config);
	config_report_free(&l->report);
	free(l->said);
}

static void
what_is_declared_is_read(void ** state)
{
	char * environment[] = {"PREFIX=shop", NULL};
	const struct config_exchange * x;
	const struct config_queue * q;
	const struct config_binding * b;
	struct loaded l;

	(void)state;
	load(&l,
	    "topology:\n"
	    "  exchanges:\n"
	    "    - {name: \"${PREFIX}.events\"}\n"
	    "    - name: audit\n"
	    "      type: fanout\n"
	    "      durable: no\n"
	    "      auto_delete: true\n"
	    "      internal: true\n"
	    "      arguments: {alternate-exchange: lost}\n"
	    "  queues:\n"
	    "    - {name: billing, arguments: {x-max-length: 1000, x-overflow: reject-publish,"
	    " x-single-active-consumer: true, x-text: \"5\", x-none: null}}\n"
	    "    - {name: old, type: classic, durable: false}\n"
	    "  bindings:\n"
	    "    - {exchange: amq.topic, queue: billing, routing_key: \"order.#\"}\n"
	    "    - {exchange: audit, to_exchange: other}\n",
	    environment);
	assert_string_equal(l.said, "");
	assert_int_equal(l.result, 0);

	assert_int_equal(l.config.topology.exchange_count, 2);
	x = l.config.topology.exchanges;
	assert_string_equal(x[0].name, "shop.events");
	assert_string_equal(x[0].type, "topic");
	assert_true(x[0].durable && !x[0].auto_delete && !x[0].internal);
	assert_null(x[0].arguments);
	assert_string_equal(strrchr(x[0].place, ':'), ":3");
	assert_string_equal(x[1].type, "fanout");
	assert_true(!x[1].durable && x[1].auto_delete && x[1].internal);
	assert_int_equal(x[1].arguments->count, 1);
	assert_string_equal(x[1].arguments->list[0].text, "lost");

	assert_int_equal(l.config.topology.queue_count, 2);
	q = l.config.topology.queues;
	assert_int_equal(q[0].type, CONFIG_QUEUE_QUORUM);
	assert_true(q[0].durable);
	assert_int_equal(q[0].arguments->count, 5);
	assert_string_equal(q[0].arguments->list[0].name, "x-max-length");
	assert_int_equal(q[0].arguments->list[0].kind, CONFIG_ARGUMENT_INTEGER);
	assert_int_equal(q[0].arguments->list[0].number, 1000);
	assert_int_equal(q[0].arguments->list[1].kind, CONFIG_ARGUMENT_TEXT);
	assert_int_equal(q[0].arguments->list[2].kind, CONFIG_ARGUMENT_BOOLEAN);
	assert_int_equal(q[0].arguments->list[2].number, 1);
	assert_int_equal(q[0].arguments->list[3].kind, CONFIG_ARGUMENT_TEXT);
	assert_int_equal(q[0].arguments->list[4].kind, CONFIG_ARGUMENT_NOTHING);
	assert_int_equal(q[1].type, CONFIG_QUEUE_CLASSIC);
	assert_false(q[1].durable);

	assert_int_equal(l.config.topology.binding_count, 2);
	b = l.config.topology.bindings;
	assert_string_equal(b[0].queue, "billing");
	assert_null(b[0].to_exchange);
	assert_string_equal(b[0].routing_key, "order.#");
	assert_string_equal(b[1].to_exchange, "other");
	assert_string_equal(b[1].routing_key, "");
	drop(&l);
}

static void
the_environment_declares_without_variables_inside(void ** state)
{
	char * environment[] = {"OUTBOX_RELAY_TOPOLOGY_EXCHANGES=[{name: \"a${b\", type: direct}]",
	    NULL};
	struct loaded l;

	(void)state;
	load(&l, "{}\n", environment);
	assert_string_equal(l.said, "");
	assert_string_equal(l.config.topology.exchanges[0].name, "a${b");
	assert_string_equal(l.config.topology.exchanges[0].place,
	    "environment OUTBOX_RELAY_TOPOLOGY_EXCHANGES:1");
	drop(&l);
}

static void
each_mistake_is_told_with_its_place(void ** state)
{
	static const struct {
		const char * yaml;
		const char * words;
	} cases[] = {
	    {"topology: {queues: [{nmae: q}]}\n",
		"FILE:1:22: error: topology.queues: unknown key \"nmae\"; did you mean \"name\"?"},
	    {"topology: {queues: [{frobnicate: q}]}\n",
		"unknown key \"frobnicate\"; known here: name, type, durable, auto_delete, arguments"},
	    {"topology: {queues: [{}]}\n",
		"FILE:1:21: error: topology.queues: an entry needs name"},
	    {"topology: {exchanges: [{name: \"\"}]}\n", "name must not be empty"},
	    {"topology: {exchanges: [{name: [a]}]}\n",
		"FILE:1:31: error: topology.exchanges: name must be a single value"},
	    {"topology: {exchanges: [{name: null}]}\n", "name must be a single value"},
	    {"topology: {exchanges: [{name: amq.mine}]}\n", "names that begin with amq."},
	    {"topology: {exchanges: [{name: e, type: tpoic}]}\n",
		"type must be one of direct, fanout, topic, headers, not \"tpoic\"; "
		"did you mean \"topic\"?"},
	    {"topology: {queues: [{name: q, type: qourum}]}\n",
		"type must be one of quorum, classic, stream, not \"qourum\"; "
		"did you mean \"quorum\"?"},
	    {"topology: {queues: [{name: q, durable: maybe}]}\n", "must be true or false"},
	    {"topology: {queues: [{name: q, durable: false}]}\n",
		"only a classic queue can be not durable"},
	    {"topology: {queues: [{name: q, arguments: {x-queue-type: classic}}]}\n",
		"FILE:1:43: error: topology.queues: x-queue-type is not an argument here; "
		"write type: beside name: instead"},
	    {"topology: {queues: [{name: q, arguments: [a]}]}\n", "arguments must be a map"},
	    {"topology: {queues: [{name: q, arguments: {a: 1.5}}]}\n",
		"no argument of RabbitMQ is a fraction; write it in quotes"},
	    {"topology: {queues: [{name: q, arguments: {a: [1]}}]}\n", "a must be a single value"},
	    {"topology: {queues: [{name: \"${NOWHERE}\"}]}\n", "NOWHERE is not set"},
	    {"topology: {bindings: [{exchange: e}]}\n", "leads to a queue or to_exchange"},
	    {"topology: {bindings: [{exchange: e, queue: q, to_exchange: x}]}\n",
		"leads to a queue or to_exchange"},
	    {"topology: {bindings: [{queue: q}]}\n", "an entry needs exchange"},
	    {"topology: {bindings: [{exchange: \"\", queue: q}]}\n",
		"nothing can be bound to the default exchange"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct loaded l;

		load(&l, cases[i].yaml, NULL);
		if (l.result == 0 || l.report.errors != 1 || strstr(l.said, cases[i].words) == NULL)
			fail_msg("expected \"%s\" for:\n%s\ngot:\n%s", cases[i].words,
			    cases[i].yaml, l.said);
		drop(&l);
	}
}

static void
names_and_arguments_have_bounds(void ** state)
{
	char name[257], text[8192];
	size_t len;
	struct loaded l;

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[256] = '\0';
	snprintf(text, sizeof(text), "topology: {queues: [{name: %s}]}\n", name);
	load(&l, text, NULL);
	assert_non_null(strstr(l.said, "at most 255 bytes"));
	drop(&l);
	snprintf(text, sizeof(text), "topology: {queues: [{name: q, arguments: {%s: 1}}]}\n", name);
	load(&l, text, NULL);
	assert_non_null(strstr(l.said, "at most 255 bytes"));
	drop(&l);

	len = (size_t)snprintf(text, sizeof(text), "topology: {queues: [{name: q, arguments: {");
	for (int i = 0; i <= CONFIG_ARGUMENTS_MAX; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "a%d: 1, ", i);
	snprintf(text + len, sizeof(text) - len, "}}]}\n");
	load(&l, text, NULL);
	assert_non_null(strstr(l.said, "more than 32 arguments"));
	drop(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_declared_is_read),
	    cmocka_unit_test(the_environment_declares_without_variables_inside),
	    cmocka_unit_test(each_mistake_is_told_with_its_place),
	    cmocka_unit_test(names_and_arguments_have_bounds),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
