#include "store/slot.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/status.h"

enum { AT_CRC = 4, AT_GENERATION = 8 };

/* Of that kind; of which version tells the last character of the magic. */
static bool is_valid(const uint8_t *p, const char *magic)
{
    return memcmp(p, magic, 3) == 0 && p[3] >= magic[3] &&
           mp_block_crc(p, MP_BLOCK_SIZE) == mp_get_u32(p + AT_CRC);
}

memphis_status mp_slot_read(struct mp_env *e, const char *name, const char magic[4],
                            uint8_t out[MP_BLOCK_SIZE], bool *exists,
                            memphis_error *err)
{
    struct mp_file *f = NULL;
    uint8_t block[MP_BLOCK_SIZE];
    bool found = false, is_unreadable = false;

    *exists = false;
    memphis_status s = e->file_open(e, name, MP_FILE_READ, &f, err);
    if (s != MEMPHIS_OK)
        return s;
    *exists = true;
    for (uint64_t i = 0; i < 2 && s == MEMPHIS_OK; i++) {
        size_t got = 0;
        s = e->file_read(e, f, i * MP_BLOCK_SIZE, block, sizeof block, &got, err);
        if (s == MEMPHIS_IO) { /* a bad sector is a damaged slot */
            is_unreadable = true;
            s = MEMPHIS_OK;
            continue;
        }
        if (s != MEMPHIS_OK || got < sizeof block || !is_valid(block, magic))
            continue;
        if (block[3] != magic[3])
            s = mp_fail(err, MEMPHIS_VERSION,
                        "'%s' was written by a newer release; use that one", name);
        else if (!found ||
                 mp_get_u64(block + AT_GENERATION) > mp_get_u64(out + AT_GENERATION))
            memcpy(out, block, sizeof block);
        found = true;
    }
    e->file_close(e, f);
    if (s == MEMPHIS_OK && !found && is_unreadable)
        return mp_fail(err, MEMPHIS_NOT_FOUND,
                       "'%s' cannot be read, neither of its slots is left: restore it "
                       "from a backup",
                       name);
    if (s == MEMPHIS_OK && !found)
        return mp_fail(err, MEMPHIS_NOT_FOUND, "'%s' holds no valid slot", name);
    return s;
}

void mp_slot_forget(struct mp_env *e, const char *name, uint64_t generation)
{
    static const uint8_t zeros[MP_BLOCK_SIZE];
    memphis_slice v = { zeros, MP_BLOCK_SIZE };
    struct mp_file *f = NULL;

    if (e->file_open(e, name, MP_FILE_WRITE, &f, NULL) != MEMPHIS_OK)
        return;
    (void)e->file_write(e, f, generation % 2 * MP_BLOCK_SIZE, &v, 1, NULL);
    e->file_close(e, f);
}

memphis_status mp_slot_write(struct mp_env *e, const char *name,
                             const uint8_t block[MP_BLOCK_SIZE], bool sync,
                             memphis_error *err)
{
    struct mp_file *f = NULL;
    memphis_slice v = { block, MP_BLOCK_SIZE };
    uint64_t generation = mp_get_u64(block + AT_GENERATION);

    mp_assert(generation > 0);
    memphis_status s =
        e->file_open(e, name, MP_FILE_WRITE | MP_FILE_CREATE, &f, err);
    if (s != MEMPHIS_OK)
        return s;
    s = e->file_write(e, f, generation % 2 * MP_BLOCK_SIZE, &v, 1, err);
    if (s == MEMPHIS_OK && sync)
        s = e->file_sync(e, f, err);
    e->file_close(e, f);
    if (s != MEMPHIS_OK)
        mp_slot_forget(e, name, generation);
    return s;
}
