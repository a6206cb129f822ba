#ifndef HTTP_JSON_H
#define HTTP_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"

/*
 * Writing JSON into a buffer.  Commas are put by themselves.  What does not
 * fit sets failed, and nothing more is written.
 *
 *   struct json j = {.out = &buffer};
 *   json_begin(&j, NULL, '{');
 *   json_number(&j, "id", 7);
 *   json_end(&j, '}');
 */
struct json {
	struct buffer * out;
	bool comma; /* something stands before */
	bool failed;
};

/* ${key}: NULL in an array, and for the outermost value.  */
void json_begin(struct json * j, const char * key, char bracket);
void json_end(struct json * j, char bracket);

/**
 * json_text(j, key, text) and so on:
 * One value.  Invalid UTF-8 in ${text} is replaced; json_text_or_null writes
 * null for "".
 */
void json_text(struct json * j, const char * key, const char * text);
void json_text_or_null(struct json * j, const char * key, const char * text);
void json_number(struct json * j, const char * key, int64_t number);
void json_bool(struct json * j, const char * key, bool value);

/**
 * json_decimal(j, key, value) / json_decimal_or_null(j, key, value):
 * With as many digits as matter; the second one writes null below 0.
 */
void json_decimal(struct json * j, const char * key, double value);
void json_decimal_or_null(struct json * j, const char * key, double value);

/**
 * json_time(j, key, ms):
 * Milliseconds since 1970 as RFC 3339 in UTC; null for 0.
 */
void json_time(struct json * j, const char * key, int64_t ms);

#endif /* HTTP_JSON_H */
