/* Log: formats on the caller's thread, writes on its own. Owns a queue of finished lines; never owns the
 * descriptor and never blocks the caller. */
#include "ops/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/duration.h"
#include "base/text.h"

#define QUEUE_BYTES_MAX ((size_t)1 << 20)
#define LINE_BYTES_MAX 4096
#define LAST_WORDS_MS 1000

struct log {
    struct log_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* more to write, or the end */
    struct buffer queue;    /* under lock */
    struct buffer writing;  /* the thread's own */
    uint64_t dropped;       /* under lock */
    bool ending, gone, abandoned; /* under lock */
    struct buffer line;     /* the caller's own */
};

static void *log_thread(void *arg);
static void log_free(struct log *log);
static void write_all(int fd, const uint8_t *bytes, size_t len);
static void format_human(struct log *log, enum log_level level, const char *connection,
                         const char *text);
static void format_logfmt(struct log *log, enum log_level level, const char *connection,
                          const char *text, const struct log_field *fields, uint32_t count);
static void format_json(struct log *log, enum log_level level, const char *connection, const char *text,
                        const struct log_field *fields, uint32_t count);
static void log_queue(struct log *log);
static struct timespec in_ms(uint64_t ms);

static const char *const level_names[] = { [LOG_ALARM] = "alarm",
                                           [LOG_WARNING] = "warning",
                                           [LOG_INFO] = "info",
                                           [LOG_DEBUG] = "debug" };

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

bool log_level_parse(const char *text, enum log_level *level_out)
{
    for (int i = LOG_ALARM; i <= LOG_DEBUG; i++) {
        if (strcmp(text, level_names[i]) != 0) continue;
        *level_out = (enum log_level)i;
        return true;
    }
    return false;
}

bool log_options_find(struct log_options *options, int fd, char *why, size_t why_bytes)
{
    const char *level = getenv("HOLDFAST_LOG"), *form = getenv("HOLDFAST_LOG_FORM");
    const char *no_colour = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    bool terminal = isatty(fd);
    memset(options, 0, sizeof *options);
    options->fd = fd;
    options->level = LOG_INFO;
    options->form = terminal ? LOG_FORM_HUMAN : LOG_FORM_LOGFMT;
    options->colours = terminal && !(no_colour && *no_colour) && !(term && strcmp(term, "dumb") == 0);
    if (form && *form && !log_form_parse(form, &options->form)) {
        snprintf(why, why_bytes, "HOLDFAST_LOG_FORM is %.40s, and must be human, logfmt or json", form);
        return false;
    }
    if (!level || !*level || log_level_parse(level, &options->level)) return true;
    snprintf(why, why_bytes, "HOLDFAST_LOG is %.40s, and must be debug, info, warning or alarm",
             level);
    return false;
}

struct log *log_create(const struct log_options *options)
{
    struct log *log = calloc(1, sizeof *log);
    if (!log) return NULL;
    log->options = *options;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->changed, &attr);
    pthread_condattr_destroy(&attr);
    buffer_init(&log->queue, QUEUE_BYTES_MAX);
    buffer_init(&log->writing, QUEUE_BYTES_MAX);
    buffer_init(&log->line, LINE_BYTES_MAX * 5);
    if (pthread_create(&log->thread, NULL, log_thread, log) == 0) return log;
    pthread_cond_destroy(&log->changed);
    pthread_mutex_destroy(&log->lock);
    free(log);
    return NULL;
}

void log_destroy(struct log *log)
{
    if (!log) return;
    struct timespec until = in_ms(LAST_WORDS_MS);
    pthread_mutex_lock(&log->lock);
    log->ending = true;
    pthread_cond_broadcast(&log->changed);
    int waited = 0;
    while (!log->gone && waited == 0) {
        waited = pthread_cond_timedwait(&log->changed, &log->lock, &until);
    }
    bool gone = log->gone;
    log->abandoned = !gone;
    pthread_mutex_unlock(&log->lock);
    if (!gone) {
        /* Nobody reads: the thread sits in write(), and frees everything if it ever returns. */
        pthread_detach(log->thread);
        return;
    }
    pthread_join(log->thread, NULL);
    log_free(log);
}

static void log_free(struct log *log)
{
    pthread_cond_destroy(&log->changed);
    pthread_mutex_destroy(&log->lock);
    buffer_deinit(&log->queue);
    buffer_deinit(&log->writing);
    buffer_deinit(&log->line);
    free(log);
}

bool log_form_parse(const char *text, enum log_form *form_out)
{
    static const char *const names[] = { [LOG_FORM_HUMAN] = "human", [LOG_FORM_LOGFMT] = "logfmt", [LOG_FORM_JSON] = "json" };
    for (int i = LOG_FORM_HUMAN; i <= LOG_FORM_JSON; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *form_out = (enum log_form)i;
        return true;
    }
    return false;
}

bool log_wants(const struct log *log, enum log_level level)
{
    return log && level <= log->options.level;
}

void log_line(struct log *log, enum log_level level, const char *connection, const char *text)
{
    log_fields(log, level, connection, text, NULL, 0);
}

void log_fields(struct log *log, enum log_level level, const char *connection, const char *text,
                const struct log_field *fields, uint32_t count)
{
    if (!log_wants(log, level)) return;
    buffer_clear(&log->line);
    if (log->options.form == LOG_FORM_HUMAN) {
        format_human(log, level, connection, text);
    } else if (log->options.form == LOG_FORM_LOGFMT) {
        format_logfmt(log, level, connection, text, fields, count);
    } else {
        format_json(log, level, connection, text, fields, count);
    }
    log_queue(log);
}

void log_printf(struct log *log, enum log_level level, const char *connection, const char *format, ...)
{
    char text[LINE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_line(log, level, connection, text);
}

/* --- forms ---------------------------------------------------------------------------------------- */

static uint64_t wall_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static size_t cut(const char *text)
{
    return strnlen(text, LINE_BYTES_MAX - 512);
}

static void format_human(struct log *log, enum log_level level, const char *connection,
                         const char *text)
{
    static const char *const colour[] = { [LOG_ALARM] = "\033[1;31m", [LOG_WARNING] = "\033[33m",
                                          [LOG_INFO] = "", [LOG_DEBUG] = "\033[2m" };
    struct buffer *out = &log->line;
    bool colours = log->options.colours;
    uint64_t wall_ms = wall_now_ms();
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm local;
    localtime_r(&seconds, &local);
    buffer_printf(out, "%s%02d:%02d:%02d.%03d%s  ", colours ? "\033[2m" : "", local.tm_hour,
                  local.tm_min, local.tm_sec, (int)(wall_ms % 1000), colours ? "\033[0m" : "");
    buffer_printf(out, "%s%-7s%s  ", colours ? colour[level] : "", level_names[level],
                  colours && *colour[level] ? "\033[0m" : "");
    if (connection) {
        if (colours) buffer_append_text(out, "\033[1m");
        size_t start = out->len;
        text_printable(out, connection, strlen(connection));
        size_t width = out->len - start;
        if (colours) buffer_append_text(out, "\033[0m");
        while (width++ < 14) buffer_append_char(out, ' ');
        buffer_append_text(out, "  ");
    }
    text_printable(out, text, cut(text));
    buffer_append_char(out, '\n');
}

/* logfmt: bare when it is one word, otherwise quoted. */
static void append_value(struct buffer *out, const char *text, size_t len)
{
    size_t start = out->len;
    if (!text_printable(out, text, len)) return;
    bool bare = out->len > start;
    for (size_t i = start; i < out->len && bare; i++) {
        uint8_t c = out->data[i];
        bare = c > ' ' && c != '"' && c != '=' && c != '\\';
    }
    if (bare) return;
    struct buffer raw;
    buffer_init(&raw, 0);
    bool kept = buffer_append(&raw, out->data + start, out->len - start);
    out->len = start;
    buffer_append_char(out, '"');
    for (size_t i = 0; kept && i < raw.len; i++) {
        if (raw.data[i] == '"' || raw.data[i] == '\\') buffer_append_char(out, '\\');
        buffer_append_char(out, (char)raw.data[i]);
    }
    buffer_append_char(out, '"');
    buffer_deinit(&raw);
}

static void format_logfmt(struct log *log, enum log_level level, const char *connection,
                          const char *text, const struct log_field *fields, uint32_t count)
{
    struct buffer *out = &log->line;
    char time_text[TIMESTAMP_TEXT_MAX];
    buffer_printf(out, "time=%s level=%s", timestamp_format(wall_now_ms(), time_text),
                  level_names[level]);
    if (connection) {
        buffer_append_text(out, " connection=");
        append_value(out, connection, strlen(connection));
    }
    buffer_append_text(out, " msg=");
    append_value(out, text, cut(text));
    for (uint32_t i = 0; i < count; i++) {
        buffer_printf(out, " %s=", fields[i].key);
        if (fields[i].text) append_value(out, fields[i].text, strlen(fields[i].text));
        else buffer_printf(out, "%llu", (unsigned long long)fields[i].number);
    }
    buffer_append_char(out, '\n');
}

/* One object a line. Text is made printable before it is quoted: a terminal may be at the other end. */
static void json_text(struct buffer *out, const char *key, const char *text)
{
    struct buffer clean;
    buffer_init(&clean, LINE_BYTES_MAX * 5);
    if (text_printable(&clean, text, cut(text))) {
        buffer_printf(out, ",\"%s\":", key);
        text_json_string(out, clean.len ? (const char *)clean.data : "", clean.len);
    }
    buffer_deinit(&clean);
}

static void format_json(struct log *log, enum log_level level, const char *connection, const char *text,
                        const struct log_field *fields, uint32_t count)
{
    struct buffer *out = &log->line;
    char time_text[TIMESTAMP_TEXT_MAX];
    buffer_printf(out, "{\"time\":\"%s\",\"level\":\"%s\"", timestamp_format(wall_now_ms(), time_text), level_names[level]);
    if (connection) json_text(out, "connection", connection);
    json_text(out, "msg", text);
    for (uint32_t i = 0; i < count; i++) {
        if (fields[i].text) json_text(out, fields[i].key, fields[i].text);
        else buffer_printf(out, ",\"%s\":%llu", fields[i].key, (unsigned long long)fields[i].number);
    }
    buffer_append_text(out, "}\n");
}

/* --- the queue and its thread ------------------------------------------------------------------------- */

static struct timespec in_ms(uint64_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

static void log_queue(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    if (!buffer_append(&log->queue, log->line.data, log->line.len)) log->dropped++;
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
}

static void *log_thread(void *arg)
{
    struct log *log = arg;
    pthread_mutex_lock(&log->lock);
    for (;;) {
        while (!log->queue.len && !log->ending) pthread_cond_wait(&log->changed, &log->lock);
        if (!log->queue.len) break;
        struct buffer swap = log->writing;
        log->writing = log->queue;
        log->queue = swap;
        uint64_t dropped = log->dropped;
        log->dropped = 0;
        pthread_mutex_unlock(&log->lock);

        write_all(log->options.fd, log->writing.data, log->writing.len);
        buffer_clear(&log->writing);
        buffer_trim(&log->writing, 1 << 16);
        if (dropped) {
            char text[96];
            static const char *const forms[] = {
                [LOG_FORM_HUMAN] = "(%llu log lines were dropped: nobody read fast enough)\n",
                [LOG_FORM_LOGFMT] = "level=warning msg=\"log lines dropped\" count=%llu\n",
                [LOG_FORM_JSON] = "{\"level\":\"warning\",\"msg\":\"log lines dropped\",\"count\":%llu}\n",
            };
            int n = snprintf(text, sizeof text, forms[log->options.form], (unsigned long long)dropped);
            write_all(log->options.fd, (const uint8_t *)text, (size_t)n);
        }
        pthread_mutex_lock(&log->lock);
    }
    log->gone = true;
    bool abandoned = log->abandoned;
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
    if (abandoned) log_free(log);
    return NULL;
}

static void write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len) {
        ssize_t n = write(fd, bytes, len);
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = { .fd = fd, .events = POLLOUT };
            poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return; /* closed: nobody can be told */
        }
    }
}
