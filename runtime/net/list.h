/* List: intrusive, doubly linked, with a sentinel. An unlinked node points at itself. */
#ifndef HOLDFAST_NET_LIST_H
#define HOLDFAST_NET_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct node {
    struct node *prev, *next;
};

#define CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

static inline void list_init(struct node *n)
{
    n->prev = n->next = n;
}

static inline bool list_is_empty(const struct node *list)
{
    return list->next == list;
}

static inline bool list_is_linked(const struct node *n)
{
    return n->next != n;
}

static inline void list_append(struct node *list, struct node *n)
{
    n->prev = list->prev;
    n->next = list;
    list->prev->next = n;
    list->prev = n;
}

static inline void list_remove(struct node *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

/* Moves all of `from` to the empty list `to`. */
static inline void list_take(struct node *to, struct node *from)
{
    list_init(to);
    if (list_is_empty(from)) return;
    *to = *from;
    to->next->prev = to;
    to->prev->next = to;
    list_init(from);
}

#endif
