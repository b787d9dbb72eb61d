#include "tls_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 1 << 20 };

bool tls_file_read(struct tls_file *f, const char *what, const char *path,
                   char text[TLS_TEXT_MAX])
{
    FILE *in = fopen(path, "rb");
    bool is_read = false;

    *f = (struct tls_file){ .bytes = in != NULL ? calloc(1, FILE_MAX + 1) : NULL };
    if (f->bytes != NULL) {
        f->size = fread(f->bytes, 1, FILE_MAX, in);
        is_read = !ferror(in);
        f->is_pem = strstr((const char *)f->bytes, "-----BEGIN ") != NULL;
    }
    if (!is_read)
        snprintf(text, TLS_TEXT_MAX, "the %s '%s' cannot be read: %s", what, path,
                 strerror(errno));
    if (in != NULL)
        fclose(in);
    if (!is_read)
        tls_file_free(f);
    return is_read;
}

void tls_file_free(struct tls_file *f)
{
    if (f->bytes != NULL)
        explicit_bzero(f->bytes, f->size);
    free(f->bytes);
    *f = (struct tls_file){ 0 };
}

void tls_file_check_key(const char *path, char text[TLS_TEXT_MAX])
{
    struct stat st;

    if (stat(path, &st) == 0 && (st.st_mode & S_IRWXO) != 0)
        snprintf(text, TLS_TEXT_MAX, "the key '%s' is readable by others: chmod 600 it",
                 path);
}
