#ifndef HTTP_ADDRESS_H
#define HTTP_ADDRESS_H

/*
 * http.listen in its parts: "127.0.0.1:9464", "[::1]:9464", ":9464" (every
 * address), "localhost:9464".
 */
struct http_address {
	char host[256]; /* without brackets; "": every address */
	char port[8];
};

/**
 * http_address_split(listen, address):
 * ${listen} was checked when the configuration was read.  0, or -1 if it does
 * not fit.
 */
int http_address_split(const char * listen, struct http_address * address);

#endif /* HTTP_ADDRESS_H */
