#ifndef CONFIG_EXPAND_H
#define CONFIG_EXPAND_H

#include "config/pool.h"

/* Most bytes of a value after expansion. */
#define EXPAND_BYTES_MAX 65536

/**
 * expand_find(environment, name):
 * The value of ${name} among "NAME=value" strings; NULL when it is not set.
 */
const char * expand_find(char * const * environment, const char * name);

/**
 * expand_value(pool, text, environment, why, why_size):
 * ${text} with each ${NAME} replaced by that variable and each $$ by $.  NULL
 * with in ${why} what is wrong ("" when out of memory).
 */
const char * expand_value(struct pool * pool, const char * text, char * const * environment,
    char * why, size_t why_size);

#endif /* CONFIG_EXPAND_H */
