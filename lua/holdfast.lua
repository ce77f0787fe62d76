--- What a policy requires: `local holdfast = require "holdfast"`.
--- Pure helpers; everything that acts is a method of `conn`, which hooks get.
---@meta holdfast

local native = require "holdfast.native"

---@class holdfast.json
---@field encode fun(value: any): string               keys sorted; raises for what JSON cannot hold, secrets included
---@field decode fun(text: string): any?, string?, string?   or nil, "malformed", where; integers above 2^53 are text

---@class holdfast.bytes
---@field pack fun(layout: string, ...: number|string): string              bytes.pack("u8 u16be", 1, 2)
---@field unpack fun(layout: string, text: string, at?: number): ...        the integers, then the place after; nil, "short"

---@class holdfast.crypto
---@field sha1 fun(text: string|holdfast.secret): string     raw bytes, as of all digests; see hex
---@field sha256 fun(text: string|holdfast.secret): string
---@field md5 fun(text: string|holdfast.secret): string
---@field hmac fun(digest: "sha1"|"sha256"|"sha512", key: string|holdfast.secret, text: string|holdfast.secret): string
---@field base64 fun(text: string|holdfast.secret): string|holdfast.secret
---@field unbase64 fun(text: string): string?, string?
---@field hex fun(text: string|holdfast.secret): string|holdfast.secret
---@field unhex fun(text: string): string?, string?

---@class holdfast.secret   joined with text it is a secret again; printed it shows its name

---@class holdfast.answer   what conn:http returns
---@field status number
---@field ok boolean           200 to 299
---@field headers table<string, string>   names in lower case; the first of equal names
---@field body string
---@field json any?            the body decoded; nil when it is no JSON
---@field retry_after number?  seconds

---@class holdfast.cause    what on_ended gets; the keys are those of a rule in `classify`
---@field stage string
---@field kind string          the runtime's word: closed, timeout, ...
---@field cause string         kind, or the name that the policy gave it
---@field by "peer"|"network"|"us"|"policy"|"operator"
---@field reason string
---@field close number?
---@field http number?
---@field code number?
---@field retry_after number?  seconds
---@field age number           seconds since the dial
---@field session boolean      the attempt meant to resume
---@field headers table<string, string>?
---@field body string?

---@alias holdfast.frame table|string|holdfast.secret   a table is JSON; with another codec text, or { text = } or { bytes = }
---@alias holdfast.duration string|number               "5s"; in hooks milliseconds as well
---@alias holdfast.span holdfast.duration|holdfast.duration[]   a pair is a range that is drawn from
---@alias holdfast.size string|integer                  "64MiB", or bytes
---@alias holdfast.codes integer|string|(integer|string)[]      4004, "4900-4913", or a list
---@alias holdfast.by "peer"|"network"|"us"|"policy"|"operator"
---@alias holdfast.stage "preparing"|"resolving"|"connecting"|"securing"|"upgrading"|"greeting"|"ready"
---@alias holdfast.matcher table<string, any>           { op = { 7, 9 }, kind = "READY" } over the names of frames.take

--- The connection, for the length of one call; F fetch, P prepare, G greet, B on_beat, O on_frame, E on_ended, A on_ack, T every.
---@class holdfast.conn
---@field name string
---@field options table        read only; secrets as secrets
---@field session table        dropped by `fresh`; plain values, 8 KiB; reading a table gives a copy
---@field keep table           never dropped; likewise
---@field generation number
---@field attempt number       since the last settled link, this one included
---@field failed number        failures in a row
---@field links number         sockets that are open now, this one and one that is closing included
---@field resuming boolean
---@field get fun(self, fetch: string): any                                        FPGT, waits; a failed fetch ends the hook
---@field http fun(self, request: { url: any, method?: string, headers?: table, body?: any, json?: any, timeout?: holdfast.duration }): holdfast.answer?, string?, string?   FPGT, waits; or nil, name, text
---@field await fun(self, matcher: table, options?: { within?: holdfast.duration, progress?: table }): table?, string?   G, waits; or nil, "timeout"
---@field send fun(self, frame: holdfast.frame): true?, string?                    GOAT; or nil, why
---@field set fun(self, what: { beat?: holdfast.duration, codec?: string|table, retire?: holdfast.duration }): true?, string?   GOT; retire: replace this link, as planned, so long from now
---@field fail fun(self, name: string, details?: string|table|holdfast.answer)     FPGBOAT, ends the hook
---@field close fun(self, why?: string)                                            GBOAT, ends the hook
---@field gap fun(self, why: string)                                               PGOT
---@field budget fun(self, name: "start"|"dial"|"call"|"send", told: { left?: number, reset?: holdfast.duration, lanes?: number })   FPGOT
---@field warn fun(self, text: any)                                                everywhere
---@field log fun(self, text: any)                                                 everywhere

---@class holdfast
---@field json holdfast.json
---@field bytes holdfast.bytes
---@field crypto holdfast.crypto
---@field null userdata      JSON's null inside lists; in objects a null is simply absent
---@field array fun(list?: table): table   written as [] even when it is empty
---@field random fun(): number             in [0, 1), drawn by the host; in hooks only
---@field now_ms fun(): number             Unix time of the event that the hook answers; in hooks only
local holdfast = {
  json = native.json,
  bytes = native.bytes,
  crypto = native.crypto,
  null = native.null,
  array = native.array,
  random = native.random,
  now_ms = native.now_ms,
}

--- Marks the table of a policy. A policy file ends with `return holdfast.policy { ... }`.
---@type fun(policy: holdfast.policy_table): table
holdfast.policy = native.policy

holdfast.url = {}

--- Percent-encodes everything but letters, digits, `-`, `.`, `_` and `~`.
---@type fun(text: string|number|holdfast.secret): string|holdfast.secret
holdfast.url.escape = native.url.escape

--- `{ v = 10, encoding = "json" }` becomes `encoding=json&v=10`, names in order. A list gives the name once
--- per item. Secrets make the whole a secret.
---@param fields table<string, string|number|boolean|holdfast.secret|table>
---@return string|holdfast.secret
function holdfast.url.query(fields)
  local parts = {}
  local function add(name, value)
    parts[#parts + 1] = native.url.escape(name) .. "=" .. native.url.escape(value)
  end
  for name, value in pairs(fields) do
    if type(value) == "table" then
      for _, item in ipairs(value) do add(name, item) end
    else
      add(name, value)
    end
  end
  return table.concat(parts, "&")
end

--- Adds a path and query fields to an address, whatever slashes and `?` it has already:
--- `join("wss://gateway.example/?a=1", nil, { v = 10 })` is `wss://gateway.example/?a=1&v=10`.
---@param base string|holdfast.secret
---@param path? string
---@param fields? table
---@return string|holdfast.secret
function holdfast.url.join(base, path, fields)
  local url = base
  if type(base) == "string" then
    local front, query = base:match "^([^?#]*)%??([^#]*)"
    if path then front = front:gsub("/+$", "") .. "/" .. path:gsub("^/+", "") end
    if not path and front:find "^%a+://[^/]*$" then front = front .. "/" end
    url = front
    if query ~= "" then url = url .. "?" .. query end
    if not fields or next(fields) == nil then return url end
    return url .. (query ~= "" and "&" or "?") .. holdfast.url.query(fields)
  end
  if path then error("holdfast.url.join: a path cannot be added to a secret address", 2) end
  if not fields or next(fields) == nil then return url end
  return url .. "?" .. holdfast.url.query(fields)
end

return holdfast
