---@meta
-- Made of the schema's keys by tests/unit/policy_schema/types_spec.lua; do not edit.

---@class holdfast.policy_table
---@field platform string  the platform's name
---@field about? string  where the numbers come from
---@field options? table<string, holdfast.policy.options>  what a connection sets
---@field identity? string[]  the options that say whom the platform sees
---@field account? string[]  the options that say whose budgets these are
---@field hosts? string|string[]  where it may call or dial
---@field limits? holdfast.policy.limits  a deadline for every stage
---@field sizes? holdfast.policy.sizes  sizes of messages
---@field alive? holdfast.policy.alive  proof of life of the transport
---@field backoff? holdfast.policy.backoff  the delays between attempts
---@field slow? holdfast.policy.slow  the delays of the slow pace
---@field session? holdfast.policy.session  sessions that can be resumed
---@field overlap? integer  1: a planned handover may hold two links [0]
---@field retire? holdfast.policy.retire  planned replacement of a healthy link
---@field close_code? holdfast.policy.close_code  the codes that we close with
---@field frames? holdfast.policy.frames  what messages are
---@field beat? holdfast.policy.beat  the platform's own heartbeat
---@field budgets? holdfast.policy.budgets  limits over sliding windows
---@field backlog? holdfast.policy.backlog  what is held for consumers
---@field fetch? table<string, holdfast.policy.fetch>  cached values that HTTP yields, by name
---@field classify? holdfast.policy.classify|holdfast.policy.classify[]  what an ending means; the first match wins
---@field climb? holdfast.policy.climb|holdfast.policy.climb[]  what repeated endings mean
---@field prepare fun(conn: holdfast.conn): string|holdfast.secret|table  a function that yields the address to dial
---@field greet? fun(conn: holdfast.conn): any  the platform's handshake; its end means ready
---@field on_beat? fun(conn: holdfast.conn): holdfast.frame?  yields the beat's frame
---@field on_frame? fun(conn: holdfast.conn, message: table)  sees the frames of frames.inspect
---@field on_ended? fun(conn: holdfast.conn, cause: holdfast.cause): table?  a verdict, or nothing: then the tables decide
---@field on_ack? fun(conn: holdfast.conn, message: table, reply: any): holdfast.frame?  yields the acknowledgement of a frame
---@field every? table<string, { [1]: holdfast.duration, [2]: fun(conn: holdfast.conn) }>  tasks while ready

---@class holdfast.policy.options
---@field type? "secret"|"string"|"url"|"integer"|"number"|"boolean"|"duration"|"table"|"tune"  secret, string, url, integer, number, boolean, duration, table or tune
---@field required? boolean  a connection must set it
---@field default? any  when a connection does not set it
---@field many? boolean  a list of such values is taken too
---@field public? string  of a secret: the pattern of its front part that is none and survives a rotation
---@field min? number|holdfast.duration  the least number or duration
---@field max? number|holdfast.duration  the most
---@field one_of? string[]  the texts that are possible
---@field at? string  of type tune: the key of the policy that it sets; its own name when left away
---@field about? string  for people

---@class holdfast.policy.limits
---@field prepare? holdfast.duration  for everything that happens before a dial [30s]
---@field call? holdfast.duration  for one HTTP call [10s]
---@field resolve? holdfast.duration  for looking the host's name up [5s]
---@field connect? holdfast.duration  for the TCP connection, all addresses together [10s]
---@field secure? holdfast.duration  for the TLS handshake [10s]
---@field upgrade? holdfast.duration  for the answer to the WebSocket upgrade [10s]
---@field greeting? holdfast.duration  for the platform's handshake after the upgrade [20s]
---@field close? holdfast.duration  for the peer's close frame after ours [1s]
---@field drain? holdfast.duration  for the old link in a handover [30s]

---@class holdfast.policy.sizes
---@field message? holdfast.size  largest message taken, decompressed [64MiB]
---@field send? holdfast.size  largest message sent [1MiB]

---@class holdfast.policy.alive
---@field ping? holdfast.duration|false  send a ping when nothing came for so long; false: send none [20s]
---@field silence? holdfast.duration|false  not one byte for so long proves death, once a ping went unanswered or keep-alives are promised [45s]
---@field promised? boolean  the platform promised to ping us [false]

---@class holdfast.policy.backoff
---@field first? holdfast.duration  the first delay after a failure [1s]
---@field factor? number  each delay is so many times the last [2]
---@field most? holdfast.duration  the longest delay [60s]
---@field floor? holdfast.duration  the least time between two attempts [250ms]
---@field jitter? "none"|"full"|"equal"  full: 0 to the delay; equal: its half to the whole; none [full]
---@field settle? holdfast.duration  ready for so long without a break resets the counters [60s]

---@class holdfast.policy.slow
---@field first? holdfast.duration  the first slow delay [60s]
---@field factor? number  each slow delay is so many times the last [2]
---@field most? holdfast.duration  the longest slow delay [10m]

---@class holdfast.policy.session
---@field of? string[]  a stored session is valid for the same values of these only
---@field age? holdfast.duration  one that was last in use longer ago is not resumed [no bound]
---@field life? holdfast.duration  one that began longer ago is not resumed; kept as `begun` in conn.session [no bound]
---@field replay? "session"|"unacked"|"none"  what the platform sends again after a resume: session, unacked, none [none]
---@field replay_for? holdfast.duration  it sends again what is no older: a break that was longer is a gap [no bound]

---@class holdfast.policy.retire
---@field after? holdfast.duration  replace a healthy link of this age [never]
---@field jitter? number  share of `after` that is drawn [0]

---@class holdfast.policy.close_code
---@field keep? integer  sent when the session shall stay alive [4000]
---@field final? integer  sent when it shall end [1000]

---@class holdfast.policy.frames
---@field codec? "json"|"bytes"|"protobuf"|"wkproto"  json, bytes, protobuf or wkproto [json]
---@field layout? table<string, table>  the fields of a protobuf message: name = { number, kind }
---@field take? table<string, string>  fields that are lifted out of each message: name = "path"
---@field deliver? boolean|holdfast.matcher|holdfast.matcher[]  what consumers get [true]
---@field inspect? holdfast.matcher|holdfast.matcher[]  what on_frame sees
---@field ends? holdfast.policy.frames.ends|holdfast.policy.frames.ends[]  frames that are endings
---@field remember? table<string, string>  kept in conn.session: key = name of `take`
---@field follows? holdfast.policy.frames.follows  frames that the platform numbers without a hole
---@field dedupe? holdfast.policy.frames.dedupe  frames that are delivered once
---@field ack? holdfast.policy.frames.ack|holdfast.policy.frames.ack[]  acknowledgements that the platform wants: one row or a list
---@field join? holdfast.policy.frames.join  messages that come in parts
---@field accept? boolean|holdfast.matcher|holdfast.matcher[]  what consumers may send [nothing]

---@class holdfast.policy.frames.ends
---@field cause? string  the name of the ending
---@field after? holdfast.duration  wait so long for the peer's own close code [0s]
---@field [string] any

---@class holdfast.policy.frames.follows
---@field by? string  the name of `take` that is one more in each frame; `remember` keeps it. What came already is dropped
---@field anew? holdfast.matcher|holdfast.matcher[]  a matcher, or a list: frames with which the numbers begin again [none]
---@field cause? string  the name of the ending when some are missing [sequence]

---@class holdfast.policy.frames.dedupe
---@field by? string|string[]  names of `take` that make a frame the same one
---@field over? holdfast.duration  how long a key is remembered
---@field most? integer  how many keys are remembered [10000]

---@class holdfast.policy.frames.ack
---@field on? holdfast.matcher|holdfast.matcher[]  a matcher, or a list: which of the delivered frames; the first row that matches holds [every frame]
---@field when? "none"|"early"|"through"  early: once the frame is on disk; through: by the consumer that owns the connection, early where it names no owner; none
---@field frame? string  JSON text; "@name" becomes the value of that name of `take`
---@field echo? table<string, any>  instead of `frame`: the message as it came, but for these fields of `layout`; what a map gets is appended
---@field reply? table  beside `echo` and `through`: the field with what the consumer answers, "@reply" or "@reply_base64" in its JSON
---@field within? holdfast.duration  the platform's deadline [none]
---@field at_risk? boolean  acknowledge although the store cannot keep the frame [false]
---@field anywhere? boolean  when the frame's own link is gone, on the link that took its place [false]

---@class holdfast.policy.frames.join
---@field by? string  a name of `take`: what the parts of a message share
---@field index? string  a name of `take`: the part's position, from 0
---@field count? string  a name of `take`: the number of parts; a frame without it is whole
---@field of? string  the field of `layout` that is in parts
---@field within? holdfast.duration  from the first part on; what is not whole then is dropped [10s]
---@field parts? integer  the most parts of one message [256]
---@field bytes? holdfast.size  the most bytes held for unfinished messages, for each link [16MiB]

---@class holdfast.policy.beat
---@field every? holdfast.duration|holdfast.duration[]  the interval, or { usual, least, most } where the platform says it; beats of many links go out together, for which one may come early by 1/128 of it, 256 ms at most
---@field first? "spread"|"at_once"|"after"  spread: a random part of the interval after ready; at_once; after: one interval [spread]
---@field asked? holdfast.matcher|holdfast.matcher[]  frames by which the platform asks for a beat
---@field answer? holdfast.matcher|holdfast.matcher[]  frames that answer a beat
---@field within? holdfast.duration  so long an answer may take; without one the link is judged then, not only at the next beat [until the next is due]
---@field dead? integer  so many unanswered in a row prove death [1]

---@class holdfast.policy.budgets
---@field start? holdfast.policy.budgets.start  session starts; a permit is kept on disk
---@field dial? holdfast.policy.budgets.dial  dials
---@field call? holdfast.policy.budgets.call  HTTP calls of an account; one over it fails with the name budget
---@field send? holdfast.policy.budgets.send  frames sent on one link

---@class holdfast.policy.budgets.start
---@field windows? table  { count, duration }, or a list of at most four: no more than count in any such time
---@field gap? holdfast.duration  least time between two [0s]
---@field operators? string  the share kept for people, "10%"; at most 50%
---@field frame? holdfast.matcher|holdfast.matcher[]  outbound frames that start a session
---@field lane? string  name of an integer option: the gap holds within one lane

---@class holdfast.policy.budgets.dial
---@field windows? table  { count, duration }, or a list of at most four: no more than count in any such time
---@field gap? holdfast.duration  least time between two [0s]
---@field operators? string  the share kept for people, "10%"; at most 50%

---@class holdfast.policy.budgets.call
---@field windows? table  { count, duration }, or a list of at most four: no more than count in any such time
---@field gap? holdfast.duration  least time between two [0s]
---@field operators? string  the share kept for people, "10%"; at most 50%

---@class holdfast.policy.budgets.send
---@field windows? table  { count, duration }, or a list of at most four: no more than count in any such time
---@field gap? holdfast.duration  least time between two [0s]
---@field operators? string  the share kept for people, "10%"; at most 50%
---@field beats? integer  sends kept free for on_beat [0]

---@class holdfast.policy.backlog
---@field most? holdfast.size  bytes held for consumers [64MiB]
---@field age? holdfast.duration  older frames are dropped [24h]
---@field full? "drop_oldest"|"hold"  drop_oldest, with a gap; hold: stop reading for hold_for [drop_oldest]
---@field hold_for? holdfast.duration  how long `hold` may stop reading [10s]

---@class holdfast.policy.fetch
---@field call? fun(conn: holdfast.conn): any, table?  a function that yields the value
---@field keep? holdfast.duration  how long a value is good unless the call says so [one attempt]
---@field gap? holdfast.duration  least time between two calls [0s]
---@field pause? holdfast.duration  least time after a call that failed, whichever connection asks [0s]
---@field renew? holdfast.span  so long before its end, or a pair of such, it is fetched anew without being asked for [never]
---@field stale? boolean  an old value may serve while a renewal fails [false]
---@field per? "account"|"connection"  account: shared by its connections; connection [account]

---@class holdfast.policy.classify
---@field any? true  true: matches everything
---@field close? holdfast.codes  close codes: 4004, "4900-4913", or a list
---@field http? holdfast.codes  HTTP statuses, likewise
---@field code? holdfast.codes  the platform's own error codes, likewise
---@field stage? holdfast.stage|holdfast.stage[]  where it ended, one or a list
---@field cause? string|string[]  the cause's name, one or a list
---@field reason? string  a part of its text; only beside close, http, code or cause
---@field header? table<string, string>  { ["name"] = "value" } of an HTTP answer
---@field session? boolean  the attempt meant to resume
---@field under? holdfast.duration  the link was younger than this
---@field by? holdfast.by|holdfast.by[]  who ended it: peer, network, us, policy, operator
---@field verdict? "resume"|"fresh"|"renew"|"slow"|"stop"  resume, fresh, renew, slow or stop
---@field pace? "normal"|"slow"|"stop"|holdfast.duration[]  a pair: a ladder of its own; or slow, stop beside a verdict that drops something
---@field delay? holdfast.span  instead of the backoff
---@field delay_from? "retry_after"  retry_after: as the answer says
---@field otherwise? holdfast.span  when the answer says nothing
---@field counts? boolean  raises the failure counter [true]
---@field planned? boolean  free of backoff when the link had settled [false]
---@field drop? string  marks one fetched value old
---@field as? string  names the cause anew
---@field note? string  for people

---@class holdfast.policy.climb
---@field on? holdfast.policy.climb.on|holdfast.policy.climb.on[]  the endings that are counted
---@field times? integer  the times-th occurrence already gets `to`
---@field within? holdfast.duration  counted over a sliding window [in a row]
---@field to? "resume"|"fresh"|"renew"|"slow"|"stop"  resume, fresh, renew, slow or stop
---@field pace? "normal"|"slow"|"stop"|holdfast.duration[]  a pair: a slow ladder of its own
---@field note? string  for people

---@class holdfast.policy.climb.on
---@field any? true  true: matches everything
---@field close? holdfast.codes  close codes: 4004, "4900-4913", or a list
---@field http? holdfast.codes  HTTP statuses, likewise
---@field code? holdfast.codes  the platform's own error codes, likewise
---@field stage? holdfast.stage|holdfast.stage[]  where it ended, one or a list
---@field cause? string|string[]  the cause's name, one or a list
---@field reason? string  a part of its text; only beside close, http, code or cause
---@field header? table<string, string>  { ["name"] = "value" } of an HTTP answer
---@field session? boolean  the attempt meant to resume
---@field under? holdfast.duration  the link was younger than this
---@field by? holdfast.by|holdfast.by[]  who ended it: peer, network, us, policy, operator
