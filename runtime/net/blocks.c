/* Blocks: where OpenSSL's record buffers come from. Each link has one or two of 16 KB while a record or a
 * handshake is under way, and none between (SSL_MODE_RELEASE_BUFFERS): from malloc() they leave holes between
 * what stays, a third of the memory of ten thousand links that came up together, and each wake-up takes a cold one.
 * Here the last one given back is taken next, and what a herd left behind goes back to the system.
 *
 * Of the whole process, as OpenSSL's hooks for memory are; the lock is for its other threads (trusts are read in
 * one). Whatever is larger, smaller or too much comes from malloc(). */
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "net/net.h"

#define BLOCK_BYTES ((size_t)24576) /* whole pages; a handshake's buffer is 21,848 bytes */
#define BLOCK_BYTES_MIN ((size_t)12288)
#define BLOCKS_MAX 43690u           /* 1 GiB of addresses; pages come as they are used */
#define BLOCKS_WARM 64u             /* free ones that keep their pages */

static struct {
    pthread_mutex_t lock;
    uint8_t *base;      /* NULL: not in use */
    uint32_t *next;     /* of a free block; index + 1 */
    uint32_t free;      /* index + 1; 0: none */
    uint32_t free_count;
    uint32_t used;      /* blocks that were ever taken */
} blocks = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool is_block(const void *memory)
{
    const uint8_t *at = memory;
    return blocks.base && at >= blocks.base && at < blocks.base + BLOCK_BYTES * BLOCKS_MAX;
}

static void *block_take(void)
{
    uint8_t *block = NULL;
    pthread_mutex_lock(&blocks.lock);
    if (blocks.free) {
        uint32_t index = blocks.free - 1;
        blocks.free = blocks.next[index];
        blocks.free_count--;
        block = blocks.base + BLOCK_BYTES * index;
    } else if (blocks.used < BLOCKS_MAX) {
        block = blocks.base + BLOCK_BYTES * blocks.used++;
    }
    pthread_mutex_unlock(&blocks.lock);
    return block;
}

static void block_give(void *memory)
{
    size_t offset = (size_t)((uint8_t *)memory - blocks.base);
    ASSERT(offset % BLOCK_BYTES == 0);
    uint32_t index = (uint32_t)(offset / BLOCK_BYTES);
    pthread_mutex_lock(&blocks.lock);
    if (blocks.free_count >= BLOCKS_WARM) madvise(memory, BLOCK_BYTES, MADV_DONTNEED);
    blocks.next[index] = blocks.free;
    blocks.free = index + 1;
    blocks.free_count++;
    pthread_mutex_unlock(&blocks.lock);
}

static void *hook_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    if (size == 0) return NULL;
    void *memory = size >= BLOCK_BYTES_MIN && size <= BLOCK_BYTES ? block_take() : NULL;
    return memory ? memory : malloc(size);
}

static void hook_free(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    if (is_block(memory)) block_give(memory);
    else free(memory);
}

static void *hook_realloc(void *memory, size_t size, const char *file, int line)
{
    if (!memory) return hook_malloc(size, file, line);
    if (size == 0) {
        hook_free(memory, file, line);
        return NULL;
    }
    if (!is_block(memory)) return realloc(memory, size);
    if (size <= BLOCK_BYTES && size >= BLOCK_BYTES_MIN) return memory;
    void *moved = malloc(size);
    if (!moved) return NULL;
    memcpy(moved, memory, size < BLOCK_BYTES ? size : BLOCK_BYTES);
    block_give(memory);
    return moved;
}

bool net_memory_begin(void)
{
#ifdef __SANITIZE_ADDRESS__
    return false; /* it would no longer see what OpenSSL does with its buffers */
#endif
    size_t bytes = BLOCK_BYTES * BLOCKS_MAX;
    if (blocks.base) return true;
    blocks.next = mmap(NULL, sizeof *blocks.next * BLOCKS_MAX, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (blocks.next == MAP_FAILED || base == MAP_FAILED ||
        CRYPTO_set_mem_functions(hook_malloc, hook_realloc, hook_free) != 1) {
        if (blocks.next != MAP_FAILED) munmap(blocks.next, sizeof *blocks.next * BLOCKS_MAX);
        if (base != MAP_FAILED) munmap(base, bytes);
        return false;
    }
    /* A huge page would tie the pages of many blocks together. */
    madvise(base, bytes, MADV_NOHUGEPAGE);
    blocks.base = base;
    return true;
}
