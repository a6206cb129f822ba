#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/shell.h"
#include "base/suggest.h"
#include "config/expand.h"
#include "config/loading.h"
#include "config/value.h"

/*
 * The YAML file laid over the schema: the tree is walked, and every entry is
 * a setting, a section of settings, or a mistake with its place.
 */

/* The whole of fd into *data; -1 with errno, -2 when it is too large. */
static ssize_t
read_all(int fd, char * data, size_t max)
{
	size_t len = 0;

	for (;;) {
		ssize_t n = read(fd, data + len, max - len);

		if (n == 0)
			return ((ssize_t)len);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return (-1);
		}
		if ((len += (size_t)n) == max)
			return (-2);
	}
}

static struct place
node_place(const struct loading * l, const struct node * node)
{
	return ((struct place){l->request->file, node->line, node->column});
}

static struct origin
node_origin(const struct loading * l, const struct node * node)
{
	return ((struct origin){.kind = ORIGIN_FILE, .place = node_place(l, node)});
}

/* A scalar's text with its variables filled in; NULL with the error reported. */
static const char *
expand_node(struct loading * l, const struct setting * setting, const struct node * node)
{
	char why[256] = "";
	const char * text = expand_value(l->pool, node->text, l->request->environment, why,
	    sizeof(why));

	if (text == NULL && why[0] == '\0')
		l->report->out_of_memory = true;
	else if (text == NULL)
		report_error(l->report, node_place(l, node),
		    "set the variable, or write $$ for a $ of the value itself", "%s: %s",
		    setting->key, why);
	if (setting->secret != CONFIG_PUBLIC && l->world_readable &&
	    value_holds_password(node->text)) {
		char remedy[400], quoted[300];

		snprintf(remedy, sizeof(remedy),
		    "chmod o-rwx %s  # or use password_file or ${NAME}",
		    shell_quote(quoted, sizeof(quoted), l->request->file));
		report_warning(l->report, node_place(l, node), remedy,
		    "%s holds a password, and everybody may read this file", setting->key);
	}
	return (text);
}

static const char *
kind_name(const struct node * node)
{
	if (node->kind == NODE_MAP)
		return ("a map");
	return (node->kind == NODE_LIST ? "a list" : "a single value");
}

static void
read_list(struct loading * l, const struct setting * setting, const struct node * node)
{
	struct origin origin = node_origin(l, node);
	const char * texts[SCHEMA_LIST_MAX];
	size_t count = 0;

	for (const struct node * item = node->first; item != NULL; item = item->next) {
		if (count == SCHEMA_LIST_MAX)
			break;
		if (item->kind != NODE_SCALAR || node_is_null(item)) {
			report_error(l->report, node_place(l, item), NULL,
			    "an entry of %s must be a text, not %s", setting->key,
			    item->kind == NODE_SCALAR ? "null" : kind_name(item));
			return;
		}
		if ((texts[count] = expand_node(l, setting, item)) == NULL)
			return;
		origin.items[count++] = node_place(l, item);
	}
	loading_list(l, setting, texts, node->count, &origin);
}

static void
read_setting(struct loading * l, const struct setting * setting, const struct node * node)
{
	struct origin origin = node_origin(l, node);
	const char * text = NULL;

	if (setting->type == SETTING_MAPS) {
		loading_maps(l, setting, node, &origin);
	} else if (setting->type == SETTING_STRINGS) {
		if (node->kind == NODE_LIST)
			read_list(l, setting, node);
		else
			report_error(l->report, origin.place, "write it as [\"...\"]",
			    "%s must be a list of texts, not %s", setting->key,
			    node_is_null(node) ? "null" : kind_name(node));
	} else if (node->kind != NODE_SCALAR) {
		report_error(l->report, origin.place, NULL, "%s must be a single value, not %s",
		    setting->key, kind_name(node));
	} else if (node_is_null(node) || (text = expand_node(l, setting, node)) != NULL) {
		loading_value(l, setting, text, &origin);
	}
}

/* The part of a key directly below the section, or NULL. */
static const char *
name_below(const char * key, const char * section, char * name, size_t size)
{
	size_t len = strlen(section);

	if (len > 0 && (strncmp(key, section, len) != 0 || key[len] != '.'))
		return (NULL);
	if (len > 0)
		key += len + 1;
	snprintf(name, size, "%.*s", (int)strcspn(key, "."), key);
	return (name);
}

static void
report_unknown(struct loading * l, const char * section, const struct node * key)
{
	struct suggestion suggestion = {.word = key->text};
	char names[SCHEMA_SIZE_MAX][32];
	char remedy[400] = "";
	char known[300] = "";
	size_t len = 0;
	const struct setting * elsewhere = schema_find(key->text);

	for (size_t i = 0; i < schema_size; i++) {
		const char * leaf = strrchr(schema[i].key, '.') + 1;

		if (strcmp(leaf, key->text) == 0)
			elsewhere = &schema[i];
		if (name_below(schema[i].key, section, names[i], sizeof(names[i])) == NULL)
			continue;
		suggestion_offer(&suggestion, names[i]);
		if ((len == 0 || strcmp(names[i], names[i - 1]) != 0) && len < sizeof(known))
			len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s",
			    len > 0 ? ", " : "", names[i]);
	}
	if (elsewhere != NULL && (suggestion.best == NULL || suggestion.distance > 0))
		snprintf(remedy, sizeof(remedy), "did you mean %s (\"%s\" inside \"%.*s\")?",
		    elsewhere->key, strrchr(elsewhere->key, '.') + 1,
		    (int)(strrchr(elsewhere->key, '.') - elsewhere->key), elsewhere->key);
	else if (suggestion.best != NULL)
		snprintf(remedy, sizeof(remedy), "did you mean \"%s\"?", suggestion.best);
	else
		snprintf(remedy, sizeof(remedy), "known here: %s", known);
	report_error(l->report, node_place(l, key), remedy, "unknown key \"%.60s\"%s%s", key->text,
	    *section != '\0' ? " in " : "", section);
}

static void
read_section(struct loading * l, const char * section, const struct node * map)
{
	if (map->kind != NODE_MAP) {
		/* "postgres:" with nothing below it sets nothing. */
		if (!node_is_null(map))
			report_error(l->report, node_place(l, map), NULL,
			    "%s must be a map of keys and values, not %s",
			    *section != '\0' ? section : "the file", kind_name(map));
		return;
	}
	for (const struct node * node = map->first; node != NULL; node = node->next) {
		const struct setting * setting;
		char key[96];
		int len;

		if (report_full(l->report))
			return;
		len = snprintf(key, sizeof(key), "%s%s%s", section, *section != '\0' ? "." : "",
		    node->key->text);
		if ((size_t)len >= sizeof(key) || strchr(node->key->text, '.') != NULL)
			report_unknown(l, section, node->key);
		else if ((setting = schema_find(key)) != NULL)
			read_setting(l, setting, node);
		else if (schema_has_section(key))
			read_section(l, key, node);
		else
			report_unknown(l, section, node->key);
	}
}

static int
open_file(struct loading * l)
{
	struct place place = {l->request->file, 0, 0};
	struct stat status;
	int fd = open(l->request->file, O_RDONLY | O_CLOEXEC);

	if (fd == -1) {
		if (errno != ENOENT || l->request->file_required)
			report_error(l->report, place,
			    errno == ENOENT ? "create the file, or name another one with --config" :
					      "let the user of the relay read it",
			    "cannot be read: %s", strerror(errno));
		return (-1);
	}
	if (fstat(fd, &status) == 0)
		l->world_readable = (status.st_mode & S_IROTH) != 0;
	return (fd);
}

void
loading_file(struct loading * l)
{
	const char * file = l->request->file;
	struct pool nodes = {0};
	const struct node * root;
	char * data = NULL;
	ssize_t size;
	int fd;

	if (file == NULL || (fd = open_file(l)) == -1)
		return;
	if ((data = malloc(DOCUMENT_BYTES_MAX + 1)) == NULL) {
		l->report->out_of_memory = true;
		goto done;
	}
	size = read_all(fd, data, DOCUMENT_BYTES_MAX + 1);
	if (size == -1)
		report_error(l->report, (struct place){file, 0, 0}, NULL, "cannot be read: %s",
		    strerror(errno));
	else if (size == -2)
		report_error(l->report, (struct place){file, 0, 0}, "is it really a configuration?",
		    "larger than %d bytes", DOCUMENT_BYTES_MAX);
	else if ((root = document_read(&nodes, l->report, file, data, (size_t)size)) != NULL)
		read_section(l, "", root);
done:
	pool_free(&nodes);
	free(data);
	close(fd);
}
