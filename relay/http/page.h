#ifndef HTTP_PAGE_H
#define HTTP_PAGE_H

#include <stddef.h>

/*
 * relay/http/page.html as it was when the binary was built, made by
 * embed_page.sh.
 */
extern const char page_html[];
extern const size_t page_size;

/* Content-Security-Policy: nothing but its own style and script, by their
 * hashes, and GET /stats. */
extern const char page_policy[];

#endif /* HTTP_PAGE_H */
