#include "base/status.h"

#include "base/status_table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct row {
    memphis_status number;
    int32_t http;
    bool retryable;
    const char *name;
    const char *text;
};

#define ROW(name_, number_, retryable_, http_, text_)                                  \
    { .number = number_,                                                               \
      .http = http_,                                                                   \
      .retryable = retryable_,                                                         \
      .name = #name_,                                                                  \
      .text = text_ },
static const struct row rows[] = { MP_STATUS_TABLE(ROW) };

static const struct row unknown = {
    .number = -1, .http = 500, .name = "UNKNOWN", .text = "unknown status"
};

static const struct row *row_of(memphis_status s)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].number == s)
            return &rows[i];
    return &unknown;
}

/* A text that was cut must not end in half a character. */
static size_t whole_characters(const char *text, size_t size)
{
    size_t start = size;

    while (start > 0 && ((uint8_t)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0 || (uint8_t)text[start - 1] < 0xc0)
        return size; /* the last character is ASCII, or this is no UTF-8 at all */
    uint8_t first = (uint8_t)text[start - 1];
    size_t wanted = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    return size - start + 1 == wanted ? size : start - 1;
}

const char *memphis_status_name(memphis_status s)
{
    return row_of(s)->name;
}

const char *memphis_status_text(memphis_status s)
{
    return row_of(s)->text;
}

bool memphis_status_is_retryable(memphis_status s)
{
    return row_of(s)->retryable;
}

int mp_status_http(memphis_status s)
{
    return row_of(s)->http;
}

memphis_status mp_fail(memphis_error *err, memphis_status status, const char *format,
                       ...)
{
    char text[sizeof err->message]; /* an argument may lie in err->message itself */
    va_list args;

    if (err == NULL)
        return status;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t size = length < 0 ? 0 : (size_t)length;
    if (size >= sizeof text)
        size = whole_characters(text, sizeof text - 1);
    text[size] = 0;
    err->status = status;
    err->reserved = 0;
    memcpy(err->message, text, size + 1);
    return status;
}
