#ifndef POSTGRES_SQL_H
#define POSTGRES_SQL_H

/*
 * Of every session: what others may have put into a schema of the role's own
 * path, a better fitting function say, is never run with the role's rights.
 */
#define SQL_SEARCH_PATH "pg_catalog, pg_temp"

/**
 * sql_rename(sql, word, name):
 * A copy of ${sql} in which ${word}, wherever it stands as a whole word, is
 * ${name}.  The caller frees it; NULL when out of memory.
 */
char * sql_rename(const char * sql, const char * word, const char * name);

/**
 * sql_in_schema(text, schema):
 * A copy of ${text} in which the word outbox (which in our SQL is only ever
 * the schema's name) is ${schema}.  The caller frees it; NULL when out of
 * memory.
 */
char * sql_in_schema(const char * text, const char * schema);

#endif /* POSTGRES_SQL_H */
