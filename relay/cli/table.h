#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stddef.h>

#include "admin/oneshot.h"

/**
 * table_print(answer, rows, columns):
 * So much of it on stdout under its names, aligned; "-" for what has no value,
 * long values cut except in the last column.
 */
void table_print(const struct oneshot * answer, size_t rows, size_t columns);

/**
 * table_print_line(text):
 * As far as its first line goes, and a newline; control characters become
 * spaces; NULL is "-".
 *
 * table_print_text(text):
 * All of it.
 */
void table_print_line(const char * text);
void table_print_text(const char * text);

/**
 * table_print_fields(answer, row, columns):
 * Of one row, a line for each of its first ${columns} columns.
 */
void table_print_fields(const struct oneshot * answer, size_t row, size_t columns);

#endif /* CLI_TABLE_H */
