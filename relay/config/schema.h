#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "config/pool.h"

/*
 * Every key there is.  Loading, printing, the environment's names, the tests
 * of the sample and of the docs all follow this table: a new key is one line
 * here, one member of struct config, one line in each of sample and docs.
 */
enum setting_type {
	SETTING_STRING,
	SETTING_FILE, /* a file to read; relative names are looked up */
	SETTING_BOOL,
	SETTING_INTEGER,  /* uint32_t */
	SETTING_NUMBER,   /* double */
	SETTING_DURATION, /* clock_ns */
	SETTING_SIZE,     /* size_t */
	SETTING_ENUM,     /* int: index into choices */
	SETTING_STRINGS,
	SETTING_MAPS /* an array of what relay/config/topology.c makes */
};

struct setting {
	const char * key;
	enum setting_type type;
	size_t offset;         /* in struct config */
	size_t count_offset;   /* of a list: of the count */
	const char * fallback; /* the default as in the file; NULL: null */
	bool nullable;
	int64_t min;                              /* integers, numbers, durations, sizes: */
	int64_t max;                              /* range, and of a list's length */
	const char * const * choices;             /* SETTING_ENUM, NULL ends it */
	const char * (*check)(const char * text); /* strings: NULL, or what it should be */
	enum config_secret secret;
};

extern const struct setting schema[];
extern const size_t schema_size;

#define SCHEMA_SIZE_MAX 64
#define SCHEMA_LIST_MAX 32
#define SCHEMA_ENVIRONMENT_PREFIX "OUTBOX_RELAY_"

/**
 * schema_find(key):
 * The setting of that name, or NULL.
 */
const struct setting * schema_find(const char * key);

/**
 * schema_has_section(key):
 * Whether settings have names that begin with "${key}.".
 */
bool schema_has_section(const char * key);

/**
 * schema_environment_name(setting, name, size):
 * "OUTBOX_RELAY_PUBLISH_WINDOW".
 */
void schema_environment_name(const struct setting * setting, char * name, size_t size);

/**
 * schema_store(setting, config, pool, text, why, why_size):
 * Read ${text} (NULL: null) as the setting's type into ${config}; strings are
 * copied into ${pool}.  Not for lists.  0, or -1 with in ${why} what the
 * setting takes; -2 when out of memory.
 */
int schema_store(const struct setting * setting, struct config * config, struct pool * pool,
    const char * text, char * why, size_t why_size);

/**
 * schema_print(setting, config, text, size):
 * The text that reads as the value of a setting that is neither a string nor
 * a list.
 */
void schema_print(const struct setting * setting, const struct config * config, char * text,
    size_t size);

#endif /* CONFIG_SCHEMA_H */
