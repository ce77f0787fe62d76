/* Facts about the protocol: close codes, pings, the body of a refused upgrade. */
#include <stdio.h>
#include <string.h>

#include "facts.h"

/* --- close codes --------------------------------------------------------------------------------
 */

/* What must arrive as it is, and what no peer may send. */
static const uint16_t codes[] = { 1000, 1001, 1011, 4004, 1012, 1013, 1014,
                                  1004, 1005, 1006, 1015, 1016, 2000, 2999 };
#define CODES       (sizeof codes / sizeof *codes)
#define CODES_PLAIN 4 /* the first ones: every client tells them */
#define CODES_LEGAL 7

struct closing {
    uint16_t code;
    int echoed; /* -1: nothing */
};

static void serve_close(struct conn *c, void *data)
{
    struct closing *k = data;
    uint8_t code[2] = { (uint8_t)(k->code >> 8), (uint8_t)k->code }, frame[16], payload[126];
    size_t len = 0;
    k->echoed = -1;
    if (!conn_upgrade(c) || !conn_write(c, frame, frame_write(frame, 8, code, 2))) return;
    for (int opcode; (opcode = conn_frame(c, payload, &len)) >= 0;) {
        if (opcode != 8) continue;
        k->echoed = len >= 2 ? payload[0] << 8 | payload[1] : 0;
        return;
    }
}

static bool add_code(char *list, size_t bytes, unsigned code)
{
    size_t len = strlen(list);
    return snprintf(list + len, bytes - len, len ? " %u" : "%u", code) > 0;
}

bool fact_close_codes(struct bench *b, struct fact *f)
{
    char mangled[128] = "", echoed[128] = "", kept[128] = "", errors[128] = "", wrong[128] = "";
    unsigned lost = 0;
    f->what =
        "close codes 1004-1006, 1012-1015, 1016-2999 from the server reach the application as 1002";
    f->where = "1012 (restart) and 1013 (try again later) mean `resume`, 1002 means a bug: an "
               "ending that is "
               "misread is answered with the wrong verdict";
    f->ours_is_right = true;
    for (size_t i = 0; i < CODES; i++) {
        struct closing k = { .code = codes[i] };
        struct server s;
        if (!server_start(&s, serve_close, &k, NULL)) return false;
        struct call lws = { .name = "127.0.0.1", .port = s.port }, ours = lws;
        lws_side_call(b->lws, &lws);
        server_stop(&s);
        bool lws_lost = lws.close_code != codes[i];
        if (lws_lost && lws.close_code == 1002) add_code(mangled, sizeof mangled, codes[i]);
        if (lws_lost && k.echoed == 1002) add_code(echoed, sizeof echoed, codes[i]);
        if (lws_lost && i >= CODES_PLAIN) lost++;
        if (!lws.opened || (i < CODES_PLAIN && lws_lost)) {
            snprintf(f->lws, sizeof f->lws, "the control failed: %u came as %d", codes[i],
                     lws.close_code);
            return false;
        }

        if (!server_start(&s, serve_close, &k, NULL)) return false;
        ours.port = s.port;
        our_side_call(b->ours, &ours);
        server_stop(&s);
        if (i < CODES_LEGAL) {
            bool right = ours.close_code == codes[i] && k.echoed == codes[i];
            add_code(right ? kept : wrong, sizeof kept, codes[i]);
            f->ours_is_right = f->ours_is_right && right;
        } else {
            bool right = ours.close_code == 0 && ours.words[0] && k.echoed == 1002;
            add_code(right ? errors : wrong, sizeof errors, codes[i]);
            f->ours_is_right = f->ours_is_right && right;
        }
    }
    f->reproduced = lost == CODES - CODES_PLAIN;
    snprintf(f->lws, sizeof f->lws,
             "told as a close by the peer with 1002: %s. Echoed as 1002: %s.",
             mangled[0] ? mangled : "none", echoed[0] ? echoed : "none");
    snprintf(f->ours, sizeof f->ours,
             "told and echoed as they came: %s. No code that may be sent (RFC 6455), told as a "
             "protocol error "
             "of the peer: %s.%s%s",
             kept, errors, wrong[0] ? " WRONG: " : "", wrong);
    return true;
}

/* --- pings --------------------------------------------------------------------------------------
 */

#define PINGS 5

struct pinging {
    bool at_once;
    char answered[PINGS + 1];
};

static void serve_pings(struct conn *c, void *data)
{
    struct pinging *p = data;
    uint8_t bytes[128], payload[126];
    size_t len = 0, got;
    unsigned n = 0;
    if (!conn_upgrade(c)) return;
    for (char name = 'a'; name < 'a' + PINGS; name++) {
        len += frame_write(bytes + len, 9, &name, 1);
        if (p->at_once) continue;
        if (!conn_write(c, bytes, len)) return;
        len = 0;
        if (conn_frame(c, payload, &got) == 10 && got == 1) p->answered[n++] = (char)payload[0];
    }
    len += frame_write(bytes + len, 1, "done", 4);
    if (!conn_write(c, bytes, len)) return;
    for (int opcode; (opcode = conn_frame(c, payload, &got)) >= 0 && opcode != 8;) {
        if (opcode == 10 && got == 1 && n < PINGS) p->answered[n++] = (char)payload[0];
    }
}

static bool ping(struct bench *b, bool lws, struct pinging *p)
{
    struct server s;
    if (!server_start(&s, serve_pings, p, NULL)) return false;
    struct call c = { .name = "127.0.0.1", .port = s.port, .linger_ms = 100 };
    if (lws)
        lws_side_call(b->lws, &c);
    else
        our_side_call(b->ours, &c);
    server_stop(&s);
    return c.opened && c.messages == 1;
}

bool fact_pings(struct bench *b, struct fact *f)
{
    struct pinging lws_single = { .at_once = false }, lws_many = { .at_once = true },
                   ours = { .at_once = true };
    f->what = "of several pings in one read only the first is answered";
    f->where = "after a stall the pings come together: a platform that counts pongs takes a "
               "healthy link for dead";
    if (!ping(b, true, &lws_single) || !ping(b, true, &lws_many) || !ping(b, false, &ours)) {
        snprintf(f->lws, sizeof f->lws, "the experiment failed: no connection, or no message");
        return false;
    }
    if (strcmp(lws_single.answered, "abcde") != 0) {
        snprintf(f->lws, sizeof f->lws, "the control failed: one at a time, \"%s\" were answered",
                 lws_single.answered);
        return false;
    }
    f->reproduced = strlen(lws_many.answered) < PINGS;
    f->ours_is_right = strcmp(ours.answered, "abcde") == 0;
    snprintf(f->lws, sizeof f->lws,
             "pings a b c d e in one write: %zu of %d answered (\"%s\"); one at a time: %zu",
             strlen(lws_many.answered), PINGS, lws_many.answered, strlen(lws_single.answered));
    snprintf(f->ours, sizeof f->ours, "in one write: %zu of %d answered (\"%s\")",
             strlen(ours.answered), PINGS, ours.answered);
    return true;
}

/* --- a refusal ----------------------------------------------------------------------------------
 */

#define BODY "{\"error\":\"token_revoked\"}"

static void serve_refusal(struct conn *c, void *data)
{
    const bool *apart = data;
    char head[256], byte;
    snprintf(head, sizeof head, "HTTP/1.1 403 Forbidden\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(BODY), *apart ? "" : BODY);
    if (!conn_request(c)) return;
    if (!conn_write(c, head, strlen(head))) return;
    if (*apart) {
        sleep_ms(50); /* a segment of its own, read on its own */
        if (!conn_write(c, BODY, strlen(BODY))) return;
    }
    conn_read(c, &byte, 1); /* until the client has left */
}

static bool refuse(struct bench *b, bool lws, bool apart, struct call *c)
{
    struct server s;
    if (!server_start(&s, serve_refusal, &apart, NULL)) return false;
    *c = (struct call){ .name = "127.0.0.1", .port = s.port };
    if (lws)
        lws_side_call(b->lws, c);
    else
        our_side_call(b->ours, c);
    server_stop(&s);
    return !c->opened && c->over;
}

static const char *body_told(const struct call *c)
{
    if (c->body_len == strlen(BODY) && memcmp(c->body, BODY, c->body_len) == 0) return "whole";
    return c->body_len ? "in part" : "not told";
}

bool fact_refusal_body(struct bench *b, struct fact *f)
{
    struct call lws_with, lws_apart, ours_with, ours_apart;
    f->what = "the body of a refused upgrade is lost unless it came with the headers";
    f->where = "platforms say there whether a token is revoked (stop) or a limit was hit (wait): "
               "without it "
               "both look like one 403";
    if (!refuse(b, true, false, &lws_with) || !refuse(b, true, true, &lws_apart) ||
        !refuse(b, false, false, &ours_with) || !refuse(b, false, true, &ours_apart)) {
        snprintf(f->lws, sizeof f->lws, "the experiment failed");
        return false;
    }
    f->reproduced = strcmp(body_told(&lws_apart), "whole") != 0;
    f->ours_is_right = strcmp(body_told(&ours_with), "whole") == 0 && ours_with.status == 403 &&
                       strcmp(body_told(&ours_apart), "whole") == 0 && ours_apart.status == 403;
    snprintf(f->lws, sizeof f->lws,
             "body with the headers: %s; 50 ms after them: %s; status %d; the error: \"%s\"",
             body_told(&lws_with), body_told(&lws_apart), lws_apart.status, lws_apart.words);
    snprintf(f->ours, sizeof f->ours, "body with the headers: %s; 50 ms after them: %s; status %d",
             body_told(&ours_with), body_told(&ours_apart), ours_apart.status);
    return true;
}
