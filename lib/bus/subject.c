#include "bus/subject.h"

#include "base/limits.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool token_is(memphis_slice token, char c)
{
    return token.size == 1 && *(const char *)token.data == c;
}

bool mp_subject_is_valid(memphis_slice s)
{
    const char *p = s.data;

    if (s.size == 0 || s.size > MP_SUBJECT_MAX)
        return false;
    for (size_t i = 0, token = 0; i <= s.size; i++) {
        if (i < s.size && is_blank(p[i]))
            return false;
        if (i < s.size && p[i] != '.')
            continue;
        if (i == token)
            return false; /* empty token */
        if (i < s.size && i - token == 1 && p[token] == '>')
            return false; /* ">" must be the last one */
        token = i + 1;
    }
    return true;
}

bool mp_subject_is_literal(memphis_slice s)
{
    memphis_slice rest = s;

    if (!mp_subject_is_valid(s))
        return false;
    while (rest.size > 0) {
        memphis_slice token = mp_slice_split(&rest, '.');

        if (token_is(token, '*') || token_is(token, '>'))
            return false;
    }
    return true;
}

/* The next token of *rest; false: there is none. Unlike mp_slice_split alone it tells
 * an empty last token ("a.") from the end. */
static bool next_token(memphis_slice *rest, bool *ended, memphis_slice *token)
{
    const char *dot;

    if (*ended)
        return false;
    dot = rest->size > 0 ? memchr(rest->data, '.', rest->size) : NULL;
    if (dot == NULL) {
        *token = *rest;
        *ended = true;
        return true;
    }
    *token = mp_slice(rest->data, (size_t)(dot - (const char *)rest->data));
    *rest = mp_slice(dot + 1, rest->size - token->size - 1);
    return true;
}

bool mp_subject_matches(memphis_slice pattern, memphis_slice literal)
{
    bool pattern_ended = false, literal_ended = false;

    for (;;) {
        memphis_slice p = { 0 }, l = { 0 };
        bool more_p = next_token(&pattern, &pattern_ended, &p);
        bool more_l = next_token(&literal, &literal_ended, &l);

        if (!more_p || !more_l)
            return more_p == more_l;
        if (token_is(p, '>') && pattern_ended)
            return true;
        if (!token_is(p, '*') && !mp_slice_equal(p, l))
            return false;
    }
}

bool mp_subject_overlaps(memphis_slice a, memphis_slice b)
{
    bool a_ended = false, b_ended = false;

    for (;;) {
        memphis_slice x = { 0 }, y = { 0 };
        bool more_x = next_token(&a, &a_ended, &x);
        bool more_y = next_token(&b, &b_ended, &y);

        if (!more_x || !more_y)
            return more_x == more_y;
        if ((token_is(x, '>') && a_ended) || (token_is(y, '>') && b_ended))
            return true;
        if (!token_is(x, '*') && !token_is(y, '*') && !mp_slice_equal(x, y))
            return false;
    }
}

uint32_t mp_subject_tokens(memphis_slice s)
{
    uint32_t n = 0;
    bool ended = false;
    memphis_slice token;

    if (s.size == 0)
        return 0;
    while (next_token(&s, &ended, &token))
        n++;
    return n;
}

memphis_slice mp_subject_token(memphis_slice s, uint32_t n)
{
    bool ended = false;
    memphis_slice token = { 0 };

    for (uint32_t i = 0; i <= n; i++)
        if (!next_token(&s, &ended, &token))
            return (memphis_slice){ 0 };
    return token;
}
