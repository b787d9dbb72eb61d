#include "users_text.h"

#include <stddef.h>
#include <string.h>

struct reader {
    const char *text, *at;
    const char *fault;
    unsigned flow; /* open { and [: in them lines and indentation mean nothing */
    unsigned seen; /* keys above the entries */
    bool has_enough;
    bool (*fn)(void *ctx, const struct users_entry *e);
    void *ctx;
    char key[USERS_TEXT_MAX];
    struct users_entry entry;
};

enum { SEEN_USERS = 1, SEEN_MGMT = 2, SEEN_CLIENT = 4 };

static bool is_over(const struct reader *r)
{
    return r->fault != NULL || r->has_enough;
}

static void fail(struct reader *r, const char *what)
{
    if (!is_over(r))
        r->fault = what;
}

/* === Characters === */

static bool is_in(char c, const char *set)
{
    return c != 0 && strchr(set, c) != NULL;
}

static bool ends_word(char c)
{
    return c == 0 || is_in(c, " \t\r\n");
}

static const char *line_start(const struct reader *r)
{
    const char *p = r->at;

    while (p > r->text && p[-1] != '\n')
        p--;
    return p;
}

static int column(const struct reader *r)
{
    return (int)(r->at - line_start(r));
}

static bool is_first_of_line(const struct reader *r)
{
    const char *p = line_start(r);

    return p + strspn(p, " ") == r->at;
}

static void skip_comment(struct reader *r)
{
    if (*r->at == '#' && (r->at == r->text || ends_word(r->at[-1])))
        r->at += strcspn(r->at, "\n");
}

/* To the next thing, over lines and comments. */
static void skip(struct reader *r)
{
    const char *before = NULL;

    while (r->at != before && !is_over(r)) {
        before = r->at;
        if (*r->at == '\t' && r->flow == 0 && is_first_of_line(r))
            fail(r, "lines are indented by blanks, not by tabs");
        r->at += is_in(*r->at, " \t\r\n");
        skip_comment(r);
    }
}

/* === Scalars === */

static void put(struct reader *r, char out[USERS_TEXT_MAX], size_t *n, char c)
{
    if (*n + 1 < USERS_TEXT_MAX)
        out[(*n)++] = c;
    else
        fail(r, "a text is too long");
}

static void read_quoted(struct reader *r, char out[USERS_TEXT_MAX], size_t *n)
{
    char quote = *r->at++;

    for (; !is_over(r); r->at++) {
        char c = *r->at;
        if (c == quote && (quote == '"' || r->at[1] != quote))
            break;
        if (c == 0 || c == '\n') {
            fail(r, "a quote is not closed in its line");
            return;
        }
        if (c == quote) /* '' is one */
            r->at++;
        else if (c == '\\' && quote == '"' && !is_in(c = *++r->at, "\"\\/")) {
            fail(r, "of escapes there are \\\" \\\\ \\/ only");
            return;
        }
        put(r, out, n, c);
    }
    r->at += !is_over(r);
}

static bool ends_plain(const struct reader *r)
{
    char c = *r->at, next = c != 0 ? r->at[1] : 0;

    if (c == 0 || c == '\n' || (r->flow > 0 && is_in(c, ",[]{}")))
        return true;
    if (c == ':')
        return ends_word(next) || (r->flow > 0 && is_in(next, ",[]{}"));
    return c == '#' && ends_word(r->at[-1]);
}

static void read_plain(struct reader *r, char out[USERS_TEXT_MAX], size_t *n)
{
    if (is_in(*r->at, "!&*|>@%`#,[]{}\"'") ||
        (is_in(*r->at, "-?:") && ends_word(r->at[1]))) {
        fail(r, "what begins with a sign of YAML must be put in quotes");
        return;
    }
    for (; !ends_plain(r) && !is_over(r); r->at++)
        put(r, out, n, *r->at);
    while (*n > 0 && ends_word(out[*n - 1]))
        (*n)--;
}

static void read_scalar(struct reader *r, char out[USERS_TEXT_MAX])
{
    size_t n = 0;

    if (is_in(*r->at, "\"'"))
        read_quoted(r, out, &n);
    else
        read_plain(r, out, &n);
    out[n] = 0;
    if (n == 0)
        fail(r, "a text is missing");
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)out[i] < ' ')
            fail(r, "a text has a control character");
}

static void read_key(struct reader *r)
{
    bool is_quoted = is_in(*r->at, "\"'");

    read_scalar(r, r->key);
    r->at += strspn(r->at, " ");
    if (*r->at != ':' ||
        !(ends_word(r->at[1]) || (is_quoted && r->flow > 0))) /* {"a":1} */
        fail(r, "a key and a colon are expected");
    else
        r->at++;
}

/* A value has ended: outside of brackets so has its line. */
static void end_value(struct reader *r)
{
    const char *line = r->at;

    if (r->flow > 0 || is_over(r))
        return;
    r->at += strspn(r->at, " \t\r");
    skip_comment(r);
    if (*r->at != 0 && *r->at != '\n') {
        r->at = line;
        fail(r, "the line goes on behind its value");
    }
}

/* === Maps and lists === */

typedef void (*part_fn)(struct reader *r, int at_column);

static void read_flow(struct reader *r, char close, part_fn part)
{
    r->at++;
    r->flow++;
    for (skip(r); *r->at != close && !is_over(r); skip(r)) {
        if (close == '}')
            read_key(r);
        if (!is_over(r))
            part(r, -1);
        skip(r);
        if (*r->at == ',')
            r->at++;
        else if (*r->at != close)
            fail(r, close == '}' ? "a comma or } is expected"
                                 : "a comma or ] is expected");
    }
    if (is_over(r))
        return;
    r->at++;
    r->flow--;
    end_value(r);
}

/* Lines that begin at one column, behind that of the parent. */
static void read_map(struct reader *r, int parent, bool is_item, part_fn member)
{
    skip(r);
    if (is_over(r))
        return;
    if (*r->at == '{') {
        read_flow(r, '}', member);
        return;
    }
    int own = column(r);
    if (*r->at == 0 || r->flow > 0 || own <= parent ||
        (!is_item && !is_first_of_line(r))) {
        fail(r, "keys and values are expected");
        return;
    }
    do {
        read_key(r);
        if (!is_over(r))
            member(r, own);
        skip(r);
    } while (*r->at != 0 && column(r) == own && is_first_of_line(r) && !is_over(r));
    if (*r->at != 0 && column(r) > parent)
        fail(r, "the line is indented in a way that means nothing");
}

/* As the parent's keys, or behind them. No line at all: it is empty. */
static void read_list(struct reader *r, int parent, part_fn item)
{
    skip(r);
    if (is_over(r))
        return;
    if (*r->at == '[') {
        read_flow(r, ']', item);
        return;
    }
    int own = column(r);
    bool is_dash = *r->at == '-' && ends_word(r->at[1]) && is_first_of_line(r);
    if (r->flow > 0 || (!is_dash && *r->at != 0 && own > parent))
        fail(r, "a list is expected");
    else if (!is_dash || own < parent)
        return;
    while (!is_over(r) && *r->at == '-' && ends_word(r->at[1]) && column(r) == own) {
        r->at++;
        item(r, own);
        skip(r);
    }
}

/* === What is in them === */

static void read_field(struct reader *r, int at_column)
{
    bool is_user = strcmp(r->key, "user") == 0;
    char *out = is_user ? r->entry.user : r->entry.password;

    (void)at_column;
    if (!is_user && strcmp(r->key, "password") != 0)
        fail(r, "a user has the keys user and password only");
    else if (out[0] != 0)
        fail(r, "a key of a user is there twice");
    if (r->flow > 0)
        skip(r);
    else
        r->at += strspn(r->at, " ");
    if (is_over(r))
        return;
    read_scalar(r, out);
    end_value(r);
}

static void read_entry(struct reader *r, int at_column)
{
    r->entry.user[0] = r->entry.password[0] = 0;
    read_map(r, at_column, true, read_field);
    if (is_over(r))
        return;
    if (r->entry.user[0] == 0 || r->entry.password[0] == 0)
        fail(r, "a user needs user and password");
    else
        r->has_enough = !r->fn(r->ctx, &r->entry);
}

static void see(struct reader *r, unsigned key)
{
    if ((r->seen & key) != 0)
        fail(r, "a key is there twice");
    r->seen |= key;
}

static void read_section(struct reader *r, int at_column)
{
    r->entry.is_management = strcmp(r->key, "mgmt") == 0;
    if (!r->entry.is_management && strcmp(r->key, "client") != 0)
        fail(r, "under users there are mgmt and client only");
    see(r, r->entry.is_management ? SEEN_MGMT : SEEN_CLIENT);
    if (!is_over(r))
        read_list(r, at_column, read_entry);
}

static void read_users(struct reader *r, int at_column)
{
    if (strcmp(r->key, "users") != 0)
        fail(r, "the text has the key users only");
    see(r, SEEN_USERS);
    if (!is_over(r))
        read_map(r, at_column, false, read_section);
}

bool users_read(const char *text, bool (*fn)(void *ctx, const struct users_entry *e),
                void *ctx, struct users_fault *fault)
{
    struct reader r = { .text = text, .at = text, .fn = fn, .ctx = ctx };

    skip(&r);
    if (strncmp(r.at, "---", 3) == 0 && ends_word(r.at[3]))
        r.at += 3;
    read_map(&r, -1, false, read_users);
    skip(&r);
    if (*r.at != 0 && !is_over(&r))
        fail(&r, "there is something behind the end");
    *fault = (struct users_fault){ .what = r.fault, .line = 1 };
    for (const char *p = text; p < r.at; p++)
        fault->line += *p == '\n';
    fault->column = (unsigned)column(&r) + 1;
    memset(&r.entry, 0, sizeof r.entry);
    return r.fault == NULL;
}
