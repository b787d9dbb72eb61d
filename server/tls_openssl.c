/* tls.h with OpenSSL 3: TLS 1.2 and 1.3, several times as fast (make TLS=openssl). */
#include "tls_files.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORD_MAX = 16 * 1024, TICKET_SECONDS = 12 * 3600 };

struct tls_context {
    unsigned uses;
    SSL_CTX *ssl;
    BIO_METHOD *method; /* how OpenSSL calls take_input and give_output */
};

struct tls {
    SSL *ssl;
    struct tls_context *context;
    struct tls_pipe pipe;
    const char *input; /* of tls_feed, not consumed yet */
    size_t input_size;
    char why[160];
};

/* === Files === */

static const char *words(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());

    return text != NULL ? text : "unknown error";
}

/* All certificates of a file, each given to `take`. */
static bool read_certificates(SSL_CTX *ssl, bool (*take)(SSL_CTX *ssl, X509 *c, int n),
                              const char *path, char *text)
{
    struct tls_file f;
    X509 *c = NULL;
    int n = 0;
    bool is_good = true;

    if (!tls_file_read(&f, "certificate", path, text))
        return false;
    BIO *in = BIO_new_mem_buf(f.bytes, (int)f.size);
    while (is_good && (c = f.is_pem ? PEM_read_bio_X509(in, NULL, NULL, NULL)
                                    : d2i_X509_bio(in, NULL)) != NULL) {
        is_good = take(ssl, c, n++);
        X509_free(c);
    }
    if (f.is_pem && is_good && n > 0) /* it ended because there are no more? */
        is_good = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    BIO_free(in);
    tls_file_free(&f);
    if (n == 0 || !is_good)
        snprintf(text, TLS_TEXT_MAX, TLS_BAD_CERTIFICATE, path, words());
    ERR_clear_error();
    return n > 0 && is_good;
}

static bool take_own(SSL_CTX *ssl, X509 *c, int n)
{
    return n == 0 ? SSL_CTX_use_certificate(ssl, c) == 1
                  : SSL_CTX_add1_chain_cert(ssl, c) == 1;
}

static bool take_authority(SSL_CTX *ssl, X509 *c, int n)
{
    (void)n;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), c) == 1 &&
           SSL_CTX_add_client_CA(ssl, c) == 1;
}

/* Nobody is asked. */
static int on_password(char *out, int size, int writes, void *is_encrypted)
{
    (void)out, (void)size, (void)writes;
    *(bool *)is_encrypted = true;
    return -1;
}

static bool read_key(SSL_CTX *ssl, const struct tls_files *files, char *text)
{
    struct tls_file f;
    bool is_encrypted = false, is_good = false;

    if (!tls_file_read(&f, "key", files->key, text))
        return false;
    BIO *in = BIO_new_mem_buf(f.bytes, (int)f.size);
    EVP_PKEY *key = f.is_pem
                        ? PEM_read_bio_PrivateKey(in, NULL, on_password, &is_encrypted)
                        : d2i_PrivateKey_bio(in, NULL);
    BIO_free(in);
    tls_file_free(&f);
    if (key == NULL && is_encrypted)
        snprintf(text, TLS_TEXT_MAX, TLS_ENCRYPTED_KEY, files->key, files->key);
    else if (key == NULL)
        snprintf(text, TLS_TEXT_MAX, TLS_BAD_KEY, files->key, words());
    else if (X509_check_private_key(SSL_CTX_get0_certificate(ssl), key) != 1)
        snprintf(text, TLS_TEXT_MAX, TLS_OTHER_KEY, files->key, files->cert);
    else
        is_good = SSL_CTX_use_PrivateKey(ssl, key) == 1;
    EVP_PKEY_free(key);
    ERR_clear_error();
    return is_good;
}

/* === Bytes === */

static int take_input(BIO *bio, char *out, int size)
{
    struct tls *t = BIO_get_data(bio);
    size_t n = (size_t)size < t->input_size ? (size_t)size : t->input_size;

    BIO_clear_retry_flags(bio);
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(out, t->input, n);
    t->input += n;
    t->input_size -= n;
    return (int)n;
}

static int give_output(BIO *bio, const char *bytes, int size)
{
    struct tls *t = BIO_get_data(bio);

    t->pipe.cipher(t->pipe.ctx, bytes, (size_t)size);
    return size;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH; /* nothing is held back */
}

static BIO_METHOD *method_new(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "tls_feed");

    if (m != NULL) {
        BIO_meth_set_read(m, take_input);
        BIO_meth_set_write(m, give_output);
        BIO_meth_set_ctrl(m, control);
    }
    return m;
}

/* === Context === */

static void configure(SSL_CTX *ssl, const struct tls_files *f)
{
    static const unsigned char name[] = "memphis";
    int verify = SSL_VERIFY_PEER | (f->verify ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);

    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS); /* idle ones are small */
    SSL_CTX_set_cipher_list(ssl, "ECDHE+AESGCM:ECDHE+CHACHA20"); /* of TLS 1.2 */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets only */
    SSL_CTX_set_timeout(ssl, TICKET_SECONDS);
    SSL_CTX_set_session_id_context(ssl, name, sizeof(name));
    SSL_CTX_set_verify(ssl, f->ca[0] != 0 ? verify : SSL_VERIFY_NONE, NULL);
}

static void unuse(struct tls_context *x)
{
    if (--x->uses > 0)
        return;
    SSL_CTX_free(x->ssl);
    BIO_meth_free(x->method);
    free(x);
}

struct tls_context *tls_context_new(const struct tls_files *f, char text[TLS_TEXT_MAX])
{
    struct tls_context *x = calloc(1, sizeof(*x));

    text[0] = 0;
    if (x == NULL || (x->ssl = SSL_CTX_new(TLS_server_method())) == NULL ||
        (x->method = method_new()) == NULL) {
        snprintf(text, TLS_TEXT_MAX, "no memory");
        SSL_CTX_free(x != NULL ? x->ssl : NULL);
        free(x);
        return NULL;
    }
    x->uses = 1;
    configure(x->ssl, f);
    if (!read_certificates(x->ssl, take_own, f->cert, text) ||
        !read_key(x->ssl, f, text) ||
        (f->ca[0] != 0 && !read_certificates(x->ssl, take_authority, f->ca, text))) {
        unuse(x);
        return NULL;
    }
    const X509 *own = SSL_CTX_get0_certificate(x->ssl);
    if (X509_cmp_current_time(X509_get0_notAfter(own)) < 0)
        snprintf(text, TLS_TEXT_MAX, TLS_EXPIRED, f->cert);
    else if (X509_cmp_current_time(X509_get0_notBefore(own)) > 0)
        snprintf(text, TLS_TEXT_MAX, TLS_NOT_YET, f->cert);
    else
        tls_file_check_key(f->key, text);
    return x;
}

void tls_context_free(struct tls_context *x)
{
    if (x != NULL)
        unuse(x);
}

/* === Connection === */

struct tls *tls_new(struct tls_context *x, const struct tls_pipe *pipe)
{
    struct tls *t = calloc(1, sizeof(*t));
    BIO *bio;

    if (t == NULL)
        return NULL;
    t->pipe = *pipe;
    t->context = x;
    x->uses++;
    t->ssl = SSL_new(x->ssl);
    bio = BIO_new(x->method);
    if (t->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        tls_free(t);
        return NULL;
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_accept_state(t->ssl);
    return t;
}

void tls_free(struct tls *t)
{
    if (t == NULL)
        return;
    SSL_free(t->ssl);
    unuse(t->context);
    free(t);
}

static enum tls_status failed(struct tls *t)
{
    long verdict = SSL_get_verify_result(t->ssl);

    snprintf(t->why, sizeof(t->why), "%s%s%s", words(),
             verdict != X509_V_OK ? ": " : "",
             verdict != X509_V_OK ? X509_verify_cert_error_string(verdict) : "");
    ERR_clear_error();
    return TLS_FAILED;
}

static enum tls_status work(struct tls *t)
{
    char plain[RECORD_MAX];
    int n = SSL_is_init_finished(t->ssl) ? 1 : SSL_do_handshake(t->ssl);

    while (n > 0 && (n = SSL_read(t->ssl, plain, sizeof(plain))) > 0)
        t->pipe.plain(t->pipe.ctx, plain, (size_t)n);
    switch (SSL_get_error(t->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        return TLS_GOES_ON;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_ENDED;
    default:
        return failed(t);
    }
}

enum tls_status tls_feed(struct tls *t, const void *bytes, size_t size)
{
    ERR_clear_error();
    t->input = bytes;
    t->input_size = size;
    return work(t);
}

bool tls_is_open(const struct tls *t)
{
    return SSL_is_init_finished(t->ssl);
}

bool tls_write(struct tls *t, const void *bytes, size_t size)
{
    ERR_clear_error();
    return SSL_write(t->ssl, bytes, (int)size) == (int)size;
}

void tls_close(struct tls *t)
{
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
}

const char *tls_why(const struct tls *t)
{
    return t->why;
}
