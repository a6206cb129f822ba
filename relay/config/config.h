#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"

/*
 * The configuration as plain values, ready to be handed on: defaults, then
 * the YAML file, then the environment.  docs/configuration.md describes every
 * key; relay/config/schema.c is the table that everything follows.
 */

enum config_auth { CONFIG_AUTH_PLAIN, CONFIG_AUTH_EXTERNAL };
enum config_ordering { CONFIG_ORDERING_STRICT, CONFIG_ORDERING_PIPELINED };
enum config_cloudevents { CONFIG_CLOUDEVENTS_OFF, CONFIG_CLOUDEVENTS_BINARY };
enum config_on_dead { CONFIG_ON_DEAD_CONTINUE, CONFIG_ON_DEAD_HOLD };
enum config_wake { CONFIG_WAKE_LISTEN, CONFIG_WAKE_POLL };
enum config_queue_type { CONFIG_QUEUE_QUORUM, CONFIG_QUEUE_CLASSIC, CONFIG_QUEUE_STREAM };

/* One of the optional arguments of an exchange, a queue or a binding. */
enum config_argument_kind {
	CONFIG_ARGUMENT_TEXT,
	CONFIG_ARGUMENT_INTEGER,
	CONFIG_ARGUMENT_BOOLEAN,
	CONFIG_ARGUMENT_NOTHING /* null */
};

struct config_argument {
	const char * name;
	enum config_argument_kind kind;
	const char * text; /* as it stands in the file */
	int64_t number;    /* of an integer; 0 or 1 of a boolean */
};

#define CONFIG_ARGUMENTS_MAX 32

struct config_arguments {
	size_t count;
	struct config_argument list[CONFIG_ARGUMENTS_MAX];
};

/* What is declared in topology.  ${place}: where, like "FILE:12". */
struct config_exchange {
	const char * place;
	const char * name;
	const char * type; /* direct, fanout, topic, headers, or x-... of a plugin */
	bool durable;
	bool auto_delete;
	bool internal;
	const struct config_arguments * arguments; /* NULL: none */
};

struct config_queue {
	const char * place;
	const char * name;
	int type; /* enum config_queue_type */
	bool durable;
	bool auto_delete;
	const struct config_arguments * arguments;
};

struct config_binding {
	const char * place;
	const char * exchange;    /* from here */
	const char * queue;       /* to there: NULL ... */
	const char * to_exchange; /* ... in one of them */
	const char * routing_key;
	const struct config_arguments * arguments;
};

/*
 * All strings belong to the config.  Those that may be null in the file are
 * NULL then.  File names are absolute or relative to the working directory.
 * Enumerations are ints, so that the table can point at them.
 */
struct config {
	struct {
		const char * dsn;           /* "": libpq's defaults and PG* variables */
		const char * password_file; /* NULL: none */
		const char * schema;
		bool wait_for_flush;
	} postgres;
	struct {
		const char * const * urls;
		size_t url_count;           /* at least 1 */
		const char * password_file; /* NULL: none */
		int auth;                   /* enum config_auth */
		clock_ns heartbeat;         /* whole seconds, at most 65535; 0: off */
		struct {
			const char * ca_file; /* each NULL: none */
			const char * cert_file;
			const char * key_file;
			const char * server_name;
		} tls;
	} rabbitmq;
	struct {
		uint32_t window;
		uint32_t batch; /* 1..window */
		size_t max_bytes_in_flight;
		clock_ns confirm_timeout;
		bool mandatory;
		int ordering;    /* enum config_ordering */
		int cloudevents; /* enum config_cloudevents */
		const char * cloudevents_source;
	} publish;
	struct {
		clock_ns initial;
		double multiplier;
		clock_ns max; /* at least initial */
		uint32_t max_attempts;
		int on_dead; /* enum config_on_dead */
	} retry;
	struct {
		int mode; /* enum config_wake */
		clock_ns poll_interval;
	} wake;
	struct {
		const char * listen; /* host:port; NULL: off */
	} http;
	struct {
		int level;  /* enum log_level */
		int format; /* enum log_format */
	} log;
	struct {
		const struct config_exchange * exchanges;
		size_t exchange_count;
		const struct config_queue * queues;
		size_t queue_count;
		const struct config_binding * bindings;
		size_t binding_count;
	} topology;

	struct config_private * private; /* where the values come from; their memory */
};

/* Where to read it. */
struct config_request {
	const char * file;          /* NULL: no file */
	bool file_required;         /* a missing file is a mistake */
	char * const * environment; /* "NAME=value", NULL ends it; NULL: none */
};

/*
 * What is wrong with it: all mistakes, in the order found, at most
 * CONFIG_MISTAKES_MAX.  Zero-initialise it.
 */
#define CONFIG_MISTAKES_MAX 100

struct config_report {
	struct config_mistake * first;
	struct config_mistake * last;
	unsigned int errors;
	unsigned int warnings;
	bool out_of_memory;
};

/**
 * config_load(config, request, report):
 * Fill ${config}.  Returns 0, or -1 when ${report} holds an error; then the
 * values are not to be used, but config_complain and config_free may be
 * called.  Reads files, writes none, connects nowhere.
 */
int config_load(struct config * config, const struct config_request * request,
    struct config_report * report);

/**
 * config_free(config):
 * Give back all that config_load made.  A zeroed config is fine.
 */
void config_free(struct config * config);

/**
 * config_complain(config, report, key, item, text, remedy):
 * Add an error about the value of ${key} (its item number ${item} if it is a
 * list), at the place it was set.
 */
void config_complain(const struct config * config, struct config_report * report, const char * key,
    size_t item, const char * text, const char * remedy);

/**
 * config_report_print(report, out):
 * A line each: "FILE:LINE:COLUMN: error: TEXT; REMEDY".
 */
void config_report_print(const struct config_report * report, FILE * out);

/**
 * config_report_log(report):
 * Log it, for a daemon.
 */
void config_report_log(const struct config_report * report);

/**
 * config_report_free(report):
 * Empty it.
 */
void config_report_free(struct config_report * report);

/* What a value may give away when it is shown. */
enum config_secret {
	CONFIG_PUBLIC,
	CONFIG_SECRET_DSN, /* libpq conninfo or URI */
	CONFIG_SECRET_URL  /* amqp URLs */
};

/* One key as it stands. */
struct config_item {
	const char * key;              /* "publish.window" */
	const char * environment_name; /* "OUTBOX_RELAY_PUBLISH_WINDOW" */
	enum config_secret secret;
	bool list;
	size_t count;            /* of values; 1 unless it is a list; 0: null */
	const char * values[32]; /* as they would stand in the file */
	char place[4160];        /* "default", "FILE:LINE", "environment NAME" */
	char text[64];           /* room for a number's text */
	char name[64];           /* room for environment_name */
};

/**
 * config_item(config, index, item):
 * Describe the key with the number ${index}, from 0 on; false behind the last.
 * The pointers live as long as both ${config} and ${item}.
 */
bool config_item(const struct config * config, size_t index, struct config_item * item);

#endif /* CONFIG_CONFIG_H */
