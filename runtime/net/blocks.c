/* Blocks: where OpenSSL's large pieces come from. Each link has one or two buffers of 16 KB while a record or a
 * handshake is under way, and none between (SSL_MODE_RELEASE_BUFFERS): from malloc() they leave holes between
 * what stays, a third of the memory of ten thousand links that came up together, and each wake-up takes a cold one.
 * Here the last one given back is taken next. An SSL itself (7.6 KB) has blocks of its own, so that the heap holds
 * small things alone and what handshakes leave is filled. What was left unused for some seconds goes back to the
 * system: not at once, because ten thousand links that were cut are dialled again, and each page that came and went
 * cost two calls and a fault.
 *
 * Small things come from malloc() and are kept for the next who wants one of their size: a handshake takes and gives
 * back a thousand of them, and malloc() joins each with its neighbours.
 *
 * Of the whole process, as OpenSSL's hooks for memory are; the lock is for its other threads (trusts are read in
 * one), each of which keeps small things of its own. Whatever is larger or too much comes from malloc(). */
#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "net/net.h"

#define BLOCKS_MAX 43690u /* of each size; addresses alone, pages come as they are used */
#define BLOCKS_WARM 64u   /* free ones that keep their pages whatever happens */
#define REST_BLOCKS 128u  /* pages of so many go back in one turn of the loop: a tenth of a millisecond */
#define REST_MS     4000u /* so long unused; longer than a herd is away whose first pause is a second */
#define REST_MORE_MS 5u
#define BLOCK_BYTES_MIN 3584u
#define SMALL_BYTES_MIN 24u   /* of what malloc() gives; 16 from one size to the next */
#define SMALL_SIZES     64u
#define SMALL_BYTES_MAX (SMALL_BYTES_MIN + 16u * (SMALL_SIZES - 1))
#define SMALL_KEPT      64u   /* of each size, by each thread: 2 MB if all were */

/* Whole pages. A size from `bytes_min` to `bytes` takes one. */
struct pool {
    size_t bytes, bytes_min;
    uint32_t warm_most; /* free ones beyond that go back at once: what a herd's handshakes take, or each link */
    uint8_t *base;      /* NULL: not in use */
    uint32_t *next;     /* of a free block; index + 1 */
    uint32_t warm;      /* free, with its pages; index + 1; 0: none */
    uint32_t warm_count;
    uint32_t unused;    /* of them, since the last look */
    uint32_t owed;      /* of them, whose pages are going back */
    uint32_t cold;      /* free, and its pages went back */
    uint32_t used;      /* blocks that were ever taken */
};

static struct {
    pthread_mutex_t lock;
    const uint8_t *begin, *end; /* all pools lie between */
    bool full;                  /* one of them has more than it keeps whatever happens */
    bool owing;                 /* not all that the last look found has gone back */
    struct pool pools[3];
} blocks = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .pools = {
        { .bytes = 24576, .bytes_min = 12288, .warm_most = 128 }, /* a handshake's buffer is 21,848 bytes */
        { .bytes = 8192, .bytes_min = 6144, .warm_most = BLOCKS_MAX },   /* an SSL, 7,624 */
        { .bytes = 4096, .bytes_min = BLOCK_BYTES_MIN, .warm_most = 256 },   /* two during a handshake */
    },
};
#define POOLS (sizeof blocks.pools / sizeof *blocks.pools)

struct small {
    struct small *next;
};

static __thread struct {
    struct small *first[SMALL_SIZES];
    uint8_t count[SMALL_SIZES];
} kept;

static void *small_take(size_t size)
{
    const size_t i = size <= SMALL_BYTES_MIN ? 0 : (size - SMALL_BYTES_MIN + 15) / 16;
    struct small *s = i < SMALL_SIZES ? kept.first[i] : NULL;
    if (!s) return NULL;
    kept.first[i] = s->next;
    kept.count[i]--;
    return s;
}

/* False: it is not kept. */
static bool small_give(void *memory)
{
    const size_t bytes = malloc_usable_size(memory), i = (bytes - SMALL_BYTES_MIN) / 16;
    if (bytes < SMALL_BYTES_MIN || bytes > SMALL_BYTES_MAX || bytes % 16 != SMALL_BYTES_MIN % 16) return false;
    if (kept.count[i] == SMALL_KEPT) return false;
    struct small *s = memory;
    s->next = kept.first[i];
    kept.first[i] = s;
    kept.count[i]++;
    return true;
}

static struct pool *pool_of(const void *memory)
{
    const uint8_t *at = memory;
    if (at < blocks.begin || at >= blocks.end) return NULL; /* a handshake frees a thousand small things */
    for (size_t i = 0; i < POOLS; i++) {
        struct pool *p = &blocks.pools[i];
        if (p->base && at >= p->base && at < p->base + p->bytes * BLOCKS_MAX) return p;
    }
    return NULL;
}

static void *block_take(size_t size)
{
    uint8_t *block = NULL;
    if (size < BLOCK_BYTES_MIN) return NULL;
    struct pool *p = blocks.pools;
    while (p < blocks.pools + POOLS && (size < p->bytes_min || size > p->bytes)) p++;
    if (p == blocks.pools + POOLS || !p->base) return NULL;
    pthread_mutex_lock(&blocks.lock);
    uint32_t *from = p->warm ? &p->warm : &p->cold;
    if (*from) {
        uint32_t index = *from - 1;
        if (from == &p->warm && --p->warm_count < p->unused) p->unused = p->warm_count;
        *from = p->next[index];
        block = p->base + p->bytes * index;
    } else if (p->used < BLOCKS_MAX) {
        block = p->base + p->bytes * p->used++;
    }
    pthread_mutex_unlock(&blocks.lock);
    return block;
}

static void rest_one(struct pool *p, uint32_t index)
{
    madvise(p->base + p->bytes * index, p->bytes, MADV_DONTNEED);
    p->next[index] = p->cold;
    p->cold = index + 1;
}

static void block_give(struct pool *p, void *memory)
{
    size_t offset = (size_t)((uint8_t *)memory - p->base);
    ASSERT(offset % p->bytes == 0);
    uint32_t index = (uint32_t)(offset / p->bytes);
    pthread_mutex_lock(&blocks.lock);
    if (p->warm_count < p->warm_most) {
        p->next[index] = p->warm;
        p->warm = index + 1;
        if (++p->warm_count > BLOCKS_WARM) __atomic_store_n(&blocks.full, true, __ATOMIC_RELAXED);
    } else {
        rest_one(p, index);
    }
    pthread_mutex_unlock(&blocks.lock);
}

static void *hook_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    if (size == 0) return NULL;
    void *memory = size < BLOCK_BYTES_MIN ? small_take(size) : block_take(size);
    return memory ? memory : malloc(size);
}

static void hook_free(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    struct pool *p = pool_of(memory);
    if (p) block_give(p, memory);
    else if (memory && !small_give(memory)) free(memory);
}

static void *hook_realloc(void *memory, size_t size, const char *file, int line)
{
    if (!memory) return hook_malloc(size, file, line);
    if (size == 0) {
        hook_free(memory, file, line);
        return NULL;
    }
    struct pool *p = pool_of(memory);
    if (!p) return realloc(memory, size);
    if (size <= p->bytes && size >= p->bytes_min) return memory;
    void *moved = hook_malloc(size, file, line);
    if (!moved) return NULL;
    memcpy(moved, memory, size < p->bytes ? size : p->bytes);
    block_give(p, memory);
    return moved;
}

static uint32_t spare_of(const struct pool *p)
{
    return p->warm_count > BLOCKS_WARM ? p->warm_count - BLOCKS_WARM : 0;
}

static void rest_begin(struct pool *p)
{
    p->owed = spare_of(p) < p->unused ? spare_of(p) : p->unused;
    p->unused = p->warm_count;
}

static void rest_some(struct pool *p, uint32_t *most)
{
    if (p->owed > spare_of(p)) p->owed = spare_of(p); /* they are in use again */
    for (; p->owed && *most; p->owed--, (*most)--) {
        const uint32_t index = p->warm - 1;
        p->warm = p->next[index];
        p->warm_count--;
        rest_one(p, index);
    }
    if (p->unused > p->warm_count) p->unused = p->warm_count;
}

bool net_memory_is_full(void)
{
    return __atomic_load_n(&blocks.full, __ATOMIC_RELAXED);
}

uint32_t net_memory_rest(void)
{
    uint32_t most = REST_BLOCKS, owed = 0, spare = 0;
    pthread_mutex_lock(&blocks.lock);
    for (size_t i = 0; i < POOLS && !blocks.owing; i++) rest_begin(&blocks.pools[i]);
    for (size_t i = 0; i < POOLS; i++) {
        rest_some(&blocks.pools[i], &most);
        owed += blocks.pools[i].owed;
        spare += spare_of(&blocks.pools[i]);
    }
    blocks.owing = owed > 0;
    const uint32_t due_ms = owed ? REST_MORE_MS : spare ? REST_MS : 0;
    if (!due_ms) __atomic_store_n(&blocks.full, false, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&blocks.lock);
    return due_ms;
}

static void *addresses(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

bool net_memory_begin(void)
{
#ifdef __SANITIZE_ADDRESS__
    return false; /* it would no longer see what OpenSSL does with its buffers */
#endif
    uint8_t *base[POOLS];
    bool ok = true;
    if (blocks.pools[0].base) return true;
    for (size_t i = 0; i < POOLS; i++) {
        struct pool *p = &blocks.pools[i];
        base[i] = addresses(p->bytes * BLOCKS_MAX);
        p->next = addresses(sizeof *p->next * BLOCKS_MAX);
        ok = ok && base[i] && p->next;
    }
    ok = ok && CRYPTO_set_mem_functions(hook_malloc, hook_realloc, hook_free) == 1;
    for (size_t i = 0; i < POOLS; i++) {
        struct pool *p = &blocks.pools[i];
        if (ok) {
            /* A huge page would tie the pages of many blocks together. */
            madvise(base[i], p->bytes * BLOCKS_MAX, MADV_NOHUGEPAGE);
            p->base = base[i];
            const uint8_t *end = base[i] + p->bytes * BLOCKS_MAX;
            if (!blocks.begin || base[i] < blocks.begin) blocks.begin = base[i];
            if (end > blocks.end) blocks.end = end;
            continue;
        }
        if (base[i]) munmap(base[i], p->bytes * BLOCKS_MAX);
        if (p->next) munmap(p->next, sizeof *p->next * BLOCKS_MAX);
    }
    return ok;
}
