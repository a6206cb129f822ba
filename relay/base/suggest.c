#include "base/suggest.h"

#include <ctype.h>
#include <string.h>

/*
 * Damerau's distance in its restricted form (optimal string alignment), by
 * three rows of the usual table.  Longer words than WORD_MAX are not compared,
 * so a word from outside costs a bounded time.
 */
#define WORD_MAX 64

static unsigned int
min3(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int ab = a < b ? a : b;

	return (ab < c ? ab : c);
}

static void
fold(char * folded, const char * word, size_t len)
{
	for (size_t i = 0; i < len; i++)
		folded[i] = word[i] == '-' ? '_' : (char)tolower((unsigned char)word[i]);
}

static unsigned int
distance(const char * a, size_t a_len, const char * b, size_t b_len)
{
	unsigned int rows[3][WORD_MAX + 1];

	for (unsigned int j = 0; j <= b_len; j++)
		rows[0][j] = j;
	for (unsigned int i = 1; i <= a_len; i++) {
		unsigned int * row = rows[i % 3];
		const unsigned int * above = rows[(i - 1) % 3];
		const unsigned int * second_above = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			unsigned int replaced = above[j - 1] + (a[i - 1] != b[j - 1]);

			row[j] = min3(above[j] + 1, row[j - 1] + 1, replaced);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    second_above[j - 2] + 1 < row[j])
				row[j] = second_above[j - 2] + 1;
		}
	}
	return (rows[a_len % 3][b_len]);
}

void
suggestion_offer(struct suggestion * s, const char * candidate)
{
	char a[WORD_MAX];
	char b[WORD_MAX];
	size_t a_len = strlen(s->word);
	size_t b_len = strlen(candidate);
	size_t longer = a_len > b_len ? a_len : b_len;
	unsigned int d;

	if (a_len == 0 || b_len == 0 || longer > WORD_MAX)
		return;
	fold(a, s->word, a_len);
	fold(b, candidate, b_len);
	d = distance(a, a_len, b, b_len);
	if (d > (longer + 2) / 3 || d >= longer)
		return;
	if (s->best == NULL || d < s->distance) {
		s->best = candidate;
		s->distance = d;
	}
}
