#ifndef BASE_CONTROL_H
#define BASE_CONTROL_H

#include <stddef.h>

/**
 * control_length(text):
 * How many bytes the character at ${text} takes, if a terminal or a reader
 * would obey it instead of seeing it: control characters (C0, DEL, C1), line
 * and paragraph separators, changes of direction (Unicode 15, 23.1 and 23.2).
 * 0 for every other, and at the end.
 */
size_t control_length(const char * text);

#endif /* BASE_CONTROL_H */
