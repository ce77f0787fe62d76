/* Configuration: the Lua file that names listeners, store, policies and connections, read and
 * checked whole, secrets included. Says what is wanted; starts nothing and keeps no Lua state.
 *
 * Every path in the result stands on its own: relative ones were joined with the folder of the file
 * that named them. A connection's options are checked later, by the policy that it names. */
#ifndef HOLDFAST_CONFIG_CONFIG_H
#define HOLDFAST_CONFIG_CONFIG_H

#include "base/value.h"
#include "policy/policy.h"

#define CONFIG_NAME_MAX         64 /* of a connection, NUL included */
#define CONFIG_TOKENS_MAX       64
#define CONFIG_CONNECTIONS_MAX  20000
#define CONFIG_SECRET_BYTES_MAX 65536

/* What a token of the local API may do. OPERATE includes the others. */
enum config_scope { SCOPE_READ = 1, SCOPE_CONSUME = 2, SCOPE_OPERATE = 4 };

struct config_token {
    struct secret *secret;          /* owned reference */
    unsigned scopes;                /* bits of config_scope */
    char consumer[CONFIG_NAME_MAX]; /* CONSUME: whose cursor alone; "" any */
};

struct config_listen {
    char *unix_path; /* owned; NULL: none */
    bool http;
    char http_host[64];          /* an address, without brackets */
    uint16_t http_port;          /* 0: any free one */
    struct config_token *tokens; /* owned; none: one is generated when `http` */
    uint32_t token_count;
};

struct config_connection {
    char name[CONFIG_NAME_MAX];
    char *texts;           /* owned, one block: all texts below */
    const char *policy;    /* name of the policy */
    struct value settings; /* owned, packed: for policy_build_create; `tune`, `plain`, `backlog` included */
    const char *file;      /* where it was written; "" over the API */
    uint32_t line;
    int trial;                   /* new policy versions: 1 among the first to try them, -1 never, 0 as it comes */
    bool plain;                  /* plain http and ws beyond this machine */
    char owner[CONFIG_NAME_MAX]; /* consumer whose acknowledgements count for `through`; "" none */
    const char *ca_file;         /* NULL: the system's */
    const char *proxy;           /* "http://host:port"; NULL: the environment's; "": none */
    const char *proxy_authorization; /* "Basic ..."; NULL: none; secret */
};

#define CONFIG_PROVE_MS 10000u /* unless `policies { prove = ... }` says otherwise */

struct config {
    char *path, *folder; /* owned */
    struct config_listen listen;
    char *store_path;    /* owned */
    bool store_memory;   /* no file: nothing survives the process */
    uint64_t store_journal_age_ms; /* 0: the store's own default */
    char **policy_paths; /* owned: folders, in order */
    uint32_t policy_path_count;
    bool watch;          /* files that changed are read again by themselves */
    uint64_t prove_ms;   /* how long a reload may prove what changed; 0: it does not */
    struct {
        double share;      /* of a policy's connections; 0: a new version runs on all at once */
        uint64_t watch_ms;
        bool rehearse;     /* one tried link is replaced by plan */
    } trial;
    struct config_connection *connections; /* owned; in the order of the file, names unique */
    uint32_t connection_count;
    char **files;        /* owned: of the secrets that it names, in their order, each once in a row */
    uint32_t file_count, file_room;
    uint32_t *by_name;   /* owned: for config_connection_find(): indices + 1 by hash, 0: empty */
    uint32_t by_name_mask;
};

/* Reads, runs and checks the file. False with every error in `problems`; `*out` is empty then.
 * `lua_path` as in struct sandbox_options. */
bool config_load(const char *path, const char *lua_path, struct config *out,
                 struct problems *problems);
/* The same, and with errors `*out` has what could be read, to be checked as well and for nothing else. False: it has
 * nothing. For config_deinit() either way. */
bool config_load_partly(const char *path, const char *lua_path, struct config *out, struct problems *problems);
void config_deinit(struct config *c);
/* Where the file says that the UNIX socket is, whatever else is wrong with it: a command finds the
 * daemon without the daemon's secrets. NULL when the file cannot be read or wants none. Owned. */
char *config_find_socket(const char *path, const char *lua_path);
/* Where it says that the store is, in the same way. NULL as well when it wants none (*memory_out). Owned. */
char *config_find_store(const char *path, const char *lua_path, bool *memory_out);
/* NULL when there is none. Borrowed until the configuration goes. */
const struct config_connection *config_connection_find(const struct config *c, const char *name);

/* Splits and checks one connection's table: holdfast's own keys into the fields, the rest into
 * `settings`. Used for the file and for PUT over the API alike. `folder`: that relative paths are
 * joined with. False when an error was added; `*out` is empty then. */
bool config_connection_read(const char *name, const struct value *table, const char *file,
                            const char *folder, struct config_connection *out,
                            struct problems *problems);
void config_connection_deinit(struct config_connection *c);
/* The same table from JSON, as the local API takes it: a secret is { "credential": "name" } and nothing
 * else. Problems are named by the JSON key's path. False when an error was added. `*out`: owned. */
bool config_json_read(const void *json, size_t len, struct value *out, struct problems *problems);
/* 1 to 63 of a-z 0-9 . _ - that begin with a letter or digit. */
bool config_name_is_valid(const char *name);

/* One secret by where it is, { env | file | credential = text }. NULL with a sentence that names
 * the place and never the bytes. *open_out: the file can be read by others than its owner. Owned.
 */
struct secret *config_secret_read(const struct value *table, const char *folder, bool *open_out,
                                  char *error, size_t error_bytes);
/* The file that it would be read from. Owned; NULL: none. */
char *config_secret_path(const struct value *table, const char *folder);

#endif
