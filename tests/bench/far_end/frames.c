/* The load peer's frames: made once, numbered and stamped as they go out. */
#include <stdio.h>
#include <string.h>

#include "peer_internal.h"

void frames__make(struct peer *p, size_t size)
{
    static const char words[] = "What happens in a channel is said here in words of ordinary length, with commas, and now and then "
                                "a name like \\\"holdfast\\\" or caf\xc3\xa9. ";
    char text[16000];
    if (size < 180) size = 180;
    if (size > sizeof text - 1) size = sizeof text - 1;
    int n = snprintf(text, sizeof text,
                     "{\"t\":\"MESSAGE_CREATE\",\"s\":1000000000,\"op\":0,\"d\":{\"ts\":\"%020d\",\"id\":\"1312345678901234567\","
                     "\"channel_id\":\"81384788765712384\",\"content\":\"", 0);
    size_t len = (size_t)n;
    /* Text, then what Discord has around it: keys, numbers, nested objects. */
    static const char nested[] = "{\"id\":\"80351110224678912\",\"username\":\"nelly\",\"bot\":false,\"flags\":64,\"avatar\":null,"
                                 "\"roles\":[\"41771983423143936\",\"41771983423143937\"]}";
    size_t content_end = size < 600 ? size - 3 : len + 200;
    for (size_t i = 0; len < content_end; i++) {
        if (words[i % (sizeof words - 1)] == '\\' || (words[i % (sizeof words - 1)] & 0x80)) {
            if (len + 2 > content_end) text[len++] = '.';
            else {
                text[len++] = words[i % (sizeof words - 1)];
                text[len++] = words[++i % (sizeof words - 1)];
            }
        } else {
            text[len++] = words[i % (sizeof words - 1)];
        }
    }
    text[len++] = '"';
    if (size >= 600) {
        len += (size_t)sprintf(text + len, ",\"mentions\":[");
        bool first = true;
        while (len + sizeof nested + 4 < size) {
            if (!first) text[len++] = ',';
            memcpy(text + len, nested, sizeof nested - 1);
            len += sizeof nested - 1;
            first = false;
        }
        text[len++] = ']';
        while (len + 2 < size) text[len++] = ' ';
    }
    text[len++] = '}';
    text[len++] = '}';
    size_t head = len < 126 ? 2 : 4;
    p->frame[0] = 0x81;
    if (head == 2) {
        p->frame[1] = (uint8_t)len;
    } else {
        p->frame[1] = 126;
        p->frame[2] = (uint8_t)(len >> 8);
        p->frame[3] = (uint8_t)len;
    }
    memcpy(p->frame + head, text, len);
    p->frame_len = head + len;
    p->seq_at = head + (size_t)(strstr(text, "\"s\":") + 4 - text);
    p->stamp_at = head + (size_t)(strstr(text, "\"ts\":\"") + 6 - text);
}

static void digits(uint8_t *at, size_t count, uint64_t value)
{
    for (size_t i = count; i > 0; i--, value /= 10) at[i - 1] = (uint8_t)('0' + value % 10);
}

bool frames__send(struct peer *p, struct conn *c, uint32_t count, bool stamp)
{
    p->out_len = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t number = 1000000000 + ++p->seq % 1000000000;
        digits(p->frame + p->seq_at, 10, number);
        p->seq_sum += number;
        if (stamp) digits(p->frame + p->stamp_at, 20, now_ns());
        if (SSL_write(c->ssl, p->frame, (int)p->frame_len) != (int)p->frame_len) return false;
    }
    p->sent += count;
    p->sent_ever += count;
    return conn__send(p, c);
}
