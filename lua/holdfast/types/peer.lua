---@meta
-- What the script of a peer (lua/peers/NAME.lua) is and may call: `---@type holdfast.peer_script` above its table.

---@class holdfast.peer_request
---@field id integer
---@field method string
---@field target string                  path and query, as they came
---@field path string
---@field query table<string, string>
---@field host string
---@field headers table<string, string>   names in lower case
---@field body string

---@class holdfast.peer_script
---@field start? fun(p: holdfast.peer, options: table)
---@field http? fun(p: holdfast.peer, request: holdfast.peer_request)                p:respond(), now or later
---@field upgrade? fun(p: holdfast.peer, request: holdfast.peer_request): boolean?   true accepts; p:respond() refuses; nothing: silence
---@field opened? fun(p: holdfast.peer, ws: holdfast.socket, request: holdfast.peer_request)
---@field message? fun(p: holdfast.peer, ws: holdfast.socket, data: string, text: boolean)
---@field closed? fun(p: holdfast.peer, ws: holdfast.socket, code: integer)
---@field control? table<string, fun(p: holdfast.peer, argument: any): any>           what tests and `holdfast peer`'s input call

---@class holdfast.peer
---@field base_url string
---@field options table
---@field now fun(self): number          milliseconds
---@field wall fun(self): number         Unix milliseconds
---@field random fun(self): number       in [0, 1), from the seed
---@field respond fun(self, request: holdfast.peer_request|integer, status: integer, answer?: { headers?: table<string, string>, body?: string, json?: any })
---@field after fun(self, ms: number, fn: fun()): integer
---@field cancel fun(self, id: integer?)
---@field log fun(self, text: any)
---@field encode fun(self, value: any): string
---@field decode fun(self, text: string): any?, string?   nil and a text for what is no JSON
---@field deflate fun(self, kind: "zlib-stream"): { message: fun(self, text: string): string }
---@field wkproto fun(self, options?: { latest?: integer }): table   the server side of one link: runtime/peer/wkproto.c

---@class holdfast.socket
---@field id integer
---@field send fun(self, message: string|table)       a table as JSON
---@field send_bytes fun(self, bytes: string)
---@field ping fun(self)
---@field close fun(self, code?: integer, reason?: string)
---@field abort fun(self)
---@field deaf fun(self, deaf: boolean)               reads nothing while true
---@field [string] any                                the script's own

