#ifndef POSTGRES_CURSOR_SQL_H
#define POSTGRES_CURSOR_SQL_H

/*
 * The statements of the snapshot cursor.  Each can be prepared under its name;
 * the schema is called "outbox" in them (sql_in_schema).
 */
enum cursor_statement_number {
	CURSOR_TINY,  /* a new interval, if it has few rows */
	CURSOR_SMALL, /* a new interval, or more of an open one, that is not large */
	CURSOR_LARGE, /* a page of a large one */
	CURSOR_BELOW, /* before its first page: whether the floor may be relied on */
	CURSOR_STATEMENTS
};

struct cursor_statement {
	const char * name;
	const char * sql;
};

extern const struct cursor_statement cursor_statements[CURSOR_STATEMENTS];

/* The columns of their answers; from TINY_ROWS and SMALL_ROWS on, and in that of
 * CURSOR_LARGE, those of ROWS_COLUMNS_SQL. */
enum { TINY_TARGET, TINY_FITS, TINY_ROWS };
enum { SMALL_TARGET, SMALL_LARGE, SMALL_CEILING, SMALL_ROWS };

#endif /* POSTGRES_CURSOR_SQL_H */
