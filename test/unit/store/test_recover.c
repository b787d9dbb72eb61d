#include "support/test.h"

#include "base/enc.h"
#include "base/str.h"
#include "env/env_mem.h"
#include "store/recover.h"
#include "store/slot.h"
#include "store/wal.h"

struct world {
    struct mp_disk *disk;
    struct mp_env *env;
    struct mp_mailbox box;
    struct mp_recovery r;
    memphis_error err;
};

static struct world *begin(void)
{
    static struct world w;

    w = (struct world){ .disk = mp_disk_new(11) };
    w.env = mp_env_mem_open(w.disk, NULL);
    mp_mailbox_init(&w.box, NULL, NULL);
    w.env->mailbox = &w.box;
    return &w;
}

static void end(struct world *w)
{
    mp_recover_fini(&w->r);
    w->env->close(w->env);
    mp_mailbox_fini(&w->box);
    mp_disk_free(w->disk);
}

static memphis_status recover(struct world *w, bool accept_loss)
{
    mp_recover_fini(&w->r);
    w->err = (memphis_error){ 0 };
    return mp_recover(&w->r, w->env, accept_loss, &w->err);
}

static void put_file(struct world *w, const char *name, const char *text)
{
    memphis_slice v = mp_slice_text(text);
    struct mp_file *f;

    w->env->file_open(w->env, name, MP_FILE_WRITE | MP_FILE_CREATE, &f, NULL);
    assert_int_equal(w->env->file_write(w->env, f, 0, &v, 1, NULL), MEMPHIS_OK);
    w->env->file_close(w->env, f);
}

static void put_node(struct world *w, uint64_t durable_upto, uint32_t flags)
{
    struct mp_node node = { .node_id = 1, .boots = 3, .durable_upto = durable_upto,
                            .flags = flags };

    assert_int_equal(mp_node_write(w->env, &node, NULL), MEMPHIS_OK);
}

/* wal/ with one file, and `batches` batches of heads in it. Returns the end. */
static uint64_t put_log(struct world *w, int batches)
{
    struct mp_wal_options o = { .env = w->env, .file_min = 16 * MP_BLOCK_SIZE,
                                .file_max = 16 * MP_BLOCK_SIZE };
    struct mp_head head = { .shard = 2 };
    struct mp_wal *wal;

    assert_int_equal(w->env->mkdir(w->env, "wal", NULL), MEMPHIS_OK);
    assert_int_equal(mp_wal_new(&o, &wal, NULL), MEMPHIS_OK);
    assert_int_equal(mp_wal_create(wal, 0, 0, 0, MP_BLOCK_SIZE, NULL), MEMPHIS_OK);
    for (int i = 0; i < batches; i++) {
        mp_wal_begin(wal, MP_BLOCK_SIZE, &head, 1, 0);
        assert_int_equal(mp_wal_write(wal, 1, 1, NULL), MEMPHIS_OK);
    }
    uint64_t tail = mp_wal_end(wal);
    mp_wal_free(wal);
    return tail;
}

static bool count_names(void *ctx, const char *name)
{
    (void)name;
    ++*(int *)ctx;
    return true;
}

static int names_in(struct world *w, const char *dir)
{
    int n = 0;

    assert_int_equal(w->env->dir_list(w->env, dir, count_names, &n, NULL), MEMPHIS_OK);
    return n;
}

/* -- without a node slot ----------------------------------------------------------- */

static void an_empty_directory_is_fresh(void **state)
{
    struct world *w = begin();

    (void)state;
    assert_int_equal(recover(w, false), MEMPHIS_OK);
    assert_true(w->r.fresh);
    assert_false(w->r.clean);
    assert_int_equal(w->r.node.generation, 0);
    assert_int_equal(names_in(w, "wal"), 0);
    end(w);
}

static void an_interrupted_creation_is_begun_anew(void **state)
{
    struct world *w = begin();

    (void)state;
    put_file(w, "LOCK", "");
    put_file(w, "meta.db", "something");
    put_file(w, "lost+found", "");
    put_log(w, 0); /* a file, but nothing was ever written into it */
    assert_true(mp_disk_flip(w->disk, "wal/00000000000000000000.wal",
                             MP_BLOCK_SIZE + 77, 1)); /* nor was it synced */
    put_file(w, "wal/next", "half of a file");
    assert_int_equal(recover(w, false), MEMPHIS_OK);
    assert_true(w->r.fresh);
    assert_int_equal(names_in(w, "wal"), 0);
    put_file(w, "node", "half of a slot");
    assert_int_equal(recover(w, false), MEMPHIS_OK);
    assert_true(w->r.fresh);
    end(w);
}

static void a_fresh_directory_survives_a_crash_right_away(void **state)
{
    struct world *w = begin();

    (void)state;
    assert_int_equal(recover(w, false), MEMPHIS_OK);
    mp_recover_fini(&w->r);
    w->env->close(w->env);
    mp_disk_crash(w->disk, MP_CRASH_NOTHING, 1);
    w->env = mp_env_mem_open(w->disk, NULL);
    assert_int_equal(names_in(w, "wal"), 0); /* its name was synced */
    end(w);
}

static void somebody_elses_directory_is_refused_untouched(void **state)
{
    struct world *w = begin();

    (void)state;
    put_file(w, "letters.txt", "dear");
    uint64_t before = mp_disk_operations(w->disk);
    assert_int_equal(recover(w, false), MEMPHIS_INVALID);
    assert_non_null(strstr(w->err.message, "'letters.txt'"));
    assert_int_equal(recover(w, true), MEMPHIS_INVALID);
    assert_int_equal(mp_disk_operations(w->disk), before);
    assert_int_equal(names_in(w, ""), 1);
    end(w);
}

static void a_very_long_foreign_name_is_cut(void **state)
{
    struct world *w = begin();
    char name[96];

    (void)state;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    put_file(w, name, "");
    assert_int_equal(recover(w, false), MEMPHIS_INVALID);
    name[63] = 0;
    const char *shown = strstr(w->err.message, name);
    assert_non_null(shown);
    assert_int_equal(shown[63], '\'');
    end(w);
}

static void a_log_without_a_node_slot_is_damage(void **state)
{
    struct world *w = begin();

    (void)state;
    put_log(w, 1);
    assert_int_equal(recover(w, false), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, "'node' has no valid slot"));
    put_file(w, "node", "nothing that is a slot");
    assert_int_equal(recover(w, false), MEMPHIS_CORRUPT);
    assert_int_equal(recover(w, true), MEMPHIS_CORRUPT); /* no matter what */
    assert_int_equal(names_in(w, "wal"), 1); /* nothing was thrown away */
    end(w);
}

/* Its file is not thrown away: what is in it may still be wanted. */
static void a_log_that_cannot_be_read_is_no_fresh_directory(void **state)
{
    static const char *const names[] = { "wal/00000000000000000000.wal", "wal/next",
                                         "wal/spare" };
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        struct world *w = begin();
        put_log(w, 1);
        assert_int_equal(w->env->rename(w->env, names[0], names[i], NULL), MEMPHIS_OK);
        assert_true(mp_disk_flip(w->disk, names[i], 20, 1));
        assert_true(mp_disk_flip(w->disk, names[i], MP_BLOCK_SIZE + 20, 1));
        put_file(w, "node", "nothing that is a slot");
        for (int accept_loss = 0; accept_loss < 2; accept_loss++) {
            assert_int_equal(recover(w, accept_loss), MEMPHIS_CORRUPT);
            assert_non_null(strstr(w->err.message, "restore 'node'"));
            for (uint64_t n = 1; n <= 2 + i / 2; n++) { /* `node` first */
                mp_disk_fail(w->disk, MP_DISK_READ, n, MEMPHIS_IO, true);
                assert_int_equal(recover(w, accept_loss), MEMPHIS_IO);
                mp_disk_heal(w->disk);
            }
            assert_int_equal(names_in(w, "wal"), 1);
        }
        end(w);
    }
}

static void segments_without_a_node_slot_are_damage(void **state)
{
    struct world *w = begin();

    (void)state;
    w->env->mkdir(w->env, "s", NULL);
    assert_int_equal(recover(w, true), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, "segments"));
    end(w);
}

/* -- with one ---------------------------------------------------------------------- */

static void a_node_and_its_log_are_recovered(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t tail = put_log(w, 3);
    put_node(w, tail, MP_NODE_CLEAN);
    put_file(w, "letters.txt", "now it is ours for certain");
    assert_int_equal(recover(w, false), MEMPHIS_OK);
    assert_false(w->r.fresh);
    assert_true(w->r.clean);
    assert_int_equal(w->r.node.generation, 1);
    assert_int_equal(w->r.node.boots, 3);
    assert_int_equal(w->r.scan.end, tail);
    assert_int_equal(w->r.scan.durable_upto, tail);
    assert_int_equal(mp_recover_settle_from(&w->r), tail);
    put_node(w, 0, 0);
    assert_int_equal(recover(w, false), MEMPHIS_OK);
    assert_false(w->r.clean);
    /* Only what the batches know: the last one is not covered. */
    assert_int_equal(mp_recover_settle_from(&w->r), tail - MP_BLOCK_SIZE);
    end(w);
}

static void what_node_knows_to_be_durable_must_be_there(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t tail = put_log(w, 3);
    put_node(w, tail, MP_NODE_CLEAN);
    assert_true(mp_disk_flip(w->disk, "wal/00000000000000000000.wal",
                             tail - MP_BLOCK_SIZE + 20, 1));
    assert_int_equal(recover(w, false), MEMPHIS_CORRUPT);
    assert_int_equal(recover(w, true), MEMPHIS_OK);
    assert_int_equal(w->r.scan.lost_count, 1);
    assert_int_equal(mp_recover_settle_from(&w->r), tail - MP_BLOCK_SIZE);
    end(w);
}

static void a_log_that_is_gone_is_damage(void **state)
{
    struct world *w = begin();

    (void)state;
    put_node(w, 0, 0);
    assert_int_equal(recover(w, false), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, "'wal' is missing"));
    assert_non_null(strstr(w->err.message, "--accept-loss"));
    assert_int_equal(recover(w, true), MEMPHIS_OK);
    assert_int_equal(w->r.scan.lost_count, 1);
    w->env->close(w->env);
    mp_disk_crash(w->disk, MP_CRASH_NOTHING, 1);
    w->env = mp_env_mem_open(w->disk, NULL);
    assert_int_equal(recover(w, false), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, "no WAL file"));
    assert_int_equal(recover(w, true), MEMPHIS_OK);
    assert_false(w->r.fresh);
    end(w);
}

static void a_node_of_a_newer_release_is_told_apart(void **state)
{
    struct world *w = begin();
    struct mp_node node = { .generation = 1 };
    uint8_t block[MP_BLOCK_SIZE];

    (void)state;
    put_log(w, 1);
    mp_node_encode(&node, block);
    mp_set_u16(block + 74, MP_FORMAT_VERSION + 1);
    mp_set_u32(block + 4, mp_block_crc(block, sizeof block));
    assert_int_equal(mp_slot_write(w->env, "node", block, true, NULL), MEMPHIS_OK);
    assert_int_equal(recover(w, true), MEMPHIS_VERSION);
    end(w);
}

static void a_disk_that_cannot_be_read_is_no_fresh_directory(void **state)
{
    struct world *w = begin();
    memphis_status s = MEMPHIS_IO;

    (void)state;
    put_node(w, put_log(w, 2), 0);
    for (uint64_t n = 1; s != MEMPHIS_OK; n++) {
        assert_true(n < 20);
        mp_disk_fail(w->disk, MP_DISK_READ, n, MEMPHIS_IO, false);
        s = recover(w, true);
        assert_true(s == MEMPHIS_OK || s == MEMPHIS_IO);
        assert_false(w->r.fresh);
        mp_disk_heal(w->disk);
    }
    assert_int_equal(names_in(w, "wal"), 1);
    end(w);
}

/* -- writing it -------------------------------------------------------------------- */

static void a_crash_leaves_the_old_node_or_the_new_one(void **state)
{
    (void)state;
    for (uint64_t generation = 1; generation <= 4; generation++) {
        for (int k = 0; k < 20 * MP_CRASH_OUTCOMES; k++) {
            struct world *w = begin();
            struct mp_node node = { .boots = 0 };
            uint8_t block[MP_BLOCK_SIZE];
            bool exists;
            while (node.generation < generation) {
                node.boots = node.generation + 1;
                mp_node_write(w->env, &node, NULL);
            }
            mp_disk_crash_at(w->disk, 1 + (uint64_t)k % 2);
            node.boots++;
            assert_int_equal(mp_node_write(w->env, &node, NULL), MEMPHIS_IO);
            w->env->close(w->env);
            mp_disk_crash(w->disk, k % MP_CRASH_OUTCOMES, (uint64_t)k);
            w->env = mp_env_mem_open(w->disk, NULL);
            memphis_status s =
                mp_slot_read(w->env, "node", "MPN1", block, &exists, NULL);
            assert_int_equal(s, MEMPHIS_OK);
            assert_int_equal(
                mp_node_decode(mp_slice(block, sizeof block), &node, NULL), MEMPHIS_OK);
            assert_true(node.generation == generation ||
                        node.generation == generation + 1);
            assert_int_equal(node.boots, node.generation);
            end(w);
        }
    }
}

static void a_node_that_was_written_is_there_after_a_crash(void **state)
{
    (void)state;
    for (uint64_t generation = 1; generation <= 3; generation++) {
        struct world *w = begin();
        struct mp_node node = { .node_id = 1 };
        put_log(w, 1);
        w->env->dir_sync(w->env, "", NULL);
        while (node.generation < generation)
            assert_int_equal(mp_node_write(w->env, &node, NULL), MEMPHIS_OK);
        w->env->close(w->env);
        mp_disk_crash(w->disk, MP_CRASH_NOTHING, 1);
        w->env = mp_env_mem_open(w->disk, NULL);
        assert_int_equal(recover(w, false), MEMPHIS_OK);
        assert_int_equal(w->r.node.generation, generation);
        end(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(an_empty_directory_is_fresh),
        leak_checked(an_interrupted_creation_is_begun_anew),
        leak_checked(a_fresh_directory_survives_a_crash_right_away),
        leak_checked(somebody_elses_directory_is_refused_untouched),
        leak_checked(a_very_long_foreign_name_is_cut),
        leak_checked(a_log_without_a_node_slot_is_damage),
        leak_checked(a_log_that_cannot_be_read_is_no_fresh_directory),
        leak_checked(segments_without_a_node_slot_are_damage),
        leak_checked(a_node_and_its_log_are_recovered),
        leak_checked(what_node_knows_to_be_durable_must_be_there),
        leak_checked(a_log_that_is_gone_is_damage),
        leak_checked(a_node_of_a_newer_release_is_told_apart),
        leak_checked(a_disk_that_cannot_be_read_is_no_fresh_directory),
        leak_checked(a_crash_leaves_the_old_node_or_the_new_one),
        leak_checked(a_node_that_was_written_is_there_after_a_crash),
    };

    return run_tests("store/recover", tests);
}
