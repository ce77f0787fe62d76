/* Manners: a platform's greeting and beats for those parts of the benchmark that need them. A link gets
 * {"op":10}, says who it is ({"op":2,"d":{"token":"tN"}}), gets a first dispatch; {"op":1} is a beat and is
 * answered. Keeps how late beats were, and whether anybody was there twice. */
#ifndef BENCH_MANNERS_H
#define BENCH_MANNERS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUESTS_MAX 20001u
#define LATE_MAX (1u << 20)

struct manners {
    bool on;
    uint64_t period_ns;      /* of beats */
    uint32_t *late_us;       /* LATE_MAX; how much longer than the period after the one before */
    uint32_t late_count;
    unsigned long mark;      /* that first dispatches carry */
    unsigned long beats, twice;
    uint8_t here[GUESTS_MAX]; /* links of each */
};

struct guest {
    bool greeted;
    uint32_t who;     /* 0: did not say */
    uint64_t beat_ns; /* the last one */
};

/* 0: off. What was counted is forgotten. */
void manners_set(struct manners *m, unsigned long period_ms);
/* What is written goes to the SSL; what it makes of it is the caller's. */
void manners_opened(const struct manners *m, SSL *ssl);
void manners_take(struct manners *m, struct guest *g, SSL *ssl, uint8_t *bytes, size_t len);
void manners_gone(struct manners *m, const struct guest *g);
/* "beats N p50 US p99 US max US twice N" */
void manners_say(struct manners *m, char *out, size_t out_bytes);

#endif
