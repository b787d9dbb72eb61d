/* server/tls_files.h -- what the backends of tls.h have in common: reading files, and
 * the sentences about those that are no good. */
#ifndef MEMPHISD_TLS_FILES_H
#define MEMPHISD_TLS_FILES_H

#include "tls.h"

/* With a path and a few words of the library. */
#define TLS_BAD_CERTIFICATE "'%s' holds no certificate that can be used: %s"
#define TLS_BAD_KEY "'%s' holds no key that can be used: %s"
/* With the path, twice. */
#define TLS_ENCRYPTED_KEY                                                              \
    "the key '%s' is encrypted and nobody is asked for its password; write it "        \
    "without: openssl pkey -in %s -out FILE"
/* With the paths of key and certificate. */
#define TLS_OTHER_KEY "the key '%s' does not belong to the certificate '%s'"
/* With the path of the certificate: warnings. */
#define TLS_EXPIRED "the certificate '%s' has expired"
#define TLS_NOT_YET "the certificate '%s' is not valid yet"

struct tls_file {
    unsigned char *bytes; /* and a 0 behind them */
    size_t size;          /* without it */
    bool is_pem;          /* else DER */
};

/* False: `text` is a sentence about the `what` that it should be. */
bool tls_file_read(struct tls_file *f, const char *what, const char *path,
                   char text[TLS_TEXT_MAX]);
void tls_file_free(struct tls_file *f); /* wipes it */

/* A warning, when others than the owner's group can use the key. */
void tls_file_check_key(const char *path, char text[TLS_TEXT_MAX]);

#endif
