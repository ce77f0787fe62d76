/* What `holdfast why` says of a cause and of what was decided, in its own words, for wire specs. */
#ifndef HOLDFAST_TESTS_WIRE_WHY_H
#define HOLDFAST_TESTS_WIRE_WHY_H

#include <cJSON.h>
#include <lauxlib.h>
#include <lua.h>

#include "cli/why.h"
#include "deliver/envelope.h"
#include "ops/journal.h"

/* The sentence of a cause, and of a decision when there is one. */
static void wire_push_why(lua_State *L, const struct cause *cause, const struct decision *decision)
{
    char text[WHY_TEXT_MAX];
    struct buffer json;
    buffer_init(&json, 0);
    if (!envelope_cause(&json, cause) || !buffer_append_char(&json, 0)) abort();
    cJSON *parsed = cJSON_Parse((const char *)json.data);
    lua_pushstring(L, why_cause(parsed, text));
    lua_setfield(L, -2, "why");
    cJSON_Delete(parsed);
    if (decision) {
        buffer_clear(&json);
        if (!buffer_append_text(&json, "{\"kind\":\"decision\"") || !journal__decision_json(&json, decision) ||
            !buffer_append_text(&json, "}") || !buffer_append_char(&json, 0)) {
            abort();
        }
        parsed = cJSON_Parse((const char *)json.data);
        lua_pushstring(L, why_outcome(parsed, text));
        lua_setfield(L, -2, "outcome");
        cJSON_Delete(parsed);
    }
    buffer_deinit(&json);
}

#endif
