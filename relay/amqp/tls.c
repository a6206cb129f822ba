#include "amqp/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/*
 * The BIO is ours, since OpenSSL's own writes with write(2), and a broker
 * that is gone must not end the process with SIGPIPE.
 *
 * What must stay true: no session is made without a name to verify, and
 * OpenSSL's error queue is empty before each call, so that what is read from
 * it belongs to that call.
 */
struct tls_context {
	SSL_CTX * ssl;
	BIO_METHOD * method;
};

struct tls {
	SSL * ssl;
	char name[256];
};

static int
socket_write(BIO * bio, const char * data, int size)
{
	int fd = (int)(intptr_t)BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	do
		n = send(fd, data, (size_t)size, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		BIO_set_retry_write(bio);
	return ((int)n);
}

static int
socket_read(BIO * bio, char * data, int size)
{
	int fd = (int)(intptr_t)BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	do
		n = recv(fd, data, (size_t)size, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		BIO_set_retry_read(bio);
	if (n == 0)
		BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
	return ((int)n);
}

static long
socket_control(BIO * bio, int command, long number, void * pointer)
{
	(void)number;
	(void)pointer;
	switch (command) {
	case BIO_CTRL_FLUSH:
		return (1);
	case BIO_CTRL_EOF:
		return (BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0);
	default:
		return (0);
	}
}

/* A key with a passphrase would else ask for it on the terminal. */
static int
no_passphrase(char * text, int size, int writing, void * context)
{
	(void)text;
	(void)size;
	(void)writing;
	(void)context;
	return (0);
}

static const char *
reason(unsigned long code)
{
	const char * text = ERR_reason_error_string(code);

	if (text != NULL)
		return (text);
	return (ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : "unknown error");
}

static int
unusable(struct error * e, const char * key, const char * path)
{
	/* The first error is the cause, later ones its consequences. */
	return (error_set(e, EXIT_CONFIGURATION, "rabbitmq.tls.%s: %s: %s", key, path,
	    reason(ERR_get_error())));
}

static int
load_files(SSL_CTX * ssl, const struct link_tls * options, struct error * e)
{
	const char * key_file = options->key_file != NULL ? options->key_file : options->cert_file;

	if (options->ca_file != NULL) {
		if (SSL_CTX_load_verify_locations(ssl, options->ca_file, NULL) != 1) {
			unusable(e, "ca_file", options->ca_file);
			return (error_remedy(e,
			    "name a readable file with the PEM certificate of "
			    "the authority that signed the broker's"));
		}
	} else if (SSL_CTX_set_default_verify_paths(ssl) != 1)
		return (error_set(e, EXIT_CONFIGURATION, "the system's CA certificates: %s",
		    reason(ERR_get_error())));
	if (options->cert_file == NULL) {
		if (options->key_file == NULL)
			return (0);
		error_set(e, EXIT_CONFIGURATION, "rabbitmq.tls.key_file without cert_file");
		return (error_remedy(e, "set rabbitmq.tls.cert_file as well"));
	}
	if (SSL_CTX_use_certificate_chain_file(ssl, options->cert_file) != 1) {
		unusable(e, "cert_file", options->cert_file);
		return (error_remedy(e, "name a readable PEM file with the client certificate"));
	}
	if (SSL_CTX_use_PrivateKey_file(ssl, key_file, SSL_FILETYPE_PEM) != 1) {
		unusable(e, "key_file", key_file);
		return (error_remedy(e,
		    "name a readable PEM file with the key of cert_file, "
		    "without a passphrase"));
	}
	return (0);
}

struct tls_context *
tls_context_new(const struct link_tls * options, struct error * e)
{
	struct tls_context * context = calloc(1, sizeof(*context));

	ERR_clear_error();
	if (context == NULL || (context->ssl = SSL_CTX_new(TLS_client_method())) == NULL ||
	    (context->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK |
		     BIO_TYPE_DESCRIPTOR,
		 "socket")) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		goto fail;
	}
	BIO_meth_set_write(context->method, socket_write);
	BIO_meth_set_read(context->method, socket_read);
	BIO_meth_set_ctrl(context->method, socket_control);
	SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION);
	SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_default_passwd_cb(context->ssl, no_passphrase);
	SSL_CTX_set_mode(context->ssl,
	    SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
		SSL_MODE_RELEASE_BUFFERS);
	if (load_files(context->ssl, options, e))
		goto fail;
	return (context);

fail:
	tls_context_free(context);
	return (NULL);
}

void
tls_context_free(struct tls_context * context)
{
	if (context == NULL)
		return;
	SSL_CTX_free(context->ssl);
	BIO_meth_free(context->method);
	free(context);
}

/* Ask for the certificate of ${name}, and verify that it is the one. */
static int
expect_name(SSL * ssl, const char * name)
{
	unsigned char address[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
		return (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1 ? 0 : -1);
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (SSL_set1_host(ssl, name) != 1 || SSL_set_tlsext_host_name(ssl, name) != 1)
		return (-1);
	return (0);
}

struct tls *
tls_new(struct tls_context * context, int fd, const char * name, struct error * e)
{
	struct tls * tls = calloc(1, sizeof(*tls));
	BIO * bio;

	ERR_clear_error();
	if (strlen(name) >= sizeof(((struct tls *)0)->name)) {
		error_set(e, EXIT_CONFIGURATION, "TLS server name longer than 255 bytes");
		goto fail;
	}
	if (tls == NULL || (tls->ssl = SSL_new(context->ssl)) == NULL ||
	    (bio = BIO_new(context->method)) == NULL) {
		error_set(e, EXIT_BUG, "out of memory");
		goto fail;
	}
	strcpy(tls->name, name);
	BIO_set_data(bio, (void *)(intptr_t)fd);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio);
	SSL_set_connect_state(tls->ssl);
	if (name[0] == '\0' || expect_name(tls->ssl, name)) {
		error_set(e, EXIT_CONFIGURATION,
		    "TLS: \"%s\" is not a name that a certificate "
		    "could bear",
		    name);
		goto fail;
	}
	return (tls);

fail:
	tls_free(tls);
	return (NULL);
}

void
tls_free(struct tls * tls)
{
	if (tls == NULL)
		return;
	/* No close_notify: the socket may be full, and AMQP has its own end. */
	SSL_free(tls->ssl);
	free(tls);
}

static int
verification_failed(struct tls * tls, long result, struct error * e)
{
	error_set(e, EXIT_CONFIGURATION, "TLS: the broker's certificate is not accepted: %s",
	    X509_verify_cert_error_string(result));
	switch (result) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		error_set(e, EXIT_CONFIGURATION,
		    "TLS: the broker's certificate is not for \"%s\" (%s)", tls->name,
		    X509_verify_cert_error_string(result));
		return (error_remedy(e,
		    "connect by a name in the certificate, or set "
		    "rabbitmq.tls.server_name to one"));
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return (error_remedy(e, "renew the broker's certificate, or correct the clock"));
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return (error_remedy(e,
		    "set rabbitmq.tls.ca_file to the certificate of the "
		    "authority that signed the broker's"));
	default:
		return (-1);
	}
}

/* Why SSL_${doing} failed for good. */
static int
failed(struct tls * tls, int code, const char * doing, int error_number, struct error * e)
{
	unsigned long queued = ERR_peek_error();
	long result = SSL_get_verify_result(tls->ssl);
	int why = ERR_GET_REASON(queued);

	if (queued != 0 && why == SSL_R_CERTIFICATE_VERIFY_FAILED && result != X509_V_OK)
		return (verification_failed(tls, result, e));
	if (queued != 0 && why == SSL_R_WRONG_VERSION_NUMBER) {
		error_set(e, EXIT_CONFIGURATION, "TLS: the answer is not TLS");
		return (error_remedy(e,
		    "this port speaks plain AMQP: use the broker's TLS port "
		    "(usually 5671), or amqp:// in the url"));
	}
	if (queued != 0 && why == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return (error_set(e, EXIT_UNREACHABLE, "TLS %s: the broker closed the connection",
		    doing));
	if (queued != 0) {
		error_set(e, why > SSL_AD_REASON_OFFSET ? EXIT_CONFIGURATION : EXIT_UNREACHABLE,
		    "TLS %s: %s", doing, reason(queued));
		if (why > SSL_AD_REASON_OFFSET)
			error_remedy(e,
			    "the broker refuses our side of TLS: look at "
			    "rabbitmq.tls.cert_file and key_file, and at the broker's log");
		return (-1);
	}
	if (code == SSL_ERROR_SYSCALL && error_number != 0)
		return (error_set(e, EXIT_UNREACHABLE, "TLS %s: %s", doing,
		    strerror(error_number)));
	return (error_set(e, EXIT_UNREACHABLE, "TLS %s: the broker closed the connection", doing));
}

int
tls_handshake(struct tls * tls, enum tls_want * want, struct error * e)
{
	int rc, code, error_number;

	ERR_clear_error();
	errno = 0;
	if ((rc = SSL_do_handshake(tls->ssl)) == 1)
		return (1);
	error_number = errno;
	code = SSL_get_error(tls->ssl, rc);
	*want = code == SSL_ERROR_WANT_WRITE ? TLS_WANT_WRITE : TLS_WANT_READ;
	if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE)
		return (0);
	return (failed(tls, code, "handshake", error_number, e));
}

/* The end of SSL_read and SSL_write that moved nothing. */
static long
moved_nothing(struct tls * tls, int rc, const char * doing, int error_number, struct error * e)
{
	int code = SSL_get_error(tls->ssl, rc);

	if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE)
		return (0);
	return (failed(tls, code, doing, error_number, e));
}

long
tls_read(struct tls * tls, char * data, size_t size, struct error * e)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_read(tls->ssl, data, size > INT_MAX ? INT_MAX : (int)size);
	return (rc > 0 ? rc : moved_nothing(tls, rc, "read", errno, e));
}

long
tls_write(struct tls * tls, const char * data, size_t size, struct error * e)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_write(tls->ssl, data, size > INT_MAX ? INT_MAX : (int)size);
	return (rc > 0 ? rc : moved_nothing(tls, rc, "write", errno, e));
}

static int64_t
not_after(const X509 * certificate)
{
	struct tm tm;

	if (certificate == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1)
		return (0);
	return ((int64_t)timegm(&tm));
}

void
tls_expiry(const struct tls * tls, int64_t * peer, int64_t * own)
{
	X509 * certificate = SSL_get1_peer_certificate(tls->ssl);

	*peer = not_after(certificate);
	*own = not_after(SSL_get_certificate(tls->ssl));
	X509_free(certificate);
}
