#include "fuzz.h"

#include <ctype.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"

/*
 * Configuration: the YAML text, and behind a zero byte each a variable of the
 * environment ("NAME=value"), which ${NAME} and OUTBOX_RELAY_* take from.
 *
 * What was accepted is written down again, each value with the key that
 * config_item gives it, and must be accepted with the same values: so what a
 * person sees with "check --print" is what the relay works with.
 */
#define VARIABLES_MAX 16

static char name[64];

static int
load(int fd, char * const * environment, struct config * config, struct config_report * report)
{
	struct config_request request = {.file = name,
	    .file_required = true,
	    .environment = environment};

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return (config_load(config, &request, report));
}

/* Complaints are printed as they are for a person; nothing is looked for. */
static void
print_report(const struct config_report * report)
{
	char * text = NULL;
	size_t size;
	FILE * out = open_memstream(&text, &size);

	CHECK(out != NULL);
	config_report_print(report, out);
	fclose(out);
	free(text);
}

/* In double quotes, with all that means something escaped; $ is doubled. */
static void
write_text(FILE * out, const char * text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if (iscntrl((unsigned char)*text))
			fprintf(out, "\\x%02x", (unsigned char)*text);
		else if (*text == '$')
			fputs("$$", out);
		else
			fputc(*text, out);
	}
	fputc('"', out);
}

/*
 * "a.b.c" as what begins a line below the one of ${previous}.  Keys of one
 * section stand together.
 */
static void
write_key(FILE * out, const char * previous, const char * key)
{
	size_t same = 0, i;
	int depth = 0;

	for (i = 0; previous[i] != '\0' && previous[i] == key[i]; i++)
		if (key[i] == '.')
			same = i + 1;
	for (i = 0; i < same; i++)
		depth += key[i] == '.';
	while (key[same] != '\0') {
		size_t len = strcspn(key + same, ".");

		fprintf(out, "%*s%.*s:%s", 2 * depth, "", (int)len, key + same,
		    key[same + len] == '.' ? "\n" : " ");
		same += len + (key[same + len] == '.');
		depth++;
	}
}

/* The configuration as a file of its own.  false: some value has no place in one. */
static bool
write_config(const struct config * config, int fd)
{
	char * text = NULL;
	size_t size;
	FILE * out = open_memstream(&text, &size);
	const char * previous = "";
	struct config_item item;
	bool writable = true;

	for (size_t i = 0; config_item(config, i, &item); i++) {
		/* What is declared is counted alone. */
		if (strncmp(item.key, "topology.", 9) == 0)
			continue;
		write_key(out, previous, item.key);
		previous = item.key;
		if (!item.list && item.count == 0)
			fputs("null", out);
		if (item.list)
			fputc('[', out);
		for (size_t n = 0; n < item.count; n++) {
			writable = writable && reference_utf8(bytes_from(item.values[n]));
			if (n > 0)
				fputs(", ", out);
			write_text(out, item.values[n]);
		}
		fputs(item.list ? "]\n" : "\n", out);
	}
	fclose(out);
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(pwrite(fd, text, size, 0) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
	free(text);
	return (writable && size < 1024 * 1024);
}

static void
is_what_it_says(const struct config * config, int fd)
{
	struct config_report report = {0};
	struct config_item a, b;
	struct config again;

	if (!write_config(config, fd))
		return;
	if (load(fd, NULL, &again, &report)) {
		config_report_print(&report, stderr);
		FAIL("accepted again");
	}
	for (size_t i = 0; config_item(config, i, &a); i++) {
		CHECK(config_item(&again, i, &b));
		if (strncmp(a.key, "topology.", 9) == 0)
			continue;
		CHECK(a.count == b.count);
		for (size_t n = 0; n < a.count; n++)
			CHECK(strcmp(a.values[n], b.values[n]) == 0);
	}
	config_free(&again);
	config_report_free(&report);
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	char * text = malloc(size + 1);
	char *environment[VARIABLES_MAX + 1] = {NULL}, *end = text + size, *p;
	struct config_report report = {0};
	struct config config;
	size_t count = 0;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	CHECK(fd >= 0);
	memcpy(text, data, size);
	*end = '\0';
	CHECK(pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
	for (p = text + strlen(text); p < end && count < VARIABLES_MAX; p += strlen(p))
		environment[count++] = ++p;
	if (load(fd, environment, &config, &report) == 0)
		is_what_it_says(&config, fd);
	else {
		CHECK(report.errors > 0 && !report.out_of_memory);
		config_complain(&config, &report, "rabbitmq.urls", 3, "of no use", NULL);
	}
	print_report(&report);
	config_free(&config);
	config_report_free(&report);
	close(fd);
	free(text);
	return (0);
}
