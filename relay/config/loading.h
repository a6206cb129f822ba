#ifndef CONFIG_LOADING_H
#define CONFIG_LOADING_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "config/document.h"
#include "config/pool.h"
#include "config/report.h"
#include "config/schema.h"

/*
 * What the steps of loading share: private to relay/config.
 */
enum origin_kind { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT };

/* Where the value of a setting comes from. */
struct origin {
	enum origin_kind kind;
	struct place place;                  /* source: kept in the pool */
	struct place items[SCHEMA_LIST_MAX]; /* of a list from the file */
};

struct config_private {
	struct pool pool;                       /* every string of the config */
	struct origin origins[SCHEMA_SIZE_MAX]; /* beside schema */
};

struct loading {
	struct config * config;
	struct config_report * report;
	const struct config_request * request;
	struct pool * pool;  /* config->private->pool */
	bool world_readable; /* the file */
};

/**
 * loading_value(l, setting, text, origin):
 * Store one value (NULL: null) and its origin, or report why it cannot be.
 */
void loading_value(struct loading * l, const struct setting * setting, const char * text,
    const struct origin * origin);

/**
 * loading_list(l, setting, texts, count, origin):
 * The same for SETTING_STRINGS; ${count} may be above the setting's maximum.
 */
void loading_list(struct loading * l, const struct setting * setting, const char * const * texts,
    size_t count, const struct origin * origin);

/**
 * loading_maps(l, setting, node, origin):
 * The same for SETTING_MAPS, whose texts may hold variables if they come from
 * the file (relay/config/topology.c).
 */
void loading_maps(struct loading * l, const struct setting * setting, const struct node * node,
    const struct origin * origin);

/**
 * loading_file(l):
 * Read the file of the request, if there is one.
 */
void loading_file(struct loading * l);

/**
 * loading_environment(l):
 * Read the OUTBOX_RELAY_* variables.
 */
void loading_environment(struct loading * l);

/**
 * loading_check(l):
 * What can only be judged with all values at hand.
 */
void loading_check(struct loading * l);

/**
 * loading_origin(config, setting):
 * Where its value comes from.
 */
struct origin * loading_origin(const struct config * config, const struct setting * setting);

#endif /* CONFIG_LOADING_H */
