/* What manners.h says. Reads whole small frames alone, as a client's few words are. */
#include "manners.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "far_end.h"

static void say(SSL *ssl, const char *json)
{
    uint8_t frame[128];
    size_t len = strlen(json);
    frame[0] = 0x81;
    frame[1] = (uint8_t)len;
    memcpy(frame + 2, json, len);
    SSL_write(ssl, frame, (int)len + 2);
}

void manners_set(struct manners *m, unsigned long period_ms)
{
    if (!m->late_us) m->late_us = malloc(LATE_MAX * sizeof *m->late_us);
    if (!m->late_us) die("memory");
    m->on = period_ms > 0;
    m->period_ns = period_ms * 1000000u;
    m->late_count = 0;
    m->beats = m->twice = 0;
}

void manners_opened(const struct manners *m, SSL *ssl)
{
    if (m->on) say(ssl, "{\"op\":10,\"d\":{\"heartbeat_interval\":20000}}");
}

static void introduced(struct manners *m, struct guest *g, const char *text)
{
    const char *token = strstr(text, "\"token\":\"t");
    unsigned long who = token ? strtoul(token + 10, NULL, 10) : 0;
    g->greeted = true;
    g->who = who < GUESTS_MAX ? (uint32_t)who : 0;
    if (g->who && ++m->here[g->who] > 1) m->twice++;
}

static void beat(struct manners *m, struct guest *g)
{
    uint64_t now = now_ns();
    m->beats++;
    if (g->beat_ns && m->late_count < LATE_MAX) {
        uint64_t due = g->beat_ns + m->period_ns;
        m->late_us[m->late_count++] = now > due ? (uint32_t)((now - due) / 1000) : 0;
    }
    g->beat_ns = now;
}

static void one(struct manners *m, struct guest *g, SSL *ssl, const char *text)
{
    if (strstr(text, "\"op\":2")) {
        introduced(m, g, text);
        char ready[100];
        snprintf(ready, sizeof ready, "{\"op\":0,\"s\":1,\"t\":\"READY\",\"d\":{\"mark\":\"%lu.\"}}", m->mark);
        say(ssl, ready);
    } else if (strstr(text, "\"op\":1")) {
        beat(m, g);
        say(ssl, "{\"op\":11}");
    }
}

void manners_take(struct manners *m, struct guest *g, SSL *ssl, uint8_t *bytes, size_t len)
{
    while (m->on && len >= 6 && (bytes[1] & 0x80)) {
        char text[512];
        size_t head = 6, n = bytes[1] & 0x7f;
        if (n == 126 && len >= 8) {
            n = (size_t)bytes[2] << 8 | bytes[3];
            head = 8;
        }
        if (n == 127 || len < head + n) return;
        for (size_t i = 0; i < n && i < sizeof text - 1; i++) text[i] = (char)(bytes[head + i] ^ bytes[head - 4 + i % 4]);
        text[n < sizeof text - 1 ? n : sizeof text - 1] = 0;
        if ((bytes[0] & 0x0f) == 1) one(m, g, ssl, text);
        bytes += head + n;
        len -= head + n;
    }
}

void manners_gone(struct manners *m, const struct guest *g)
{
    if (g->who && m->here[g->who]) m->here[g->who]--;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

void manners_say(struct manners *m, char *out, size_t out_bytes)
{
    uint32_t n = m->late_count;
    if (n) qsort(m->late_us, n, sizeof *m->late_us, by_size);
    snprintf(out, out_bytes, "beats %lu p50 %u p99 %u max %u twice %lu", m->beats, n ? m->late_us[n / 2] : 0,
             n ? m->late_us[(uint64_t)n * 99 / 100] : 0, n ? m->late_us[n - 1] : 0, m->twice);
}
