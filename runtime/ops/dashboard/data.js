// What is known: connections with their states over time, taken from /v1/watch and, for the hours before, from
// /v1/history, and the journals of what is on screen.
// Keeps the token for this tab at most. The stream's end is no error: it comes back by itself.
'use strict';

const KEEP_MS = 24 * 3600e3;     // of a timeline, in this page
const SAMPLES_MAX = 300;         // of a connection's plots
const STALLED_MS = 40e3;         // the stream says something every fifteen seconds
const JOURNAL_SHOWN = 200;
const FETCHES_AT_ONCE = 4;

// --- what is known ---------------------------------------------------------------------------------

const conns = new Map();
let order = [];                  // shown, sorted
let selected = '', opened = '';
let summary = null, scope = '', skew = 0;
const now = () => Date.now() + skew; // the daemon's clock

function connection(name) {
  let c = conns.get(name);
  if (!c) {
    c = { name, v: null, state: 'unknown', since: 0, marks: [], samples: null, totals: null, journal: [], stale: true, asking: false,
          dirty: true, decision: null, fresh: 0 };
    conns.set(name, c);
  }
  return c;
}

const stateOf = v => v.state === 'stopped' && v.stop_is_fatal ? 'fatal' : v.state;

// A mark: since when, in which state, because of what kind of cause where that is known.
function mark(c, at, state, cause) {
  const m = c.marks;
  let i = m.length;
  while (i > 0 && m[i - 1][0] > at) i--;
  if (i > 0 && m[i - 1][1] === state) return;
  m.splice(i, 0, [at, state, cause || '']);
  if (i + 1 < m.length && m[i + 1][1] === state) m.splice(i + 1, 1);
  while (m.length > 1 && (m[1][0] < now() - KEEP_MS || m.length > 2000)) m.shift();
}

function take(v, fresh) {
  const c = connection(v.name);
  c.v = v;
  c.state = stateOf(v);
  c.since = Date.parse(v.since);
  const last = c.marks[c.marks.length - 1];
  if (!last || last[1] !== c.state) {
    if (last && last[1] === 'stopped' && c.state === 'fatal') last[1] = 'fatal';
    else mark(c, last ? Math.max(c.since, last[0]) : c.since, c.state);
  }
  c.totals = c.totals && !fresh ? c.totals : { at: now(), in: v.frames.in, out: v.frames.out };
  c.rtt = v.pulse.round_trip_ms;
  c.life = v.life.verdict;
  c.backlog = v.backlog.frames;
  c.words = [v.name, v.state, c.state === 'fatal' ? 'given up' : '', v.policy.name, v.link ? v.link.address : '', causeWords(v.cause), v.weather || '']
    .join('\n').toLowerCase();
  c.dirty = true;
}

function sample(c, p, at) {
  const t = c.totals || { at: at - 1000, in: p.in, out: p.out };
  const fresh = at - t.at, over = fresh > 2500 ? 1 : Math.max(fresh, 500) / 1000; // a silence, and then one second's worth
  if (!c.samples) c.samples = [];
  if (fresh > 2500) c.samples.push([t.at + 1000, 0, c.rtt], [at - 1000, 0, c.rtt]);
  c.samples.push([at, Math.max(0, p.in - t.in) / over, p.round_trip_ms]);
  while (c.samples.length > SAMPLES_MAX) c.samples.shift();
  c.totals = { at, in: p.in, out: p.out };
  c.rtt = p.round_trip_ms;
  c.life = p.life;
  c.backlog = p.backlog;
  c.dirty = true;
}

const rateOf = c => {
  const s = c.samples && c.samples[c.samples.length - 1];
  return s && now() - s[0] < 2500 ? s[1] : 0;
};

function journalEntry(c, e) {
  if (e.kind === 'state') mark(c, Date.parse(e.at), e.given_up ? 'fatal' : e.to, e.to === 'up' || !c.decision ? '' : c.decision.cause.kind);
  if (e.kind === 'decision') { c.decision = e; c.fresh = Date.parse(e.at); }
  c.journal.unshift(e);
  if (c.journal.length > JOURNAL_SHOWN) c.journal.length = JOURNAL_SHOWN;
  c.dirty = true;
}

function journalWhole(c, list) {
  c.journal = list;
  c.decision = list.find(e => e.kind === 'decision') || null;
  c.fresh = c.decision ? Date.parse(c.decision.at) : 0;
  c.dirty = true;
}

// What the daemon remembers of the hours replaces what was seen here, as far as it goes.
function historyWhole(c, list) {
  const last = list.length ? list[list.length - 1][0] : 0;
  const later = list.length ? c.marks.filter(m => m[0] > last && m[1] !== 'unknown') : c.marks;
  c.marks = list.map(([at, state, cause]) => [at, state === 'given_up' ? 'fatal' : state, cause || '']);
  for (const [at, state, cause] of later) mark(c, at, state, cause);
  if (c.v) take(c.v);
  c.dirty = true;
}

// --- the API ----------------------------------------------------------------------------------------

const KEY = 'holdfast-token';
let token = '';
try { token = sessionStorage.getItem(KEY) || ''; } catch (_) { /* a browser that keeps nothing */ }

const ask = (path, options = {}) => fetch(path, { cache: 'no-store', credentials: 'omit', redirect: 'error', ...options,
  headers: { Authorization: 'Bearer ' + token, ...options.headers } });

async function answer(path, options) {
  const r = await ask(path, options);
  let body = null;
  try { body = await r.json(); } catch (_) { /* no JSON: the status says it */ }
  if (!r.ok) throw Object.assign(new Error(body && body.error && (body.error.what || body.error) || body && body.what || 'HTTP ' + r.status), { status: r.status, body });
  return body;
}

let stream = null, lastId = '', heard = 0, snapshot = null, tries = 0, timer = 0, retryAt = 0;

function connect() {
  clearTimeout(timer);
  if (!token) return askToken('');
  follow().then(() => 'the stream ended', e => e).then(why => {
    stream = null;
    following = false;
    lostAt = lostAt || now();
    for (const c of conns.values()) c.stale = true;
    if (why && why.status === 401) return askToken('This token is not known.');
    const wait = Math.min(5000, 300 * Math.pow(1.7, tries++));
    retryAt = Date.now() + wait;
    timer = setTimeout(connect, wait);
    live();
  });
}
let following = false, lostAt = 0, missedAt = 0;

async function follow() {
  const end = stream = new AbortController();
  heard = Date.now();
  const me = await answer('/v1/token', { signal: end.signal });
  scope = me.scope;
  const r = await ask('/v1/watch' + (lastId ? '?last_event_id=' + encodeURIComponent(lastId) : ''), { signal: end.signal });
  if (!r.ok) throw Object.assign(new Error('HTTP ' + r.status), { status: r.status });
  following = true;
  const date = Date.parse(r.headers.get('date') || '');
  if (date && Math.abs(date - Date.now()) > 3000) skew = date - Date.now(); else if (date) skew = 0;
  const reader = r.body.getReader(), text = new TextDecoder();
  let left = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard = Date.now();
    left += text.decode(value, { stream: true });
    let from = 0;
    for (let to; (to = left.indexOf('\n\n', from)) >= 0; from = to + 2) event(left.slice(from, to));
    left = left.slice(from);
    tries = 0;
    live();
    soon();
  }
}

function event(text) {
  let kind = '', data = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('id: ')) lastId = line.slice(4);
    else if (line.startsWith('event: ')) kind = line.slice(7);
    else if (line.startsWith('data: ')) data = line.slice(6);
  }
  if (!data) return;
  const d = JSON.parse(data);
  if (kind === 'snapshot') {
    if (!snapshot) {
      snapshot = new Set();
      // What happened meanwhile nobody here saw; the journal may know.
      if (lostAt) for (const c of conns.values()) { mark(c, lostAt, 'unknown'); c.stale = true; }
    }
    for (const v of d.connections) { snapshot.add(v.name); take(v, true); }
    if (!d.more) {
      for (const name of conns.keys()) if (!snapshot.has(name)) conns.delete(name);
      snapshot = null;
      lostAt = 0;
      historyDue = true;
      historyAsked = 0;
    }
    sorting = true;
  } else if (kind === 'state') {
    lostAt = 0;
    take(d);
    sorting = true;
  } else if (kind === 'gone') {
    conns.delete(d.connection);
    sorting = true;
  } else if (kind === 'journal') {
    if (conns.has(d.connection)) journalEntry(conns.get(d.connection), d.entry);
  } else if (kind === 'pulse') {
    lostAt = 0;
    const at = Date.parse(d.at);
    for (const name in d.connections) {
      const c = conns.get(name);
      if (!c) continue;
      if (c.life !== d.connections[name].life) sorting = true;
      sample(c, d.connections[name], at);
    }
  } else if (kind === 'summary') {
    summary = d;
    said();
  } else if (kind === 'missed' && now() - missedAt > 5000) {
    missedAt = now();
    historyDue = true;
    for (const c of conns.values()) c.stale = true;
  }
}

let historyDue = false, historyAsked = 0;
function histories() {
  if (!historyDue || !stream || snapshot || Date.now() - historyAsked < 5000) return;
  historyDue = false;
  historyAsked = Date.now();
  answer('/v1/history?from=24h').then(body => {
    for (const name in body.connections) if (conns.has(name)) historyWhole(conns.get(name), body.connections[name]);
    sorting = true;
    soon();
  }, () => { /* with the next stream: until then the lines begin where this page did */ });
}

let fetching = 0;
function journals() {
  for (const slot of pool) {
    const c = slot.c;
    if (fetching >= FETCHES_AT_ONCE) return;
    if (!stream || !c || !c.stale || c.asking || !conns.has(c.name)) continue;
    c.asking = true;
    fetching++;
    answer('/v1/connections/' + encodeURIComponent(c.name) + '/journal?limit=' + JOURNAL_SHOWN).then(body => {
      c.stale = false;
      journalWhole(c, body.journal);
      if (c.name === opened) story(c);
    }, () => { /* with the next stream, or never: the row stands without it */ c.stale = false; }).then(() => {
      c.asking = false;
      fetching--;
      sorting = true;
      soon();
    });
  }
}

async function command(verb, button) {
  const path = verb === 'reload' ? '/v1/reload' : '/v1/connections/' + encodeURIComponent(opened) + '/' + verb;
  const about = verb === 'reload' ? 'reload' : verb + ' ' + opened;
  button.disabled = true;
  tell(about + ' …');
  try {
    const body = await answer(path, { method: 'POST' });
    tell(about + ': ' + (verb === 'reload' ? 'done' : 'ordered') + (body && body.problems && body.problems.length ? '\n' + body.problems.join('\n') : ''), 6000);
  } catch (e) {
    const problems = e.body && e.body.problems;
    tell(about + ' was refused: ' + (problems && problems.length ? '\n' + problems.map(p => p.what || p).join('\n') : e.message), 15000);
  }
  may();
}

let telling = 0;
function tell(text, ms) {
  const e = $('told');
  clearTimeout(telling);
  put(e, text);
  e.hidden = !text;
  if (ms) telling = setTimeout(() => { e.hidden = true; }, ms);
}

function askToken(why) {
  put($('refused'), why);
  if (!$('ask').open) $('ask').showModal();
  live();
}

function forget() {
  token = '';
  lastId = '';
  try { sessionStorage.removeItem(KEY); } catch (_) { /* nothing was kept */ }
  conns.clear();
  summary = null;
  scope = '';
  close();
  if (stream) stream.abort(); else connect();
  said();
  sorting = true;
  soon();
}
