#ifndef BASE_SUGGEST_H
#define BASE_SUGGEST_H

/*
 * "Did you mean ...?": offer all known words, then look at best.
 *
 *   struct suggestion s = {.word = typed};
 *   for (...) suggestion_offer(&s, known[i]);
 *   if (s.best != NULL) ...
 */
struct suggestion {
	const char * word;     /* what was typed */
	const char * best;     /* nearest known word; NULL: none is near */
	unsigned int distance; /* of best */
};

/**
 * suggestion_offer(s, candidate):
 * Keep ${candidate} (borrowed) if it is nearer than all before and near
 * enough: at most one slip (insertion, deletion, replacement, two letters
 * swapped) in three letters.  Case does not count, nor does "-" for "_".
 */
void suggestion_offer(struct suggestion * s, const char * candidate);

#endif /* BASE_SUGGEST_H */
