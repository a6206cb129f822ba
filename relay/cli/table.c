/*
 * Values come from applications, so nothing in them may move a terminal's
 * cursor.  Widths count bytes: that is exact for names in ASCII.
 */
#include "cli/table.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/control.h"

#define WIDTH_MAX 40
#define COLUMNS_MAX 16

static size_t
length_of(const char * value)
{
	return (value == NULL ? 1 : strlen(value));
}

static void
print_cut(const char * value, size_t max)
{
	if (value == NULL)
		value = "-";
	for (size_t i = 0; i < max && value[i] != '\0'; i++) {
		size_t control = control_length(value + i);

		if (control > 0) {
			putchar(' ');
			i += control - 1;
		} else
			putchar(value[i]);
	}
}

void
table_print_text(const char * text)
{
	print_cut(text, SIZE_MAX);
	putchar('\n');
}

void
table_print_line(const char * text)
{
	print_cut(text, text == NULL ? 1 : strcspn(text, "\n"));
	putchar('\n');
}

static void
print_cell(const char * value, size_t width)
{
	size_t length = length_of(value);

	print_cut(value, width);
	printf("%*s", (int)(width - (length < width ? length : width)) + 2, "");
}

void
table_print(const struct oneshot * answer, size_t rows, size_t columns)
{
	size_t widths[COLUMNS_MAX] = {0};

	for (size_t c = 0; c + 1 < columns && c < COLUMNS_MAX; c++) {
		widths[c] = strlen(oneshot_name(answer, c));
		for (size_t r = 0; r < rows; r++) {
			size_t length = length_of(oneshot_value(answer, r, c));

			if (length > widths[c])
				widths[c] = length < WIDTH_MAX ? length : WIDTH_MAX;
		}
	}
	for (size_t c = 0; c + 1 < columns; c++)
		print_cell(oneshot_name(answer, c), widths[c]);
	puts(oneshot_name(answer, columns - 1));
	for (size_t r = 0; r < rows; r++) {
		for (size_t c = 0; c + 1 < columns; c++)
			print_cell(oneshot_value(answer, r, c), widths[c]);
		table_print_line(oneshot_value(answer, r, columns - 1));
	}
}

void
table_print_fields(const struct oneshot * answer, size_t row, size_t columns)
{
	for (size_t c = 0; c < columns; c++) {
		printf("%-28s", oneshot_name(answer, c));
		table_print_line(oneshot_value(answer, row, c));
	}
}
