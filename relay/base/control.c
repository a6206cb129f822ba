/*
 * Names and reasons come from applications and brokers and are shown in logs
 * and on terminals, where they must not move a cursor, end a line or turn the
 * direction of what follows.
 */
#include "base/control.h"

size_t
control_length(const char * text)
{
	const unsigned char * p = (const unsigned char *)text;

	if (p[0] != '\0' && (p[0] < 0x20 || p[0] == 0x7f))
		return (1);
	if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
		return (2);
	/* U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069. */
	if (p[0] == 0xe2 && p[1] == 0x80 &&
	    (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae)))
		return (3);
	if (p[0] == 0xe2 && p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9)
		return (3);
	return (0);
}
