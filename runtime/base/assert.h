/* Assertions and marks.
 *
 * ASSERT: what only a bug can break. Never compiled out; ends the process with file and line.
 * What the network, an operator or a server may do is never asserted: it is returned as a value.
 *
 * MARK: names a subtle branch, so that exactly one small test can claim that it was taken
 * (`sim:expect_mark(name)`). Compiled in only with HOLDFAST_TEST. */
#ifndef HOLDFAST_BASE_ASSERT_H
#define HOLDFAST_BASE_ASSERT_H

_Noreturn void assert_failed(const char *expression, const char *file, int line);

#define ASSERT(expression) \
    ((expression) ? (void)0 : assert_failed(#expression, __FILE__, __LINE__))

#ifdef HOLDFAST_TEST
struct mark {
    const char *name;       /* borrowed for ever: a string literal */
    unsigned long hits;     /* times taken since mark_reset_all() */
    struct mark *next;      /* owned by the list */
    int listed;
};
void mark_hit(struct mark *m);
/* Times the branch named `name` was taken since the last reset; 0 when it never was. */
unsigned long mark_hits(const char *name);
void mark_reset_all(void);
#define MARK(text)                                        \
    do {                                                  \
        static struct mark mark_here = { text, 0, 0, 0 }; \
        mark_hit(&mark_here);                             \
    } while (0)
#else
#define MARK(text) ((void)0)
#endif

#endif
