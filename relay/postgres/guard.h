#ifndef POSTGRES_GUARD_H
#define POSTGRES_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/error.h"
#include "postgres/cursor.h"
#include "postgres/version.h"

/*
 * What must hold before a row is read: this is a primary, the schema is one
 * that we know, and the recorded position belongs to this very database and
 * not to the one that it was copied from.
 */

/* What the schema has, as it was at the connect. */
struct guard_schema {
	bool has_trigger; /* writers wake a sleeping relay */
	struct version version;
};

/* Which cluster, database and table a position belongs to. */
struct guard_identity {
	int64_t system_identifier;
	uint32_t database_oid;
	uint32_t table_oid;
};

/* What the database has recorded. */
struct guard_record {
	struct guard_identity identity; /* of this database */
	int64_t seq;                    /* of the newest mark; 0: none */
	int64_t max_id;
	struct cursor_position position; /* strings live as long as the result */
};

/* Answers with one row, whether or not the schema exists. */
extern const char guard_server_sql[];

/**
 * guard_check_server(result, schema, e):
 * Judge the answer to guard_server_sql.  0, or -1 with ${e}; for a standby its
 * sqlstate is GUARD_STANDBY.
 */
#define GUARD_STANDBY "25006"
int guard_check_server(const PGresult * result, const char * schema, struct error * e);

/**
 * guard_backend_pid(result):
 * The server process that gave the answer to guard_server_sql.
 */
int32_t guard_backend_pid(const PGresult * result);

/* Answers with one row; only after guard_check_server said yes. */
extern const char guard_schema_sql[];

/**
 * guard_check_schema(result, schema, found, e):
 * Judge the answer to guard_schema_sql.  0, or -1 with ${e}.
 */
int guard_check_schema(const PGresult * result, const char * schema, struct guard_schema * found,
    struct error * e);

/**
 * guard_has(found, migration):
 * As version_has.
 */
bool guard_has(const struct guard_schema * found, unsigned int migration);

/* Answers with one row. */
extern const char guard_record_sql[];

/**
 * guard_check_record(result, schema, record, e):
 * Read the answer to guard_record_sql, and refuse a position from another
 * database: what it calls sent would be rows that were never sent.  0, or -1
 * with ${e}.
 */
int guard_check_record(const PGresult * result, const char * schema, struct guard_record * record,
    struct error * e);

#endif /* POSTGRES_GUARD_H */
