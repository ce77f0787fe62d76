/* Stand-ins for getaddrinfo() and recv(): the program's own definitions come before the C library's
 * for every library that is linked dynamically. Both do the real thing; the first may take longer,
 * the second lets time be measured. The state is global because the functions have no argument for
 * it. */
#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>

#include "facts.h"

static atomic_ullong slow_ms;
static atomic_uint lookups;
static _Thread_local struct meter *meter;

typedef int getaddrinfo_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);
typedef ssize_t recv_fn(int, void *, size_t, int);

int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict out)
{
    getaddrinfo_fn *real = (getaddrinfo_fn *)dlsym(RTLD_NEXT, "getaddrinfo");
    atomic_fetch_add(&lookups, 1);
    if (atomic_load(&slow_ms)) sleep_ms(atomic_load(&slow_ms));
    return real(name, service, hints, out);
}

ssize_t recv(int fd, void *out, size_t len, int flags)
{
    static _Atomic(recv_fn *) real;
    if (!real) real = (recv_fn *)dlsym(RTLD_NEXT, "recv");
    struct meter *m = meter;
    if (!m || !m->on) return real(fd, out, len, flags);
    stand_in_meter_pause();
    ssize_t n = real(fd, out, len, flags);
    if (n > 0 && m->reads < METER_READS_MAX) {
        m->sizes[m->reads++] = (uint32_t)n;
        m->running = true;
        m->since = cpu_ns();
    }
    return n;
}

void stand_in_resolver_slow(uint64_t ms)
{
    atomic_store(&slow_ms, ms);
}

unsigned stand_in_resolver_calls(void)
{
    return atomic_exchange(&lookups, 0);
}

void stand_in_meter_start(struct meter *m)
{
    m->on = true;
    m->running = false;
    m->ns = 0;
    m->reads = 0;
    meter = m;
}

void stand_in_meter_pause(void)
{
    if (!meter || !meter->running) return;
    meter->ns += cpu_ns() - meter->since;
    meter->running = false;
}

void stand_in_meter_stop(void)
{
    stand_in_meter_pause();
    if (meter) meter->on = false;
    meter = NULL;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}
