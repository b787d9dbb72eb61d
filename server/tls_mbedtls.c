/* tls.h with mbedTLS 2.28: TLS 1.2. Small, and what the library has anyway. */
#include "tls_files.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORD_MAX = MBEDTLS_SSL_IN_CONTENT_LEN, TICKET_SECONDS = 12 * 3600 };

struct tls_context {
    unsigned uses;
    bool asks_clients;
    mbedtls_ssl_config conf;
    mbedtls_x509_crt chain, ca;
    mbedtls_pk_context key;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random; /* why a context belongs to one thread */
    mbedtls_ssl_ticket_context tickets;
};

struct tls {
    mbedtls_ssl_context ssl;
    struct tls_context *context;
    struct tls_pipe pipe;
    const unsigned char *input; /* of tls_feed, not consumed yet */
    size_t input_size;
    bool is_open;
    char why[160];
};

/* Forward secrecy and authenticated encryption only. The server's order counts: without
 * AES instructions ChaCha20 is by far the faster one, and with them not slower here. */
static const int suites[] = {
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    0,
};
static const mbedtls_ecp_group_id curves[] = {
    MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP384R1,
    MBEDTLS_ECP_DP_SECP521R1, MBEDTLS_ECP_DP_NONE,
};

/* === Files === */

static void words(int rc, char *out, size_t size)
{
    const char *text = mbedtls_high_level_strerr(rc);

    if (text == NULL)
        text = mbedtls_low_level_strerr(rc);
    snprintf(out, size, "%s", text != NULL ? text : "unknown error");
}

static bool read_certificates(mbedtls_x509_crt *out, const char *path, char *text)
{
    struct tls_file f;
    char why[128];
    int rc;

    if (!tls_file_read(&f, "certificate", path, text))
        return false;
    rc = mbedtls_x509_crt_parse(out, f.bytes, f.size + f.is_pem);
    tls_file_free(&f);
    if (rc == 0)
        return true;
    words(rc, why, sizeof(why));
    if (rc > 0)
        snprintf(why, sizeof(why), "%d in it cannot be understood", rc);
    snprintf(text, TLS_TEXT_MAX, TLS_BAD_CERTIFICATE, path, why);
    return false;
}

static bool read_key(struct tls_context *x, const char *path, char *text)
{
    struct tls_file f;
    char why[128];
    int rc;

    if (!tls_file_read(&f, "key", path, text))
        return false;
    rc = mbedtls_pk_parse_key(&x->key, f.bytes, f.size + f.is_pem, NULL, 0);
    tls_file_free(&f);
    if (rc == 0)
        return true;
    words(rc, why, sizeof(why));
    if (rc == MBEDTLS_ERR_PK_PASSWORD_REQUIRED)
        snprintf(text, TLS_TEXT_MAX, TLS_ENCRYPTED_KEY, path, path);
    else
        snprintf(text, TLS_TEXT_MAX, TLS_BAD_KEY, path, why);
    return false;
}

/* === Context === */

static bool read_files(struct tls_context *x, const struct tls_files *f, char *text)
{
    if (!read_certificates(&x->chain, f->cert, text) || !read_key(x, f->key, text))
        return false;
    if (mbedtls_pk_check_pair(&x->chain.pk, &x->key) != 0) {
        snprintf(text, TLS_TEXT_MAX, TLS_OTHER_KEY, f->key, f->cert);
        return false;
    }
    return f->ca[0] == 0 || read_certificates(&x->ca, f->ca, text);
}

static int configure(struct tls_context *x, const struct tls_files *f)
{
    mbedtls_ssl_config *c = &x->conf;
    int rc = mbedtls_ctr_drbg_seed(&x->random, mbedtls_entropy_func, &x->entropy, NULL,
                                   0);

    if (rc == 0)
        rc = mbedtls_ssl_config_defaults(c, MBEDTLS_SSL_IS_SERVER,
                                         MBEDTLS_SSL_TRANSPORT_STREAM,
                                         MBEDTLS_SSL_PRESET_DEFAULT);
    if (rc == 0)
        rc = mbedtls_ssl_ticket_setup(&x->tickets, mbedtls_ctr_drbg_random, &x->random,
                                      MBEDTLS_CIPHER_AES_256_GCM, TICKET_SECONDS);
    if (rc == 0)
        rc = mbedtls_ssl_conf_own_cert(c, &x->chain, &x->key);
    if (rc != 0)
        return rc;
    mbedtls_ssl_conf_rng(c, mbedtls_ctr_drbg_random, &x->random);
    mbedtls_ssl_conf_min_version(c, MBEDTLS_SSL_MAJOR_VERSION_3,
                                 MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_renegotiation(c, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
    mbedtls_ssl_conf_ciphersuites(c, suites);
    mbedtls_ssl_conf_curves(c, curves);
    mbedtls_ssl_conf_session_tickets_cb(c, mbedtls_ssl_ticket_write,
                                        mbedtls_ssl_ticket_parse, &x->tickets);
    x->asks_clients = f->ca[0] != 0;
    if (x->asks_clients)
        mbedtls_ssl_conf_ca_chain(c, &x->ca, NULL);
    mbedtls_ssl_conf_authmode(c, f->verify         ? MBEDTLS_SSL_VERIFY_REQUIRED
                                 : x->asks_clients ? MBEDTLS_SSL_VERIFY_OPTIONAL
                                                   : MBEDTLS_SSL_VERIFY_NONE);
    return 0;
}

static void unuse(struct tls_context *x)
{
    if (--x->uses > 0)
        return;
    mbedtls_ssl_config_free(&x->conf);
    mbedtls_ssl_ticket_free(&x->tickets);
    mbedtls_x509_crt_free(&x->chain);
    mbedtls_x509_crt_free(&x->ca);
    mbedtls_pk_free(&x->key);
    mbedtls_ctr_drbg_free(&x->random);
    mbedtls_entropy_free(&x->entropy);
    free(x);
}

struct tls_context *tls_context_new(const struct tls_files *f, char text[TLS_TEXT_MAX])
{
    struct tls_context *x = calloc(1, sizeof(*x));
    int rc;

    text[0] = 0;
    if (x == NULL) {
        snprintf(text, TLS_TEXT_MAX, "no memory");
        return NULL;
    }
    x->uses = 1;
    mbedtls_ssl_config_init(&x->conf);
    mbedtls_ssl_ticket_init(&x->tickets);
    mbedtls_x509_crt_init(&x->chain);
    mbedtls_x509_crt_init(&x->ca);
    mbedtls_pk_init(&x->key);
    mbedtls_ctr_drbg_init(&x->random);
    mbedtls_entropy_init(&x->entropy);
    if (!read_files(x, f, text)) {
        unuse(x);
        return NULL;
    }
    rc = configure(x, f);
    if (rc != 0) {
        words(rc, text, TLS_TEXT_MAX);
        unuse(x);
        return NULL;
    }
    if (mbedtls_x509_time_is_past(&x->chain.valid_to))
        snprintf(text, TLS_TEXT_MAX, TLS_EXPIRED, f->cert);
    else if (mbedtls_x509_time_is_future(&x->chain.valid_from))
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

static int take_input(void *ctx, unsigned char *out, size_t size)
{
    struct tls *t = ctx;

    if (t->input_size == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    size = size < t->input_size ? size : t->input_size;
    memcpy(out, t->input, size);
    t->input += size;
    t->input_size -= size;
    return (int)size;
}

static int give_output(void *ctx, const unsigned char *bytes, size_t size)
{
    struct tls *t = ctx;

    t->pipe.cipher(t->pipe.ctx, bytes, size);
    return (int)size;
}

struct tls *tls_new(struct tls_context *x, const struct tls_pipe *pipe)
{
    struct tls *t = calloc(1, sizeof(*t));

    if (t == NULL)
        return NULL;
    t->pipe = *pipe;
    t->context = x;
    x->uses++;
    mbedtls_ssl_init(&t->ssl);
    if (mbedtls_ssl_setup(&t->ssl, &x->conf) != 0) {
        tls_free(t);
        return NULL;
    }
    mbedtls_ssl_set_bio(&t->ssl, t, give_output, take_input, NULL);
    return t;
}

void tls_free(struct tls *t)
{
    if (t == NULL)
        return;
    mbedtls_ssl_free(&t->ssl);
    unuse(t->context);
    free(t);
}

/* Who need not show a certificate and shows one of another authority: a resumed session
 * brings the verdict of its first handshake along. */
static bool is_welcome(struct tls *t)
{
    const uint32_t missing = MBEDTLS_X509_BADCERT_MISSING;
    uint32_t flags = mbedtls_ssl_get_verify_result(&t->ssl);

    if (!t->context->asks_clients || (flags & ~missing) == 0)
        return true;
    mbedtls_x509_crt_verify_info(t->why, sizeof(t->why), "", flags);
    t->why[strcspn(t->why, "\n")] = 0;
    (void)mbedtls_ssl_send_alert_message(&t->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                         MBEDTLS_SSL_ALERT_MSG_BAD_CERT);
    return false;
}

static enum tls_status shake_hands(struct tls *t)
{
    int rc = mbedtls_ssl_handshake(&t->ssl);

    if (rc == MBEDTLS_ERR_SSL_WANT_READ)
        return TLS_GOES_ON;
    if (rc != 0) {
        words(rc, t->why, sizeof(t->why));
        return TLS_FAILED;
    }
    if (!is_welcome(t))
        return TLS_FAILED;
    t->is_open = true;
    return TLS_GOES_ON;
}

enum tls_status tls_feed(struct tls *t, const void *bytes, size_t size)
{
    unsigned char plain[RECORD_MAX];
    size_t before;
    int rc;

    t->input = bytes;
    t->input_size = size;
    if (!t->is_open && shake_hands(t) == TLS_FAILED)
        return TLS_FAILED;
    if (!t->is_open)
        return TLS_GOES_ON;
    do {
        before = t->input_size;
        while ((rc = mbedtls_ssl_read(&t->ssl, plain, sizeof(plain))) > 0)
            t->pipe.plain(t->pipe.ctx, plain, (size_t)rc);
    } while (rc == MBEDTLS_ERR_SSL_WANT_READ && t->input_size < before);
    if (rc == MBEDTLS_ERR_SSL_WANT_READ)
        return TLS_GOES_ON;
    if (rc == 0 || rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        return TLS_ENDED;
    words(rc, t->why, sizeof(t->why));
    return TLS_FAILED;
}

bool tls_is_open(const struct tls *t)
{
    return t->is_open;
}

bool tls_write(struct tls *t, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;

    while (size > 0) { /* a record at a time */
        int rc = mbedtls_ssl_write(&t->ssl, at, size);

        if (rc <= 0)
            return false;
        at += rc;
        size -= (size_t)rc;
    }
    return true;
}

void tls_close(struct tls *t)
{
    (void)mbedtls_ssl_close_notify(&t->ssl);
}

const char *tls_why(const struct tls *t)
{
    return t->why;
}
