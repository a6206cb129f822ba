#ifndef INBOX_CLAIMS_H
#define INBOX_CLAIMS_H

#include "inbox.h"

#define INBOX_SCHEMA_MAX 63                         /* bytes */
#define INBOX_QUOTED_MAX (2 * INBOX_SCHEMA_MAX + 2) /* as an SQL identifier */
#define INBOX_BATCH_MAX 65535                       /* ids in one statement */
#define INBOX_OID_TEXT 25                           /* built-in types, whose numbers never change */
#define INBOX_OID_TEXT_ARRAY 1009

/**
 * inbox_quote_schema(quoted, schema, error):
 * Write ${schema} (NULL: inbox) as an identifier in SQL.
 */
enum inbox_code inbox_quote_schema(char quoted[INBOX_QUOTED_MAX + 1], const char * schema,
    struct inbox_error * error);

/*
 * An array of texts in the binary form that the server reads: no quoting.
 */
struct inbox_array {
	char * data;
	int len;
};

/**
 * inbox_array_make(array, texts, count):
 * Returns false when there is no memory; else free(array->data) later.
 */
bool inbox_array_make(struct inbox_array * array, const char * const * texts, size_t count);

/**
 * inbox_claims_match(result, ids, count, are_new):
 * Set ${are_new} for the first of each id that is a row of ${result}.  Returns
 * false when there is no memory.
 */
bool inbox_claims_match(const PGresult * result, const char * const * ids, size_t count,
    bool * are_new);

#endif /* INBOX_CLAIMS_H */
