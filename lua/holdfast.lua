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
---@type fun(policy: table): table
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
