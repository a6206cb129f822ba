#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/document.h"
#include "config/report.h"
#include "config/schema.h"

/* A configuration loaded from a text, and what was said about it. */
struct loaded {
	struct config config;
	struct config_report report;
	int result;
	char * said; /* with "FILE" for the file's name */
};

static char directory[] = "/tmp/test_config.XXXXXX";
static char path[128];

static int
make_directory(void ** state)
{
	(void)state;
	if (mkdtemp(directory) == NULL)
		return (-1);
	snprintf(path, sizeof(path), "%s/relay.yaml", directory);
	return (0);
}

static int
remove_directory(void ** state)
{
	(void)state;
	unlink(path);
	return (rmdir(directory));
}

static void
write_bytes(const char * text, size_t size, mode_t mode)
{
	FILE * file;

	unlink(path);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, size, file), size);
	assert_int_equal(fchmod(fileno(file), mode), 0);
	assert_int_equal(fclose(file), 0);
}

/* Lines of the report, the file's name replaced. */
static char *
take_words(const struct config_report * report)
{
	char * raw;
	char * words;
	size_t size;
	size_t len = 0;
	FILE * out = open_memstream(&raw, &size);

	config_report_print(report, out);
	fclose(out);
	words = calloc(1, size + 1);
	assert_non_null(words);
	for (const char * p = raw; *p != '\0';) {
		if (strncmp(p, path, strlen(path)) == 0) {
			memcpy(words + len, "FILE", 4);
			len += 4;
			p += strlen(path);
		} else {
			words[len++] = *p++;
		}
	}
	free(raw);
	return (words);
}

static void
load_file(struct loaded * l, char * const * environment)
{
	struct config_request request = {path, true, environment};

	memset(l, 0, sizeof(*l));
	l->result = config_load(&l->config, &request, &l->report);
	l->said = take_words(&l->report);
}

static void
load(struct loaded * l, const char * text, char * const * environment)
{
	write_bytes(text, strlen(text), 0600);
	load_file(l, environment);
}

static void
drop(struct loaded * l)
{
	config_free(&l->config);
	config_report_free(&l->report);
	free(l->said);
}

#define ENVIRONMENT(...) ((char *[]){__VA_ARGS__, NULL})
#define assert_says(l, words) \
	do { \
		if (strstr((l)->said, (words)) == NULL) \
			fail_msg("expected \"%s\" in:\n%s", (words), (l)->said); \
	} while (0)

struct case_ {
	const char * yaml;
	const char * words;
};

/* Each text must be refused with these words, and only them, as its one error. */
static void
check_refusals(const struct case_ * cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct loaded l;

		load(&l, cases[i].yaml, NULL);
		if (l.result == 0 || l.report.errors != 1 || strstr(l.said, cases[i].words) == NULL)
			fail_msg("expected \"%s\" for:\n%s\ngot:\n%s", cases[i].words,
			    cases[i].yaml, l.said);
		drop(&l);
	}
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void
a_mistake_is_reported_with_place_and_remedy(void ** state)
{
	static const struct case_ cases[] = {
	    /* unknown keys */
	    {"publish:\n  windwo: 5\n",
		"FILE:2:3: error: unknown key \"windwo\" in publish; did you mean \"window\"?\n"},
	    {"publsh: {}\n", "FILE:1:1: error: unknown key \"publsh\"; did you mean \"publish\"?"},
	    {"window: 5\n",
		"FILE:1:1: error: unknown key \"window\"; did you mean publish.window "
		"(\"window\" inside \"publish\")?"},
	    {"publish.window: 5\n",
		"FILE:1:1: error: unknown key \"publish.window\"; did you mean "
		"publish.window (\"window\" inside \"publish\")?"},
	    {"log: {colour: red}\n",
		"FILE:1:7: error: unknown key \"colour\" in log; known here: level, format"},
	    {"rabbitmq:\n  tls:\n    ca: x\n",
		"FILE:3:5: error: unknown key \"ca\" in rabbitmq.tls; known here: ca_file"},
	    /* wrong types */
	    {"publish: 5\n",
		"FILE:1:10: error: publish must be a map of keys and values, not a "
		"single value"},
	    {"- a\n", "FILE:1:1: error: the file must be a map of keys and values, not a list"},
	    {"publish:\n  window: [1]\n",
		"FILE:2:11: error: publish.window must be a single "
		"value, not a list"},
	    {"publish:\n  window: {a: 1}\n",
		"FILE:2:11: error: publish.window must be a single "
		"value, not a map"},
	    {"publish:\n  window: many\n",
		"FILE:2:11: error: publish.window must be a whole "
		"number, not \"many\""},
	    {"publish:\n  window: 0\n",
		"FILE:2:11: error: publish.window must be from 1 to "
		"1000000, not \"0\""},
	    {"publish:\n  window: null\n",
		"FILE:2:11: error: publish.window must be set, not null"},
	    {"publish: {mandatory: perhaps}\n",
		"FILE:1:22: error: publish.mandatory must be true "
		"or false, not \"perhaps\""},
	    {"publish: {ordering: loose}\n",
		"FILE:1:21: error: publish.ordering must be one of "
		"strict, pipelined, not \"loose\""},
	    {"publish: {max_bytes_in_flight: 64MB}\n",
		"FILE:1:32: error: "
		"publish.max_bytes_in_flight must be a size like 65536, 512KiB or 64MiB, not "
		"\"64MB\""},
	    {"publish: {max_bytes_in_flight: 1KiB}\n", "must be from 64KiB to 1TiB, not \"1KiB\""},
	    {"retry: {multiplier: 0.5}\n",
		"FILE:1:21: error: retry.multiplier must be from 1 to 100"},
	    {"retry: {initial: 10}\n",
		"FILE:1:18: error: retry.initial must be a duration like "
		"500ms, 10s, 1m or 1h, not \"10\""},
	    {"wake:\n  poll_interval: soon\n",
		"FILE:2:18: error: wake.poll_interval must be a "
		"duration"},
	    {"rabbitmq: {heartbeat: 20h}\n",
		"FILE:1:23: error: rabbitmq.heartbeat must be from 0 "
		"to 65535s"},
	    {"rabbitmq: {urls: amqp://h}\n",
		"FILE:1:18: error: rabbitmq.urls must be a list of "
		"texts, not a single value; write it as [\"...\"]"},
	    {"rabbitmq: {urls: []}\n",
		"FILE:1:18: error: rabbitmq.urls must have 1 to 32 entries, "
		"not 0"},
	    {"rabbitmq: {urls: [amqp://h, [x]]}\n",
		"FILE:1:29: error: an entry of rabbitmq.urls "
		"must be a text, not a list"},
	    {"rabbitmq: {urls: [amqp://h, null]}\n",
		"FILE:1:29: error: an entry of rabbitmq.urls "
		"must be a text, not null"},
	    {"rabbitmq: {urls: [\"\"]}\n", "FILE:1:19: error: rabbitmq.urls must be set"},
	    {"postgres: {schema: Out}\n",
		"FILE:1:20: error: postgres.schema must be a name of at "
		"most 40 small letters, digits and _, not \"Out\""},
	    {"http: {listen: \"9464\"}\n", "FILE:1:16: error: http.listen must be HOST:PORT"},
	    {"http: {listen: \"::1:9464\"}\n", "http.listen must be HOST:PORT"},
	    {"http: {listen: \"h:99999\"}\n", "http.listen must be HOST:PORT"},
	    {"topology: {queues: [a]}\n",
		"FILE:1:21: error: an entry of topology.queues must be a "
		"map"},
	    {"topology: {queues: {name: a}}\n",
		"FILE:1:20: error: topology.queues must be a list "
		"of at most 10000 maps"},
	    /* YAML */
	    {"log: {level: info\n", "error: not valid YAML: "},
	    {"log:\n\tlevel: info\n",
		"FILE:2:1: error: not valid YAML: found character that "
		"cannot start any token while scanning for the next token; indent with spaces"},
	    {"log: {level: info}\n---\nlog: {}\n",
		"FILE:2:1: error: the file holds more than one "
		"document"},
	    {"log: &a {level: info}\n", "FILE:1:6: error: anchors (&) and aliases (*) are not"},
	    {"log: {level: *a}\n", "FILE:1:14: error: anchors (&) and aliases (*) are not"},
	    {"log: {level: !!str info}\n", "FILE:1:14: error: tags (!) are not supported"},
	    {"log: {? {a: b} : c}\n", "FILE:1:9: error: a key must be a word, not a list or map"},
	    {"log: {level: info, level: warn}\n",
		"FILE:1:20: error: \"level\" is set twice (first "
		"in line 1)"},
	    {"log: {level: \"in\\0fo\"}\n", "FILE:1:14: error: a value holds a zero byte"},
	    {"topology: {queues: [{a: [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}]}\n",
		"error: nested deeper than 16 levels"},
	    {"postgres:\n  dsn: \"h\xff\"\n",
		"FILE:2:1: error: not valid YAML: invalid leading "
		"UTF-8 octet; the file must be UTF-8 text"},
	    /* variables */
	    {"postgres:\n  schema: ${NOWHERE}\n",
		"FILE:2:11: error: postgres.schema: the "
		"environment variable NOWHERE is not set; set the variable, or write $$"},
	    {"postgres:\n  schema: ${}\n", "${ must be followed by a variable's name and }"},
	    {"postgres:\n  schema: ${A\n", "${ must be followed by a variable's name and }"},
	    {"postgres:\n  schema: ${A:-b}\n", "${ must be followed by a variable's name and }"},
	    /* keys that contradict each other */
	    {"publish:\n  window: 10\n  batch: 11\n",
		"FILE:3:10: error: publish.batch: must not "
		"be above publish.window"},
	    {"retry:\n  initial: 10m\n",
		"FILE:2:12: error: retry.initial: retry.initial must not "
		"be above retry.max"},
	    {"retry:\n  max: 10ms\n", "FILE:2:8: error: retry.max: retry.initial must not be"},
	    {"rabbitmq:\n  heartbeat: 1500ms\n",
		"FILE:2:14: error: rabbitmq.heartbeat: must be "
		"whole seconds"},
	    {"rabbitmq: {tls: {cert_file: /dev/null}}\n",
		"FILE:1:29: error: "
		"rabbitmq.tls.cert_file: needs rabbitmq.tls.key_file too"},
	    {"rabbitmq: {tls: {key_file: /dev/null}}\n", "needs rabbitmq.tls.cert_file too"},
	    {"rabbitmq: {auth: external}\n",
		"FILE:1:18: error: rabbitmq.auth: external needs a "
		"client certificate; set rabbitmq.tls.cert_file"},
	    /* files */
	    {"postgres: {password_file: /no/such}\n",
		"FILE:1:27: error: postgres.password_file: "
		"cannot read /no/such: No such file or directory"},
	    {"postgres: {password_file: /tmp}\n", "cannot read /tmp: Is a directory"},
	    {"postgres: {password_file: \"\"}\n",
		"FILE:1:27: error: postgres.password_file must be "
		"the name of a file"},
	};

	(void)state;
	check_refusals(cases, COUNT(cases));
}

static void
all_mistakes_are_reported_at_once(void ** state)
{
	struct loaded l;

	(void)state;
	load(&l, "publish:\n  window: x\n  bacth: 5\nlog: {level: loud}\nretry: []\n",
	    ENVIRONMENT("OUTBOX_RELAY_WAKE_MODE=never", "OUTBOX_RELAY_POSTGRES_DNS=x"));
	assert_int_equal(l.result, -1);
	assert_int_equal(l.report.errors, 6);
	assert_says(&l, "FILE:2:11: error: publish.window must be");
	assert_says(&l, "FILE:3:3: error: unknown key \"bacth\"");
	assert_says(&l, "FILE:4:14: error: log.level must be");
	assert_says(&l, "FILE:5:8: error: retry must be a map");
	assert_says(&l,
	    "environment OUTBOX_RELAY_WAKE_MODE: error: wake.mode must be one of listen, "
	    "poll, not \"never\"");
	assert_says(&l,
	    "environment: error: unknown variable OUTBOX_RELAY_POSTGRES_DNS; did you mean "
	    "OUTBOX_RELAY_POSTGRES_DSN?");
	drop(&l);
}

static void
a_flood_of_mistakes_is_bounded(void ** state)
{
	struct buffer_ {
		char text[DOCUMENT_BYTES_MAX + 100];
	} * big = calloc(1, sizeof(*big));
	struct loaded l;
	size_t len = 0;

	(void)state;
	assert_non_null(big);
	for (int i = 0; i < 250; i++)
		len += (size_t)sprintf(big->text + len, "key%d: 1\n", i);
	load(&l, big->text, NULL);
	assert_int_equal(l.report.errors, CONFIG_MISTAKES_MAX);
	drop(&l);

	for (int i = 250; i < 400; i++)
		len += (size_t)sprintf(big->text + len, "key%d: 1\n", i);
	load(&l, big->text, NULL);
	assert_says(&l, "FILE:257:1: error: a map has more than 256 keys");
	drop(&l);

	len = (size_t)sprintf(big->text, "topology: {queues: [");
	for (int i = 0; i < 60000; i++)
		len += (size_t)sprintf(big->text + len, "{},");
	sprintf(big->text + len, "{}]}\n");
	load(&l, big->text, NULL);
	assert_says(&l, "the file has more than 50000 values");
	drop(&l);

	memset(big->text, '#', DOCUMENT_BYTES_MAX);
	write_bytes(big->text, DOCUMENT_BYTES_MAX, 0600);
	load_file(&l, NULL);
	assert_int_equal(l.result, 0);
	drop(&l);
	write_bytes(big->text, DOCUMENT_BYTES_MAX + 1, 0600);
	load_file(&l, NULL);
	assert_says(&l, "FILE: error: larger than 1048576 bytes");
	drop(&l);
	free(big);
}

static void
the_sample_equals_the_defaults(void ** state)
{
	struct config_request sample = {"config/outbox-relay.yaml", true, NULL};
	struct config_request none = {NULL, false, NULL};
	struct config_report report = {0};
	struct config a;
	struct config b;
	struct config_item x;
	struct config_item y;
	size_t i;

	(void)state;
	assert_int_equal(config_load(&a, &sample, &report), 0);
	assert_int_equal(report.warnings, 0);
	assert_int_equal(config_load(&b, &none, &report), 0);
	for (i = 0; config_item(&a, i, &x) && config_item(&b, i, &y); i++) {
		/* Every key of the schema stands in the sample. */
		if (strncmp(x.place, "config/outbox-relay.yaml:", 25) != 0)
			fail_msg("%s is missing in the sample", x.key);
		assert_string_equal(y.place, "default");
		assert_int_equal(x.count, y.count);
		for (size_t k = 0; k < x.count; k++)
			assert_string_equal(x.values[k], y.values[k]);
	}
	assert_int_equal(i, schema_size);
	config_free(&a);
	config_free(&b);
}

static void
the_defaults_are_those_of_the_design(void ** state)
{
	struct config_request request = {"/no/such/file", false, NULL};
	struct config_report report = {0};
	struct config c;

	(void)state;
	assert_int_equal(config_load(&c, &request, &report), 0);
	assert_string_equal(c.postgres.schema, "outbox");
	assert_null(c.postgres.password_file);
	assert_int_equal(c.rabbitmq.url_count, 1);
	assert_int_equal(c.rabbitmq.heartbeat, CLOCK_S(10));
	assert_int_equal(c.rabbitmq.auth, CONFIG_AUTH_PLAIN);
	assert_int_equal(c.publish.window, 10000);
	assert_int_equal(c.publish.batch, 500);
	assert_int_equal(c.publish.max_bytes_in_flight, 64 << 20);
	assert_int_equal(c.publish.confirm_timeout, CLOCK_S(15));
	assert_true(c.publish.mandatory);
	assert_int_equal(c.publish.ordering, CONFIG_ORDERING_STRICT);
	assert_int_equal(c.publish.cloudevents, CONFIG_CLOUDEVENTS_OFF);
	assert_string_equal(c.publish.cloudevents_source, "/outbox");
	assert_int_equal(c.retry.initial, CLOCK_S(1));
	assert_int_equal(c.retry.max, CLOCK_S(300));
	assert_int_equal(c.retry.max_attempts, 10);
	assert_int_equal(c.retry.on_dead, CONFIG_ON_DEAD_CONTINUE);
	assert_int_equal(c.wake.mode, CONFIG_WAKE_LISTEN);
	assert_int_equal(c.wake.poll_interval, CLOCK_S(1));
	assert_string_equal(c.http.listen, "127.0.0.1:9464");
	assert_int_equal(c.log.level, LOG_LEVEL_INFO);
	assert_int_equal(c.log.format, LOG_FORMAT_LOGFMT);
	config_free(&c);
}

static void
values_of_every_type_are_read(void ** state)
{
	struct loaded l;

	(void)state;
	load(&l,
	    "%YAML 1.1\n---\npostgres:\n  dsn: 'host=a b'\n  wait_for_flush: YES\n"
	    "rabbitmq:\n  urls:\n    - amqp://a\n    - 'amqps://b'\n  heartbeat: 0\n  tls:\n"
	    "publish: {window: \"20000\", max_bytes_in_flight: 128KiB, cloudevents: false,\n"
	    "  ordering: Pipelined}\n"
	    "retry: {multiplier: 1.5, max: 1h30m}\nhttp: {listen: ~}\nlog: {level: DEBUG, format: json}\n"
	    "topology: {exchanges: []}\n...\n",
	    NULL);
	assert_string_equal(l.said, "");
	assert_int_equal(l.result, 0);
	assert_string_equal(l.config.postgres.dsn, "host=a b");
	assert_true(l.config.postgres.wait_for_flush);
	assert_int_equal(l.config.rabbitmq.url_count, 2);
	assert_string_equal(l.config.rabbitmq.urls[1], "amqps://b");
	assert_int_equal(l.config.rabbitmq.heartbeat, 0);
	assert_int_equal(l.config.publish.window, 20000);
	assert_int_equal(l.config.publish.max_bytes_in_flight, 128 << 10);
	assert_int_equal(l.config.publish.cloudevents, CONFIG_CLOUDEVENTS_OFF);
	assert_int_equal(l.config.publish.ordering, CONFIG_ORDERING_PIPELINED);
	assert_true(l.config.retry.multiplier > 1.49 && l.config.retry.multiplier < 1.51);
	assert_int_equal(l.config.retry.max, CLOCK_S(5400));
	assert_null(l.config.http.listen);
	assert_int_equal(l.config.log.level, LOG_LEVEL_DEBUG);
	assert_int_equal(l.config.log.format, LOG_FORMAT_JSON);
	drop(&l);
}

static void
an_empty_file_is_a_configuration(void ** state)
{
	struct loaded l;

	(void)state;
	for (const char * const * text = (const char * const[]){"", "# nothing\n", "---\n", NULL};
	     *text != NULL; text++) {
		load(&l, *text, NULL);
		assert_int_equal(l.result, 0);
		assert_int_equal(l.config.publish.window, 10000);
		drop(&l);
	}
}

static void
a_missing_file_counts_only_when_it_was_named(void ** state)
{
	struct loaded l;

	(void)state;
	unlink(path);
	load_file(&l, NULL);
	assert_int_equal(l.result, -1);
	assert_says(&l, "FILE: error: cannot be read: No such file or directory; create the file");
	drop(&l);
}

static void
variables_are_filled_in_once(void ** state)
{
	struct loaded l;

	(void)state;
	load(&l, "postgres: {dsn: \"host=${H} x$$y $z ${PW}\", schema: \"${S}\"}\n",
	    ENVIRONMENT("H=db", "PW=a${H}$$", "S=s1", "HH=no"));
	assert_string_equal(l.said, "");
	assert_string_equal(l.config.postgres.dsn, "host=db x$y $z a${H}$$");
	assert_string_equal(l.config.postgres.schema, "s1");
	drop(&l);
}

static void
the_environment_beats_the_file(void ** state)
{
	struct config_item item;
	struct loaded l;

	(void)state;
	load(&l, "publish: {window: 5000}\nhttp: {listen: \"h:1\"}\n",
	    ENVIRONMENT("OUTBOX_RELAY_PUBLISH_WINDOW=7000",
		"OUTBOX_RELAY_HTTP_LISTEN=", "OUTBOX_RELAY_RABBITMQ_URLS=amqp://a, amqp://b,",
		"OUTBOX_RELAY_RETRY_MAX_ATTEMPTS=3", "OUTBOX_RELAY_POSTGRES_DSN=host=${x}",
		"OUTBOX_RELAY_CONFIG=/elsewhere", "OUTBOX_RELAY_SERVICE_HOST=10.0.0.1",
		"OUTBOX_RELAY_PORT_9464_TCP=tcp://10.0.0.1:9464",
		"OUTBOX_RELAY_TOPOLOGY_QUEUES=[{name: q}]"));
	assert_int_equal(l.result, 0);
	assert_int_equal(l.config.publish.window, 7000);
	assert_null(l.config.http.listen);
	assert_int_equal(l.config.rabbitmq.url_count, 2);
	assert_string_equal(l.config.rabbitmq.urls[1], "amqp://b");
	assert_int_equal(l.config.retry.max_attempts, 3);
	assert_string_equal(l.config.postgres.dsn, "host=${x}");
	assert_int_equal(l.config.topology.queue_count, 1);
	assert_true(config_item(&l.config, (size_t)(schema_find("publish.window") - schema),
	    &item));
	assert_string_equal(item.environment_name, "OUTBOX_RELAY_PUBLISH_WINDOW");
	assert_string_equal(item.place, "environment OUTBOX_RELAY_PUBLISH_WINDOW");
	drop(&l);
}

static void
a_list_of_texts_in_the_environment_may_be_written_as_in_the_file(void ** state)
{
	static char * const wrong[] = {"OUTBOX_RELAY_RABBITMQ_URLS=[\"amqp://a\"",
	    "OUTBOX_RELAY_RABBITMQ_URLS=[]", "OUTBOX_RELAY_RABBITMQ_URLS=[[amqp://a]]",
	    "OUTBOX_RELAY_RABBITMQ_URLS=[null]", "OUTBOX_RELAY_RABBITMQ_URLS=[{a: b}]",
	    "OUTBOX_RELAY_RABBITMQ_URLS=[amqp://a]: b"};
	struct loaded l;

	(void)state;
	load(&l, "", ENVIRONMENT("OUTBOX_RELAY_RABBITMQ_URLS=[\"amqp://a/x,y\", 'amqp://b']"));
	assert_int_equal(l.result, 0);
	assert_int_equal(l.config.rabbitmq.url_count, 2);
	assert_string_equal(l.config.rabbitmq.urls[0], "amqp://a/x,y");
	assert_string_equal(l.config.rabbitmq.urls[1], "amqp://b");
	drop(&l);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		load(&l, "", ENVIRONMENT(wrong[i]));
		assert_int_not_equal(l.result, 0);
		drop(&l);
	}
}

static void
a_lowered_window_lowers_the_usual_batch(void ** state)
{
	struct loaded l;

	(void)state;
	load(&l, "publish: {window: 100}\n", NULL);
	assert_int_equal(l.result, 0);
	assert_int_equal(l.config.publish.batch, 100);
	drop(&l);
}

static void
credentials_and_neighbours_are_found(void ** state)
{
	char variable[160];
	char expected[160];
	struct loaded l;

	(void)state;
	/* Beside the configuration: the configuration itself will do. */
	load(&l, "postgres: {password_file: relay.yaml}\n", NULL);
	assert_int_equal(l.result, 0);
	assert_string_equal(l.config.postgres.password_file, path);
	drop(&l);

	/* $CREDENTIALS_DIRECTORY comes first, for the environment's names too. */
	snprintf(variable, sizeof(variable), "CREDENTIALS_DIRECTORY=%s/.", directory);
	snprintf(expected, sizeof(expected), "%s/./relay.yaml", directory);
	load(&l, "postgres: {password_file: relay.yaml}\n",
	    ENVIRONMENT(variable, "OUTBOX_RELAY_RABBITMQ_PASSWORD_FILE=relay.yaml"));
	assert_int_equal(l.result, 0);
	assert_string_equal(l.config.postgres.password_file, expected);
	assert_string_equal(l.config.rabbitmq.password_file, expected);
	drop(&l);
}

static void
a_password_that_everybody_may_read_is_a_warning(void ** state)
{
	static const char text[] = "rabbitmq: {urls: [\"amqp://u:hunter2@h\"]}\n";
	struct loaded l;

	(void)state;
	write_bytes(text, strlen(text), 0644);
	load_file(&l, NULL);
	assert_int_equal(l.result, 0);
	assert_int_equal(l.report.warnings, 1);
	assert_says(&l,
	    "FILE:1:19: warning: rabbitmq.urls holds a password, and everybody may read "
	    "this file; chmod o-rwx");
	assert_null(strstr(l.said, "hunter2"));
	drop(&l);
	load(&l, text, NULL);
	assert_int_equal(l.report.warnings, 0);
	drop(&l);
}

static void
no_complaint_repeats_a_secret(void ** state)
{
	struct loaded l;

	(void)state;
	load(&l,
	    "postgres: {dsn: [\"password=hunter2\"]}\nrabbitmq: {urls: \"amqp://u:hunter2@h\"}\n",
	    NULL);
	assert_int_equal(l.report.errors, 2);
	assert_null(strstr(l.said, "hunter2"));
	drop(&l);
}

static void
every_key_is_documented_with_its_default(void ** state)
{
	static char docs[256 * 1024];
	FILE * file = fopen("docs/configuration.md", "r");
	char name[64];
	char row[256];
	size_t len;

	(void)state;
	assert_non_null(file);
	len = fread(docs, 1, sizeof(docs) - 1, file);
	docs[len] = '\0';
	fclose(file);
	for (size_t i = 0; i < schema_size; i++) {
		snprintf(row, sizeof(row), "\n| `%s` | `%s` | ", schema[i].key,
		    schema[i].fallback == NULL      ? "null" :
			*schema[i].fallback == '\0' ? "\"\"" :
						      schema[i].fallback);
		if (strstr(docs, row) == NULL)
			fail_msg("docs/configuration.md has no row \"%s...\"", row + 1);
		schema_environment_name(&schema[i], name, sizeof(name));
		if (strstr(docs, name) == NULL)
			fail_msg("docs/configuration.md does not name %s", name);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_mistake_is_reported_with_place_and_remedy),
	    cmocka_unit_test(all_mistakes_are_reported_at_once),
	    cmocka_unit_test(a_flood_of_mistakes_is_bounded),
	    cmocka_unit_test(the_sample_equals_the_defaults),
	    cmocka_unit_test(the_defaults_are_those_of_the_design),
	    cmocka_unit_test(values_of_every_type_are_read),
	    cmocka_unit_test(an_empty_file_is_a_configuration),
	    cmocka_unit_test(a_missing_file_counts_only_when_it_was_named),
	    cmocka_unit_test(variables_are_filled_in_once),
	    cmocka_unit_test(the_environment_beats_the_file),
	    cmocka_unit_test(a_list_of_texts_in_the_environment_may_be_written_as_in_the_file),
	    cmocka_unit_test(a_lowered_window_lowers_the_usual_batch),
	    cmocka_unit_test(credentials_and_neighbours_are_found),
	    cmocka_unit_test(a_password_that_everybody_may_read_is_a_warning),
	    cmocka_unit_test(no_complaint_repeats_a_secret),
	    cmocka_unit_test(every_key_is_documented_with_its_default),
	};

	return (cmocka_run_group_tests_name("config", tests, make_directory, remove_directory));
}
