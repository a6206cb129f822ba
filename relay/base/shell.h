#ifndef BASE_SHELL_H
#define BASE_SHELL_H

#include <stddef.h>

/**
 * shell_quote(out, size, text):
 * ${text} as one word for a POSIX shell, in the form that reads best.  What
 * does not fit is not quoted in half: ${out} is "..." then.  Returns ${out}.
 */
char * shell_quote(char * out, size_t size, const char * text);

#endif /* BASE_SHELL_H */
