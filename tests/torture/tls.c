#include "torture.h"

#include <stddef.h>

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

/* OpenSSL: what can fail for lack of memory, of files, or because of the peer. */
WRAPPED(SSL_CTX_new);
WRAPPED(SSL_CTX_load_verify_locations);
WRAPPED(SSL_CTX_set_default_verify_paths);
WRAPPED(SSL_new);
WRAPPED(SSL_set1_host);
WRAPPED(X509_VERIFY_PARAM_set1_ip_asc);
WRAPPED(SSL_do_handshake);
WRAPPED(SSL_read);
WRAPPED(SSL_write);
WRAPPED(BIO_new);
WRAPPED(BIO_meth_new);
WRAPPED(BIO_get_new_index);

SSL_CTX *
__wrap_SSL_CTX_new(const SSL_METHOD * method)
{
	TORTURED(SSL_CTX_new) return (NULL);
	return (__real_SSL_CTX_new(method));
}

int
__wrap_SSL_CTX_load_verify_locations(SSL_CTX * context, const char * file, const char * directory)
{
	TORTURED(SSL_CTX_load_verify_locations) return (0);
	return (__real_SSL_CTX_load_verify_locations(context, file, directory));
}

int
__wrap_SSL_CTX_set_default_verify_paths(SSL_CTX * context)
{
	TORTURED(SSL_CTX_set_default_verify_paths) return (0);
	return (__real_SSL_CTX_set_default_verify_paths(context));
}

SSL *
__wrap_SSL_new(SSL_CTX * context)
{
	TORTURED(SSL_new) return (NULL);
	return (__real_SSL_new(context));
}

int
__wrap_SSL_set1_host(SSL * ssl, const char * name)
{
	TORTURED(SSL_set1_host) return (0);
	return (__real_SSL_set1_host(ssl, name));
}

int
__wrap_X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM * parameters, const char * address)
{
	TORTURED(X509_VERIFY_PARAM_set1_ip_asc) return (0);
	return (__real_X509_VERIFY_PARAM_set1_ip_asc(parameters, address));
}

int
__wrap_SSL_do_handshake(SSL * ssl)
{
	TORTURED(SSL_do_handshake) return (-1);
	return (__real_SSL_do_handshake(ssl));
}

int
__wrap_SSL_read(SSL * ssl, void * data, int size)
{
	TORTURED(SSL_read) return (torture_way(2) == 1 ? 0 : -1);
	return (__real_SSL_read(ssl, data, size));
}

int
__wrap_SSL_write(SSL * ssl, const void * data, int size)
{
	TORTURED(SSL_write) return (-1);
	return (__real_SSL_write(ssl, data, size));
}

BIO *
__wrap_BIO_new(const BIO_METHOD * method)
{
	TORTURED(BIO_new) return (NULL);
	return (__real_BIO_new(method));
}

BIO_METHOD *
__wrap_BIO_meth_new(int type, const char * name)
{
	TORTURED(BIO_meth_new) return (NULL);
	return (__real_BIO_meth_new(type, name));
}

int
__wrap_BIO_get_new_index(void)
{
	TORTURED(BIO_get_new_index) return (-1);
	return (__real_BIO_get_new_index());
}
