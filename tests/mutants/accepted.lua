-- Mutants that no claim is to find, each with its reason: the very same behaviour, or one that nobody is promised anything
-- about. Named by their lines' content, so that a row moves with its line and dies with it. Without `after`, every mutant
-- of that line is meant.
return {
  { file = "policies/discord.lua", before = 'asked = { op = 1 }, answer = { op = 11 }, dead = 1 },',
    after = 'asked = { op = 1 }, answer = { op = 11 } },', reason = "one unanswered beat is what is taken without the key" },
  { file = "policies/qqbot.lua", before = "conn:set { beat = every > 0 and every < 3600000 and every or nil }",
    after = "conn:set { beat = every > 1 and every < 3600000 and every or nil }", reason = "an interval of one millisecond, raised to five seconds or not told" },
  { file = "runtime/engine/link.c", before = "conn_link_ends(s, l, &cause, END_CLOSE, 0);", after = "conn_link_ends(s, l, &cause, END_CLOSE, 1);",
    reason = "nothing is waited for with END_CLOSE" },
  { file = "runtime/engine/budget.c", before = "l->told_stored = -2;", after = "l->told_stored = -3;", reason = "any number that no figure can be" },
  { file = "runtime/engine/weather.c", before = "if (!g->since_wall_ms || p->since_wall_ms < g->since_wall_ms) g->since_wall_ms = p->since_wall_ms;",
    after = "if (!g->since_wall_ms || p->since_wall_ms <= g->since_wall_ms) g->since_wall_ms = p->since_wall_ms;", reason = "equal is set to itself" },
  { file = "policies/wukongim.lua", before = '{ cause = "connack", code = 12, verdict = "resume", pace = { "30s", "10m" }, as = "conflict" },',
    after = '{ cause = "connack", code = 12, verdict = "slow", pace = { "30s", "10m" }, as = "conflict" },',
    reason = "a pace of its own is a slow one, whatever the verdict drops" },
  { file = "policies/wukongim.lua", before = '{ packet = "disconnect", reason = "server kick", cause = "operator_kick" },',
    after = '{ reason = "server kick", cause = "operator_kick" },', reason = "DISCONNECT alone has a reason in words" },
  { file = "runtime/engine/engine.c", before = "if (same_boot && (int64_t)boot_ms > l->reserved) l->reserved = (int64_t)boot_ms;",
    after = "if (same_boot && (int64_t)boot_ms >= l->reserved) l->reserved = (int64_t)boot_ms;", reason = "equal is set to itself" },
  { file = "runtime/engine/budget.c", before = "node->prev = node->next = NULL;", after = ";",
    reason = "who is not listed has no neighbours that anybody looks at" },
  { file = "runtime/engine/ledger.c", before = "uint32_t more = l->capacity ? l->capacity * 2 : RESTORE_CAPACITY_FIRST;",
    after = "uint32_t more = l->capacity ? l->capacity * 3 : RESTORE_CAPACITY_FIRST;",
    reason = "how much room is taken at a time" },
}
