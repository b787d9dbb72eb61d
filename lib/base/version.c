#include <memphis/base.h>

#include <assert.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

#define MAJOR 0
#define MINOR 1
#define PATCH 0
static_assert(MAJOR * 1000000 + MINOR * 1000 + PATCH == MEMPHIS_VERSION_NUMBER,
              "the text and the number of the version differ");

#ifdef __clang__
#define COMPILER                                                                       \
    "clang " TEXT(__clang_major__) "." TEXT(__clang_minor__) "." TEXT(                 \
        __clang_patchlevel__)
#else
#define COMPILER                                                                       \
    "gcc " TEXT(__GNUC__) "." TEXT(__GNUC_MINOR__) "." TEXT(__GNUC_PATCHLEVEL__)
#endif

/* Optional parts announce themselves by a macro of the build. */
static const char *const features[] = {
#ifdef MP_HAS_CLUSTER
    "cluster",
#endif
#ifdef MP_HAS_ZSTD
    "zstd",
#endif
    NULL
};

uint32_t memphis_version_number(void)
{
    return MEMPHIS_VERSION_NUMBER;
}

const char *memphis_version_text(void)
{
    return TEXT(MAJOR) "." TEXT(MINOR) "." TEXT(PATCH) " (" COMPILER ")";
}

bool memphis_has(const char *feature)
{
    for (const char *const *f = features; feature != NULL && *f != NULL; f++)
        if (strcmp(*f, feature) == 0)
            return true;
    return false;
}
