// A bot that acknowledges properly: a frame once it was handled and answered, many with one line (after 50 frames
// or half a second, and at the end). What was not acknowledged comes again, whatever ended the bot or holdfast.
// It answers the message `!status TEXT` with a presence. Usage: node bot.js [SOCKET [NAME]]
const net = require('net'), [path = 'run/holdfast.sock', name = 'bot-js'] = process.argv.slice(2)
const batch = 50, batchMs = 500, pauseMs = 1000, triesMax = 60
let end = () => process.exit()
process.on('SIGTERM', () => end()).on('SIGINT', () => end())

function handle (event) { // your bot: returns a frame to answer with, or nothing
  const text = event.take?.kind === 'MESSAGE_CREATE' ? event.frame.d.content ?? '' : ''
  console.log(event.connection, event.offset, event.take?.kind, text)
  if (!text.startsWith('!status ')) return
  return { op: 3, d: { since: null, activities: [{ name: text.slice(8), type: 0 }], status: 'online', afk: false } }
}

function attach () {
  const link = net.connect(path), sends = new Map()
  let rest = '', handled = [], again = []
  const say = (kind, body) => link.write(JSON.stringify({ [kind]: body }) + '\n')
  function flush () { // acknowledges up to the first frame that waits for its answer; one line is for all before it
    const open = handled.findIndex(at => sends.has(id(at))), acks = {}
    for (const at of handled.splice(0, open < 0 ? handled.length : open)) acks[at.connection] = at
    for (const at of Object.values(acks)) say('ack', at)
  }
  const id = at => `${at.connection}/${at.epoch}/${at.offset}`
  function take (kind, body) {
    const { connection, epoch, offset } = body, at = { connection, epoch, offset }
    if (kind === 'event') {
      const frame = handle(body), send = { id: id(at), connection, frame }
      if (frame) sends.set(send.id, { send, tries: 0 }), say('send', send)
      if (handled.push(at) >= batch) flush()
    } else if (kind === 'refused' && body.retry && sends.get(body.id).tries++ < triesMax) again.push(body.id)
    else if (kind === 'sent' || kind === 'refused') sends.delete(body.id)
    if (kind !== 'event' && kind !== 'hello') console.error(kind.toUpperCase(), body) // GAP: frames may be missing
    if (kind === 'error' && body.what.startsWith('replaced')) process.exit(1) // another bot has this name
  }
  const tick = setInterval(() => { flush(); again.splice(0).map(it => say('send', sends.get(it).send)) }, batchMs)
  end = () => { flush(); link.end(() => process.exit()).on('close', () => process.exit()) }
  say('attach', { consumer: name, connections: ['*'], from: 'cursor', states: false })
  link.setEncoding('utf8').on('data', piece => {
    const lines = (rest + piece).split('\n')
    rest = lines.pop()
    for (const line of lines) for (const [kind, body] of Object.entries(JSON.parse(line))) take(kind, body)
  }).on('error', error => console.error('holdfast is away:', error.message)).on('close', () => {
    clearInterval(tick)
    end = () => process.exit()
    setTimeout(attach, pauseMs)
  })
}
attach()
