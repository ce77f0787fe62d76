---@meta
-- What a configuration file may say: `holdfast.lua` of `holdfast run`. Checked by `holdfast check -c FILE`.

---@class holdfast.config.secret
---@field env? string          of the environment
---@field file? string         the first line of a file; beside the configuration unless it is absolute
---@field credential? string   a name in the service manager's credentials directory

--- A value whose bytes nobody sees: not Lua, no log, no status.
---@param from holdfast.config.secret
---@return holdfast.secret
function secret(from) end

---@class holdfast.config.token
---@field secret holdfast.secret
---@field scope? "read"|"consume"|"operate"|string[]
---@field consumer? string      of scope consume: whose cursor

---@class holdfast.config.listen
---@field unix? string|false   path of the socket, mode 0600 ["run/holdfast.sock"]
---@field http? string|false   "127.0.0.1:7600"; always asks for a token
---@field token? holdfast.secret   of scope operate; generated into a file when neither is given
---@field tokens? holdfast.config.token[]

---@param settings holdfast.config.listen
function listen(settings) end

---@class holdfast.config.store
---@field path? string                    the database ["var/holdfast.db"]
---@field memory? boolean                 nothing is written; excludes path
---@field journal_age? holdfast.duration  how long the journal is kept

---@param settings holdfast.config.store
function store(settings) end

---@class holdfast.config.trial
---@field share string                     "10%" of the policy's connections, at least one
---@field watch holdfast.duration          how long they are watched, the time of outages that meet all not counted
---@field rehearse? boolean                one of their links is replaced by plan, where the policy has `overlap`

---@class holdfast.config.policies
---@field path? string|string[]            folders, searched in their order
---@field prove? holdfast.duration|false   how long the reload gate may prove a changed policy
---@field watch? boolean                   take changed files by themselves
---@field trial? holdfast.config.trial|false   a changed policy runs on a share of its connections first

---@param settings holdfast.config.policies
function policies(settings) end

---@class holdfast.config.connection
---@field policy string          a file of the policies folders, without .lua
---@field owner? string          the consumer whose acknowledgement `through` waits for
---@field ca_file? string        more roots of trust (PEM)
---@field proxy? string|{ url: string, user?: string|holdfast.secret, password?: holdfast.secret }   "http://host:port"
---@field plain? boolean         http and ws towards hosts that are not loopback
---@field trial? boolean         true: new versions of its policy are tried here first; false: never here
---@field tune? holdfast.policy_table   laid over the policy's own tables
---@field backlog? holdfast.policy.backlog
---@field [string] any           the options of the policy

--- `connection "support-bot" { policy = "discord", token = secret { env = "DISCORD_TOKEN" } }`
---@param name string
---@return fun(settings: holdfast.config.connection)
function connection(name) end
