/* Replays what raw sockets and a reference broker said to each other (test/data/wire).
 *
 *   # title of a case: a fresh world
 *   +0.0058 c4 S>C | INFO             connection c4 opens at that second
 *   +0.0059 c4 C>S | PING\r\n         what its peer wrote
 *   +0.0062 c4 S>C | -ERR '...'\r\n   what it read; [EOF]: the broker closed
 *
 * Each case runs twice, the second time with one byte in each write, and must give the
 * same bytes. Where we differ on purpose the table says what we answer and why. */
#include "session_world.h"

#include <stdlib.h>

enum { LINE_BYTES_MAX = 8 << 10 };

#define PONG "PONG\r\n"
#define END "[EOF]"

static const char silence[] =
    "do better 45: a malformed line is answered before the end";
static const char one_answer[] = "1.4 step 5: a refused name gives only the error";
static const char reserved[] = "do better 2: requests of others are not readable";
static const char own_traffic[] =
    "do better 47: no internal traffic; any order will do";
static const char any_member[] =
    "1.6: any member of the group may be chosen; we take turns";
static const char canonical[] = "1.1: numbers are printed in their shortest form";
static const char long_subject[] = "a subject has at most MP_SUBJECT_MAX bytes";

/* `ours` NULL: the error for unknown operations in front of the end. */
static const struct deviation {
    const char *title, *ours, *reason;
} deviations[] = {
    { "CONNECT invalid JSON", NULL, silence },
    { "CONNECT without argument", NULL, silence },
    { "CONNECT pass a number", NULL, silence },
    { "PUB one arg", NULL, silence },
    { "PUB 4 args", NULL, silence },
    { "PUB bad size", NULL, silence },
    { "PUB negative size", NULL, silence },
    { "huge size", NULL, silence },
    { "SUB one arg", NULL, silence },
    { "SUB 4 args", NULL, silence },
    { "UNSUB 3 args", NULL, silence },
    { "HPUB no headers support", NULL, silence },
    { "HPUB hdr > total", NULL, silence },
    { "HPUB 2 args", NULL, silence },
    { "HPUB total bad", NULL, silence },
    { "name with unknown user", VIOLATION END, one_answer },
    { "name with two ::", VIOLATION END, one_answer },
    { "control line 4090 ok", PONG "-ERR 'Invalid Publish Subject'\r\n" PONG,
      long_subject },
    { "leading zeros", PONG "MSG a 1 1\r\nx\r\n" PONG, canonical },
    { "queue groups: two subs same queue + one plain",
      PONG
      "MSG q 3 1\r\na\r\nMSG q 1 1\r\na\r\nMSG q 3 1\r\nb\r\nMSG q 2 1\r\nb\r\n" PONG,
      any_member },
    { "overlapping subs",
      PONG "MSG x.y 3 1\r\na\r\nMSG x.y 2 1\r\na\r\nMSG x.y 1 1\r\na\r\n" PONG,
      own_traffic },
    { "SUB $memphis_station_creations (allowed?)", PONG DENIED DENIED PONG, reserved },
};

enum { DEVIATIONS = sizeof deviations / sizeof deviations[0] };

static bool is_used[DEVIATIONS];

/* -- reading ----------------------------------------------------------------------- */

struct frame {
    uint64_t at_ms;
    int connection; /* from 0, in the order of opening within the case */
    bool is_ours;   /* C>S */
    char *bytes;    /* unescaped; "INFO" and "[EOF]" stay as they are */
};

struct script {
    char title[128];
    struct frame *frames;
    size_t count;
    int connections, first_number;
};

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static char *unescaped(const char *text)
{
    char *out = strdup(text), *at = out;
    static const char names[] = "r\rn\nt\t\\\\";

    for (const char *p = text; *p != 0; p++) {
        const char *name = *p == '\\' && p[1] != 'x' ? strchr(names, p[1]) : NULL;
        if (name != NULL) {
            *at++ = name[1];
            p++;
        } else if (*p == '\\') {
            *at++ = (char)(hex_digit(p[2]) * 16 + hex_digit(p[3]));
            p += 3;
        } else {
            *at++ = *p;
        }
    }
    *at = 0;
    return out;
}

static void add_frame(struct script *s, const char *line)
{
    char *end = NULL;
    double seconds = strtod(line + 1, &end);
    int number = (int)strtol(end + 2, &end, 10);

    assert_non_null(strstr(end, " | "));
    s->frames = realloc(s->frames, (s->count + 1) * sizeof *s->frames);
    if (s->count == 0)
        s->first_number = number;
    struct frame *f = &s->frames[s->count++];
    *f = (struct frame){
        .at_ms = (uint64_t)(seconds * 1000.0 + 0.5),
        .connection = number - s->first_number,
        .is_ours = end[1] == 'C',
        .bytes = unescaped(end + strlen(" C>S | ")),
    };
    assert_in_range(f->connection, 0, PEERS - 1);
    if (f->connection >= s->connections)
        s->connections = f->connection + 1;
}

static void script_fini(struct script *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->frames[i].bytes);
    free(s->frames);
    *s = (struct script){ 0 };
}

/* -- playing ----------------------------------------------------------------------- */

static void append(char **text, const char *more)
{
    size_t size = *text != NULL ? strlen(*text) : 0;

    *text = realloc(*text, size + strlen(more) + 1);
    memcpy(*text + size, more, strlen(more) + 1);
}

static const struct deviation *deviation_of(const struct script *s)
{
    for (size_t i = 0; i < DEVIATIONS; i++)
        if (strcmp(deviations[i].title, s->title) == 0) {
            is_used[i] = true;
            return &deviations[i];
        }
    return NULL;
}

/* What the transcript says that connection `n` read, without INFO. */
static char *said(const struct script *s, int n)
{
    char *text = strdup("");

    for (size_t i = 0; i < s->count; i++)
        if (s->frames[i].connection == n && !s->frames[i].is_ours &&
            strcmp(s->frames[i].bytes, "INFO") != 0)
            append(&text, s->frames[i].bytes);
    return text;
}

/* What we must say: the same but for a deviation, which must be one. */
static char *expected(const struct script *s, int n)
{
    const struct deviation *d = deviation_of(s);
    char *reference = said(s, n), *ours = NULL;

    if (d == NULL)
        return reference;
    if (d->ours != NULL) {
        append(&ours, d->ours);
    } else {
        size_t size = strlen(reference) - strlen(END);
        assert_string_equal(reference + size, END);
        reference[size] = 0;
        append(&ours, reference);
        append(&ours, UNKNOWN END);
        append(&reference, END);
    }
    if (strcmp(ours, reference) == 0)
        fail_msg("'%s' is no deviation: %s", s->title, d->reason);
    free(reference);
    return ours;
}

static void write_bytes(struct peer *p, const char *bytes, bool one_by_one)
{
    if (!one_by_one) {
        feed(p, bytes);
        settle();
        return;
    }
    for (size_t i = 0; bytes[i] != 0; i++) {
        if (mp_session_feed(p->s, bytes + i, 1) == MEMPHIS_CLOSED)
            return; /* the rest of a refused line goes nowhere */
        settle();
    }
}

static void play_frame(const struct frame *f, uint64_t start_ms, bool one_by_one)
{
    struct peer *p = &w.peers[f->connection];

    if (start_ms + f->at_ms > w.now)
        pass(start_ms + f->at_ms - w.now);
    if (p->s == NULL) {
        join(f->connection);
        settle();
    }
    if (f->is_ours)
        write_bytes(p, f->bytes, one_by_one);
}

static void play(const struct script *s, bool one_by_one)
{
    uint64_t start_ms = w.now - s->frames[0].at_ms; /* may wrap, the sums do not */

    for (size_t i = 0; i < s->count; i++)
        play_frame(&s->frames[i], start_ms, one_by_one);
    pass(1);
    for (int n = 0; n < s->connections; n++) {
        struct peer *p = &w.peers[n];
        char *wanted = expected(s, n), *got = strdup(answer(p));
        if (p->closed)
            append(&got, END);
        if (strcmp(got, wanted) != 0)
            print_error("case '%s'%s\n", s->title, one_by_one ? ", byte by byte" : "");
        assert_string_equal(got, wanted);
        free(wanted);
        free(got);
    }
}

static void run_case(struct script *s, size_t *cases)
{
    for (int k = 0; s->count > 0 && k < 2; k++) {
        world_new(NULL);
        play(s, k == 1);
        assert_int_equal(world_free(NULL), 0);
    }
    *cases += s->count > 0;
    script_fini(s);
}

static size_t replay(const char *name)
{
    char *line = malloc(LINE_BYTES_MAX);
    FILE *f = fopen(name, "r");
    struct script s = { 0 };
    size_t cases = 0;

    if (f == NULL)
        fail_msg("%s is missing: run the tests in the root of the sources", name);
    while (fgets(line, LINE_BYTES_MAX, f) != NULL) {
        assert_non_null(strchr(line, '\n'));
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '+') {
            add_frame(&s, line);
            continue;
        }
        assert_int_equal(line[0], '#');
        run_case(&s, &cases);
        copy(s.title, sizeof s.title, line + 2);
    }
    run_case(&s, &cases);
    fclose(f);
    free(line);
    return cases;
}

static void connects_errors_sizes_and_blanks(void **state)
{
    (void)state;
    assert_int_equal(replay("test/data/wire/lines.txt"), 67);
}

static void limits_groups_and_keep_alive(void **state)
{
    (void)state;
    assert_int_equal(replay("test/data/wire/lines2.txt"), 22);
}

static void headers_for_a_client_that_takes_none(void **state)
{
    (void)state;
    assert_int_equal(replay("test/data/wire/headers.txt"), 1);
}

/* Runs last: a row that no case needs any more goes away. */
static void every_deviation_has_its_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < DEVIATIONS; i++)
        if (!is_used[i])
            fail_msg("no case '%s': %s", deviations[i].title, deviations[i].reason);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(connects_errors_sizes_and_blanks),
        leak_checked(limits_groups_and_keep_alive),
        leak_checked(headers_for_a_client_that_takes_none),
        leak_checked(every_deviation_has_its_case),
    };

    return run_tests("proto/transcripts", tests);
}
