#include "base/file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int
file_read_secret(const char * path, char * text, size_t size, struct error * e)
{
	FILE * f;
	size_t length;
	bool failed;

	if ((f = fopen(path, "re")) == NULL) {
		error_set(e, EXIT_CONFIGURATION, "cannot read the password file %s: %s", path,
		    strerror(errno));
		return (error_remedy(e, "create it, readable by the relay's user alone"));
	}
	setvbuf(f, NULL, _IONBF, 0);
	length = fread(text, 1, size, f);
	failed = ferror(f) != 0;
	fclose(f);
	if (failed) {
		explicit_bzero(text, size);
		return (error_set(e, EXIT_CONFIGURATION, "cannot read the password file %s", path));
	}
	if (length == size) {
		explicit_bzero(text, size);
		return (error_set(e, EXIT_CONFIGURATION,
		    "the password file %s is longer than %zu bytes", path, size - 1));
	}
	text[length] = '\0';
	text[strcspn(text, "\r\n")] = '\0';
	if (text[0] == '\0') {
		error_set(e, EXIT_CONFIGURATION, "the password file %s is empty", path);
		return (error_remedy(e, "write the password into its first line"));
	}
	return (0);
}
