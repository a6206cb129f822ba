#ifndef AMQP_TLS_H
#define AMQP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "amqp/link.h"
#include "base/error.h"

/*
 * TLS 1.2 or later by OpenSSL over a non-blocking socket.  The broker's
 * certificate is always verified: its chain, and its name or address.
 */
struct tls_context;
struct tls;

/* For results of 0: what to wait for. */
enum tls_want { TLS_WANT_READ, TLS_WANT_WRITE };

/**
 * tls_context_new(options, e):
 * Read the files of ${options}.  NULL with ${e} (EXIT_CONFIGURATION) naming
 * the one that is unusable.
 */
struct tls_context * tls_context_new(const struct link_tls * options, struct error * e);
void tls_context_free(struct tls_context * context);

/**
 * tls_new(context, fd, name, e):
 * A session over ${fd} (borrowed) with a broker that must prove to be
 * ${name}, a host name or an IP address.
 */
struct tls * tls_new(struct tls_context * context, int fd, const char * name, struct error * e);
void tls_free(struct tls * tls);

/**
 * tls_handshake(tls, want, e):
 * 1: done; 0: wait for ${want}; -1: failed, ${e} says why and what to do.
 */
int tls_handshake(struct tls * tls, enum tls_want * want, struct error * e);

/**
 * tls_read(tls, data, size, e) / tls_write(tls, data, size, e):
 * Bytes moved; 0: not now; -1: the connection has ended, ${e} says why.
 */
long tls_read(struct tls * tls, char * data, size_t size, struct error * e);
long tls_write(struct tls * tls, const char * data, size_t size, struct error * e);

/**
 * tls_expiry(tls, peer, own):
 * Until when the broker's certificate is valid, and ours: seconds since 1970,
 * 0 where there is none.
 */
void tls_expiry(const struct tls * tls, int64_t * peer, int64_t * own);

#endif /* AMQP_TLS_H */
