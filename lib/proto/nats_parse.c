#include "proto/nats_parse.h"

#include "base/assert.h"
#include "base/limits.h"

/* A line is judged only when it is complete or too long, and a payload by its sizes
 * alone, so that the verdict never depends on how the bytes were cut. A line whose
 * payload comes later is split again at the end: the caller's bytes may have moved, and
 * lines are short. */

enum {
    ARGUMENTS_MAX = 4,
    VERB_SIZE_MAX = 7,     /* CONNECT */
    SIZE_DIGITS_MAX = 9,   /* as the reference reads sizes */
    BAD_LINE = ARGUMENTS_MAX + 2
};

static const char unknown_operation[] = "Unknown Protocol Operation";
static const char payload_violation[] = "Maximum Payload Violation";
static const char line_exceeded[] = "maximum control line exceeded";

/* Arguments of one line, split at blanks. */
struct line {
    memphis_slice rest;    /* everything after the verb, not split */
    memphis_slice argument[ARGUMENTS_MAX + 1];
    uint32_t count;        /* ARGUMENTS_MAX + 1: too many */
};

struct verb {
    char name[VERB_SIZE_MAX + 1]; /* padded with zeros: compared as a word */
    enum mp_nats_verb verb;
    bool is_split;         /* its arguments are tokens */
    bool has_payload;
    enum mp_nats_result (*parse)(struct mp_nats_parser *p, const struct line *l,
                                 struct mp_nats_op *op);
};

/* -- helpers ---------------------------------------------------------------------- */

static enum mp_nats_result fail(struct mp_nats_parser *p, const char *error)
{
    p->error = error;
    return MP_NATS_ERROR;
}

/* What a byte of a line is: part of a token, a blank, or a CR that ends no line. */
enum { IN_TOKEN, BLANK, STRAY };
static const uint8_t byte_class[256] = {
    [' '] = BLANK, ['\t'] = BLANK, ['\r'] = STRAY,
};

/* Splits at runs of blanks; BAD_LINE when a CR is inside, which would otherwise reach
 * the lines that other clients get. */
static void split(struct line *l)
{
    const uint8_t *at = l->rest.data;
    const uint8_t *end = at + l->rest.size;

    l->count = 0;
    while (l->count <= ARGUMENTS_MAX) {
        while (at < end && byte_class[*at] == BLANK)
            at++;
        if (at == end)
            return;
        const uint8_t *start = at;
        while (at < end && byte_class[*at] == IN_TOKEN)
            at++;
        if (at < end && byte_class[*at] == STRAY) {
            l->count = BAD_LINE;
            return;
        }
        l->argument[l->count++] = mp_slice(start, (size_t)(at - start));
    }
}

/* Decimal, of at most nine digits. */
static bool parse_size(memphis_slice s, size_t *out)
{
    const uint8_t *digits = s.data;
    size_t value = 0;

    if (s.size == 0 || s.size > SIZE_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < s.size; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return false;
        value = value * 10 + (size_t)(digits[i] - '0');
    }
    *out = value;
    return true;
}

/* -- one function per kind of line ------------------------------------------------ */

static enum mp_nats_result parse_bare(struct mp_nats_parser *p, const struct line *l,
                                      struct mp_nats_op *op)
{
    (void)p;
    (void)l;
    (void)op;
    return MP_NATS_OP;
}

static enum mp_nats_result parse_closing(struct mp_nats_parser *p, const struct line *l,
                                         struct mp_nats_op *op)
{
    (void)p;
    (void)l;
    (void)op;
    return MP_NATS_CLOSE;
}

static enum mp_nats_result parse_connect(struct mp_nats_parser *p, const struct line *l,
                                         struct mp_nats_op *op)
{
    const uint8_t *at = l->rest.data;
    const uint8_t *end = at + l->rest.size;

    while (at < end && byte_class[*at] == BLANK)
        at++;
    if (at == end)
        return fail(p, unknown_operation);
    op->json = mp_slice(at, (size_t)(end - at));
    return MP_NATS_OP;
}

static enum mp_nats_result parse_pub(struct mp_nats_parser *p, const struct line *l,
                                     struct mp_nats_op *op)
{
    if (l->count < 2 || l->count > 3 ||
        !parse_size(l->argument[l->count - 1], &p->body_size))
        return fail(p, unknown_operation);
    if (p->body_size > p->payload_max)
        return fail(p, payload_violation);
    p->header_size = 0;
    op->subject = l->argument[0];
    if (l->count == 3)
        op->reply = l->argument[1];
    return MP_NATS_OP;
}

static enum mp_nats_result parse_hpub(struct mp_nats_parser *p, const struct line *l,
                                      struct mp_nats_op *op)
{
    if (!p->allow_headers || l->count < 3 || l->count > 4 ||
        !parse_size(l->argument[l->count - 2], &p->header_size) ||
        !parse_size(l->argument[l->count - 1], &p->body_size) ||
        p->header_size > p->body_size)
        return fail(p, unknown_operation);
    if (p->body_size > p->payload_max) /* of headers alone: who stores them says so */
        return fail(p, payload_violation);
    op->subject = l->argument[0];
    if (l->count == 4)
        op->reply = l->argument[1];
    return MP_NATS_OP;
}

static enum mp_nats_result parse_sub(struct mp_nats_parser *p, const struct line *l,
                                     struct mp_nats_op *op)
{
    if (l->count < 2 || l->count > 3)
        return fail(p, unknown_operation);
    op->subject = l->argument[0];
    if (l->count == 3)
        op->queue = l->argument[1];
    op->sid = l->argument[l->count - 1];
    return MP_NATS_OP;
}

static enum mp_nats_result parse_unsub(struct mp_nats_parser *p, const struct line *l,
                                       struct mp_nats_op *op)
{
    if (l->count < 1 || l->count > 2)
        return fail(p, unknown_operation);
    op->sid = l->argument[0];
    if (l->count == 2 && !mp_parse_u64(l->argument[1], &op->max))
        op->max = 0; /* as if it were not there (sdk-protocol 1.1) */
    return MP_NATS_OP;
}

/* -- verbs ------------------------------------------------------------------------ */

/* The frequent ones come first. */
static const struct verb verbs[] = {
    { "pub", MP_NATS_PUB, true, true, parse_pub },
    { "hpub", MP_NATS_HPUB, true, true, parse_hpub },
    { "ping", MP_NATS_PING, false, false, parse_bare },
    { "pong", MP_NATS_PONG, false, false, parse_bare },
    { "sub", MP_NATS_SUB, true, false, parse_sub },
    { "unsub", MP_NATS_UNSUB, true, false, parse_unsub },
    { "connect", MP_NATS_CONNECT, false, false, parse_connect },
    { "+ok", MP_NATS_IGNORED, false, false, parse_bare },
    { "info", MP_NATS_IGNORED, false, false, parse_bare },
    { "-err", MP_NATS_IGNORED, false, false, parse_closing },
};

/* The verb that `line` begins with, NULL: none. *size becomes its length. */
static const struct verb *find_verb(memphis_slice line, size_t *size)
{
    const uint8_t *at = line.data;
    char folded[VERB_SIZE_MAX + 1] = { 0 };
    size_t n = 0;

    for (; n < line.size && byte_class[at[n]] == IN_TOKEN; n++) {
        if (n == VERB_SIZE_MAX || at[n] == 0)
            return NULL;
        folded[n] = (char)(at[n] >= 'A' && at[n] <= 'Z' ? at[n] + 32 : at[n]);
    }
    *size = n;
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (memcmp(folded, verbs[i].name, sizeof folded) == 0)
            return &verbs[i];
    return NULL;
}

/* -- lines ------------------------------------------------------------------------ */

/* `line` is without its end. The arguments count from behind the first blank, so that a
 * run of blanks is bounded, and so is a word that is longer than any verb. */
static bool is_too_long(memphis_slice line)
{
    const uint8_t *at = line.data;
    size_t n = 0;

    if (line.size <= MP_CONTROL_LINE_MAX)
        return false;
    while (n < VERB_SIZE_MAX && byte_class[at[n]] != BLANK)
        n++;
    return line.size - n - 1 > MP_CONTROL_LINE_MAX;
}

static memphis_slice without_cr(memphis_slice line)
{
    if (line.size > 0 && ((const char *)line.data)[line.size - 1] == '\r')
        line.size--;
    return line;
}

/* Looks for the end of the line behind what was looked at before. */
static enum mp_nats_result find_line(struct mp_nats_parser *p, memphis_slice in)
{
    /* A line that ends beyond the window is too long with any verb. */
    size_t window = MP_CONTROL_LINE_MAX + VERB_SIZE_MAX + 3;
    size_t limit = in.size < window ? in.size : window;
    const char *from = in.data;
    const char *end = p->scanned < limit
                          ? memchr(from + p->scanned, '\n', limit - p->scanned)
                          : NULL;
    size_t size = end != NULL ? (size_t)(end - from) : limit;

    if (is_too_long(without_cr(mp_slice(from, size))))
        return fail(p, line_exceeded);
    p->scanned = size;
    if (end == NULL)
        return MP_NATS_MORE;
    p->line_size = size + 1;
    return MP_NATS_OP;
}

/* Fills `op` from the line whose end is known. */
static enum mp_nats_result parse_line(struct mp_nats_parser *p, memphis_slice in,
                                      struct mp_nats_op *op)
{
    memphis_slice line = without_cr(mp_slice(in.data, p->line_size - 1));
    size_t verb_size = 0;
    const struct verb *v = find_verb(line, &verb_size);
    struct line l;

    if (v == NULL)
        return fail(p, unknown_operation);
    l.rest = mp_slice((const char *)line.data + verb_size, line.size - verb_size);
    if (v->is_split)
        split(&l);
    else
        l.count = 0;
    *op = (struct mp_nats_op){ .verb = v->verb };
    enum mp_nats_result result = v->parse(p, &l, op);
    p->has_line = result == MP_NATS_OP && v->has_payload;
    return result;
}

/* MORE, or OP when payload and its CRLF are there. The terminator is judged as soon as
 * a byte of it is seen. */
static enum mp_nats_result find_payload(struct mp_nats_parser *p, memphis_slice in)
{
    const char *bytes = in.data;
    size_t end = p->line_size + p->body_size;

    if ((in.size > end && bytes[end] != '\r') ||
        (in.size > end + 1 && bytes[end + 1] != '\n'))
        return fail(p, unknown_operation);
    return in.size >= end + 2 ? MP_NATS_OP : MP_NATS_MORE;
}

/* -- public ----------------------------------------------------------------------- */

void mp_nats_parser_init(struct mp_nats_parser *p, uint32_t payload_max)
{
    *p = (struct mp_nats_parser){ .payload_max = payload_max };
}

enum mp_nats_result mp_nats_parse(struct mp_nats_parser *p, memphis_slice in,
                                  struct mp_nats_op *op, size_t *consumed)
{
    enum mp_nats_result result = MP_NATS_OP;
    bool is_parsed = false;

    if (!p->has_line) {
        result = find_line(p, in);
        if (result == MP_NATS_OP)
            result = parse_line(p, in, op);
        if (result != MP_NATS_OP)
            return result;
        is_parsed = true;
    }
    *consumed = p->line_size;
    if (p->has_line) {
        result = find_payload(p, in);
        if (result != MP_NATS_OP)
            return result;
        if (!is_parsed) {
            result = parse_line(p, in, op);
            mp_assert(result == MP_NATS_OP); /* it was when the line came */
        }
        const char *payload = (const char *)in.data + p->line_size;
        op->headers = mp_slice(payload, p->header_size);
        op->payload = mp_slice(payload + p->header_size, p->body_size - p->header_size);
        *consumed = p->line_size + p->body_size + 2;
    }
    p->has_line = false;
    p->scanned = 0;
    return MP_NATS_OP;
}
