/* Fuzz target: the daemon's reader of INITIAL_CONFIG_FILE.
 *
 * What it reads is whole, and written again as JSON and as block YAML it reads the
 * same. A fault lies inside the text. */
#include "../../server/users_text.c"

#include "fuzz/fuzz.h"

static const char *const seeds[] = {
    "users:\n  mgmt:\n  - {user: admin, password: Admin123456!}\n  client:\n"
    "  - {user: app, password: \"App123456!@\"} # quoted\n"
    "  - user: other\n    password: 'Other''12345!'\n",
    "{\"users\":{\"client\":[{\"user\":\"l\\\"\\\\\\/\",\"password\":\"p\"}],"
    "\"mgmt\":[]}}",
    "---\r\nusers:\r\n mgmt:\r\n -\r\n   password: a:b#c\r\n   user: -d\r\n"
    " client:\r\n",
    "users: {client: [{user: a, password: b,}, {'user': \"c\", password: d}],}\n# end",
    "users:\n\tclient: - {user: &a *b, pasword: |}\n users: \"\n",
};

size_t fuzz_seed(size_t i, uint8_t out[FUZZ_SEED_MAX])
{
    if (i >= sizeof(seeds) / sizeof(seeds[0]))
        return 0;
    memcpy(out, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}

/* The entries, in order, each as JSON and as lines. */
struct found {
    size_t count;
    struct mp_buf said, json, lines;
};

static void put_quoted(struct mp_buf *out, const char *text)
{
    mp_buf_put_u8(out, '"');
    for (; *text != 0; text++) {
        if (*text == '"' || *text == '\\')
            mp_buf_put_u8(out, '\\');
        mp_buf_put_u8(out, (uint8_t)*text);
    }
    mp_buf_put_u8(out, '"');
}

static void put_single(struct mp_buf *out, const char *text)
{
    mp_buf_put_u8(out, '\'');
    for (; *text != 0; text++) {
        if (*text == '\'')
            mp_buf_put_u8(out, '\'');
        mp_buf_put_u8(out, (uint8_t)*text);
    }
    mp_buf_put_u8(out, '\'');
}

static bool hear(void *ctx, const struct users_entry *e)
{
    struct found *f = ctx;

    check(e->user[0] != 0 && e->password[0] != 0, "an entry lacks half");
    check(strlen(e->user) < USERS_TEXT_MAX && strlen(e->password) < USERS_TEXT_MAX,
          "a text has no end");
    mp_buf_put_text(&f->said, e->user);
    mp_buf_put_u8(&f->said, '\n');
    mp_buf_put_text(&f->said, e->password);
    mp_buf_put_u8(&f->said, '\n');
    mp_buf_put_text(&f->json, f->count > 0 ? ",{\"user\":" : "{\"user\":");
    put_quoted(&f->json, e->user);
    mp_buf_put_text(&f->json, ",\"password\":");
    put_quoted(&f->json, e->password);
    mp_buf_put_text(&f->json, "}");
    mp_buf_put_text(&f->lines, "  - password: ");
    put_single(&f->lines, e->password);
    mp_buf_put_text(&f->lines, "\n    user: ");
    put_single(&f->lines, e->user);
    mp_buf_put_text(&f->lines, " # x\n");
    f->count++;
    return true;
}

static void found_fini(struct found *f)
{
    mp_buf_fini(&f->said);
    mp_buf_fini(&f->json);
    mp_buf_fini(&f->lines);
}

/* The texts of `f` between those two say the same. */
static void again(const struct found *f, const char *head, memphis_slice middle,
                  const char *tail)
{
    struct mp_buf text = { 0 };
    struct found second = { 0 };
    struct users_fault fault;

    mp_buf_put_text(&text, head);
    mp_buf_put_slice(&text, middle);
    mp_buf_put_text(&text, tail);
    mp_buf_put_u8(&text, 0);
    check(users_read((const char *)text.data, hear, &second, &fault),
          "what was written has a fault");
    check(mp_slice_equal(mp_buf_slice(&f->said), mp_buf_slice(&second.said)),
          "what was written says something else");
    found_fini(&second);
    mp_buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = calloc(1, size + 1); /* exact: a read behind it is seen */
    struct found f = { 0 };
    struct users_fault fault;

    check(text != NULL, "no memory");
    if (size > 0)
        memcpy(text, data, size);
    bool is_read = users_read(text, hear, &f, &fault);
    check(is_read == (fault.what == NULL), "a fault without words");
    check(fault.line >= 1 && fault.line <= size + 1 && fault.column >= 1 &&
              fault.column <= size + 1,
          "the fault lies elsewhere");
    again(&f, "{\"users\":{\"client\":[", mp_buf_slice(&f.json), "]}}");
    again(&f, "users:\n  mgmt:\n", mp_buf_slice(&f.lines), "");
    found_fini(&f);
    free(text);
    return 0;
}
