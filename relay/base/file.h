#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>

#include "base/error.h"

/**
 * file_read_secret(path, text, size, e):
 * Read a password of at most ${size} - 1 bytes from ${path} into ${text}: the
 * first line without its line break.  0, or -1 with ${e} naming the path.
 */
int file_read_secret(const char * path, char * text, size_t size, struct error * e);

#endif /* BASE_FILE_H */
