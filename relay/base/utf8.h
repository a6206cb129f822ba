#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>

/**
 * utf8_length(p):
 * Length of the valid UTF-8 sequence (RFC 3629) at ${p}, which ends with a NUL
 * somewhere; 0 if there is none.
 */
size_t utf8_length(const unsigned char * p);

#endif /* BASE_UTF8_H */
