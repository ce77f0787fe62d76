// The view: draws what is visible and nothing else, however many connections there are, and takes keys and clicks.
// Whatever a peer said goes into the page as text, never as markup.
'use strict';

const PLOT_MS = 300e3;
const RECENT_MS = 900e3;         // a drop this fresh keeps a connection near the top

const $ = id => document.getElementById(id);
const make = (name, cls, text) => {
  const e = document.createElement(name);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = plain(text);
  return e;
};
const put = (e, text) => { const p = plain(text); if (e.textContent !== p) e.textContent = p; };
const face = (e, cls) => { if (e.className !== cls) e.className = cls; };

// --- the head ----------------------------------------------------------------------------------------

function live() {
  const e = $('live'), on = stream && following;
  face(e, on ? 'live on' : 'live');
  put(e, on ? 'live' : !token ? 'no token' : stream ? 'asking' : 'no answer, again in ' + span(Math.max(0, retryAt - Date.now())));
  document.body.dataset.live = on ? 'yes' : 'no';
  may();
}

function said() {
  const e = $('verdict'), w = $('weather');
  w.replaceChildren();
  w.hidden = true;
  if (!summary) { put(e, ''); document.title = 'holdfast'; return; }
  const s = summary.connections, off = s.wanted - s.up + 0, doubt = (summary.peers.suspect || 0) + (summary.peers.dead || 0);
  const words = summary.well ? 'all ' + s.wanted + ' up' : off > 0 ? off + ' of ' + s.wanted + ' not up' : doubt ? doubt + ' in doubt' : 'the store is ill';
  put(e, words + (s.given_up ? ', ' + s.given_up + ' given up' : '') + (summary.needs_person ? ': needs a person' : ''));
  face(e, summary.well ? 'good' : 'bad');
  document.title = (summary.well ? '' : '(' + (off || doubt) + ') ') + 'holdfast';
  const lines = (summary.weather || []).map(f => f.text);
  if (summary.held) lines.push(summary.held + (summary.held === 1 ? ' attempt is' : ' attempts are') + ' put off: their hosts answer nobody');
  if (summary.store && summary.store.degraded) lines.push('the store is degraded: frames are kept as its configuration says');
  for (const line of lines.slice(0, 4)) w.append(make('div', '', line));
  if (lines.length > 4) w.append(make('div', 'faint', 'and ' + (lines.length - 4) + ' more'));
  w.hidden = !lines.length;
}

function may() {
  const can = scope === 'operate' && !!stream;
  for (const b of document.querySelectorAll('button[data-verb], #reload')) {
    b.disabled = !can;
    if (scope && scope !== 'operate') b.title = 'this token has the scope ' + scope + '; operate is needed';
  }
}

// --- the rows ----------------------------------------------------------------------------------------

let sorting = true, sortedAt = 0, waiting = false, spanMs = 6 * 3600e3;
const pool = [];
const rows = $('rows'), space = $('space');
let colours = {}, rowHeight = 32;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const s of [...Object.keys(STATES), 'track', 'faint', 'line']) colours[s] = style.getPropertyValue('--' + s).trim();
  rowHeight = parseInt(style.getPropertyValue('--row'), 10) || 32;
}

const shown = c => c.state === 'up' && (c.life === 'suspect' || c.life === 'dead') ? c.life : c.state;

function rank(c) {
  if (c.state === 'fatal') return 7;
  if (c.state === 'stopped') return 1;
  if (c.state !== 'up') return c.v.attempt > 0 ? 6 : 5;
  if (c.life === 'dead') return 4;
  if (c.life === 'suspect') return 3;
  return now() - droppedAt(c) < RECENT_MS ? 2 : 0;
}

// What somebody asked for, or the policy plans, is no drop.
const WISHED = ['retired', 'wished', 'stopped', 'restarted', 'shutdown', 'suspend'];

const isDrop = (m, i) => i > 0 && m[i - 1][1] === 'up' && m[i][1] !== 'unknown' && !WISHED.includes(m[i][2]);

function lastDrop(c) {
  const m = c.marks;
  for (let i = m.length - 1; i > 0; i--)
    if (isDrop(m, i) && !(c.decision && c.decision.planned && c.fresh >= m[i][0] - 2000)) return m[i];
  return null;
}
const droppedAt = c => { const m = lastDrop(c); return m ? m[0] : 0; };

// When it was up last, or the beginning of what is known.
function downSince(c) {
  if (c.v && c.v.down_since) return Date.parse(c.v.down_since);
  let i = c.marks.length;
  while (i > 0 && c.marks[i - 1][1] !== 'up') i--;
  return i < c.marks.length ? c.marks[i][0] : c.since;
}

function sortRows() {
  const words = $('filter').value.trim().toLowerCase().split(/\s+/).filter(Boolean), only = $('trouble').checked;
  const by = $('sort').value;
  order = [];
  for (const c of conns.values()) {
    if (!c.v || (only && c.state === 'up') || !words.every(w => c.words.includes(w))) continue;
    c.rank = rank(c);
    c.downFrom = c.rank > 4 ? Math.round(downSince(c) / 20e3) : 0; // one incident, one place
    order.push(c);
  }
  const name = (a, b) => a.name < b.name ? -1 : 1;
  order.sort(by === 'name' ? name : (a, b) => b.rank - a.rank || a.downFrom - b.downFrom || name(a, b));
  sorting = false;
  sortedAt = Date.now();
  space.style.height = order.length * rowHeight + 'px';
  put($('count'), order.length === conns.size ? conns.size + ' connections' : order.length + ' of ' + conns.size + ' connections');
  const none = $('nothing');
  none.hidden = order.length > 0;
  rows.hidden = !order.length;
  put(none, conns.size ? (only && !words.length ? 'Everything is up.' : 'Nothing matches.') : following && summary ? 'There are no connections.' : 'Asking …');
}

function rowMake() {
  const e = make('div', 'row'), slot = { e, c: null, at: -1 };
  e.setAttribute('role', 'option');
  for (const part of ['name', 'state', 'line', 'rtt', 'rate', 'backlog', 'story']) {
    slot[part] = make(part === 'line' ? 'canvas' : 'span', part === 'name' || part === 'story' ? part : part === 'line' ? '' : part === 'state' ? 'dot' : 'number');
    e.append(slot[part]);
  }
  e.addEventListener('click', () => { if (slot.c) { pick(slot.c.name); open(slot.c.name); } });
  rows.append(e);
  pool.push(slot);
  return slot;
}

function rowDraw(slot, c, i, all) {
  const moved = slot.c !== c || slot.at !== i;
  if (moved) {
    slot.e.style.transform = 'translateY(' + i * rowHeight + 'px)';
    slot.e.id = 'row-' + i;
    slot.e.hidden = false;
    slot.c = c;
    slot.at = i;
  }
  slot.e.setAttribute('aria-selected', c.name === selected);
  if (c.name === selected) rows.setAttribute('aria-activedescendant', slot.e.id);
  if (!moved && !all && !c.dirty) return;
  const v = c.v, look = shown(c);
  put(slot.name, c.name);
  face(slot.state, 'dot s-' + look);
  put(slot.state, (look === 'fatal' ? 'given up' : c.state + (look !== c.state ? ', ' + look : '')) +
    (rank(c) === 5 || rank(c) === 6 ? ', down ' + span(now() - downSince(c)) : ' ' + span(now() - c.since)));
  put(slot.rtt, c.state === 'up' && c.rtt !== undefined ? tripWords(c.rtt) : '–');
  put(slot.rate, c.state === 'up' ? rateWords(rateOf(c)) : '–');
  put(slot.backlog, count(c.backlog));
  put(slot.story, tale(c));
  slot.e.title = plain(c.name + ': ' + tale(c));
  timeline(slot.line, c);
  c.dirty = false;
}

function tale(c) {
  const v = c.v, why = causeWords(v.cause);
  if (c.state !== 'up') return [nextWords(v, true), why].filter(Boolean).join('; '); // the short one first: the other may be cut
  if (v.warning) return v.warning;
  if (c.life === 'suspect' || c.life === 'dead') return v.life.evidence;
  const last = lastDrop(c), drops = dropsOf(c), from = now() - spanMs;
  if (!last || last[0] < from) return '';
  // The cause in full while the decision about this very drop is known, otherwise its kind.
  const about = c.decision && Math.abs(c.fresh - last[0]) < 5000 ? causeWords(c.decision.cause) : PHRASES[last[2]] || last[2];
  return (drops > 1 ? drops + ' drops, the last ' : 'dropped ') + span(now() - last[0]) + ' ago' + (about ? ': ' + about : '');
}

function dropsOf(c) {
  const from = now() - spanMs;
  let n = 0;
  for (let i = 1; i < c.marks.length; i++) if (c.marks[i][0] > from && isDrop(c.marks, i)) n++;
  return n;
}

// Colours over time. What was too short for a pixel gets two of them: a drop is to be seen.
function timeline(canvas, c) {
  const w = canvas.clientWidth, h = canvas.clientHeight, dpr = window.devicePixelRatio || 1;
  if (!w) return;
  if (canvas.width !== Math.round(w * dpr)) canvas.width = Math.round(w * dpr);
  if (canvas.height !== Math.round(h * dpr)) canvas.height = Math.round(h * dpr);
  const g = canvas.getContext('2d'), to = now(), from = to - spanMs, scale = canvas.width / spanMs, m = c.marks;
  g.fillStyle = colours.track;
  g.fillRect(0, 0, canvas.width, canvas.height);
  for (const trouble of [false, true]) {
    for (let i = 0; i < m.length; i++) {
      const end = i + 1 < m.length ? m[i + 1][0] : to, state = m[i][1];
      if (end < from || (state !== 'up' && state !== 'unknown') !== trouble) continue;
      const x = Math.max(0, (m[i][0] - from) * scale), wide = Math.max((end - from) * scale - x, trouble ? 2 * dpr : 0);
      g.fillStyle = colours[state] || colours.unknown;
      g.fillRect(Math.min(x, canvas.width - wide), 0, wide, canvas.height);
    }
  }
  // What it is now, even if for a moment only, is its right end.
  const last = m[m.length - 1];
  if (!last) return;
  g.fillStyle = colours[last[1]] || colours.unknown;
  g.fillRect(canvas.width - 3 * dpr, 0, 3 * dpr, canvas.height);
}

function axis() {
  const canvas = $('axis'), w = canvas.clientWidth, h = 18, dpr = window.devicePixelRatio || 1;
  if (!w) return;
  canvas.width = w * dpr;
  canvas.height = h * dpr;
  const g = canvas.getContext('2d'), to = now(), from = to - spanMs;
  const steps = [60e3, 300e3, 900e3, 3600e3, 7200e3, 10800e3, 21600e3], step = steps.find(s => spanMs / s * 56 < w) || 43200e3;
  const zone = new Date(to).getTimezoneOffset() * 60e3;
  g.scale(dpr, dpr);
  g.font = '11px system-ui, "DejaVu Sans", sans-serif';
  g.textAlign = 'center';
  g.fillStyle = colours.faint;
  g.strokeStyle = colours.faint;
  for (let t = Math.ceil((from - zone) / step) * step + zone; t < to; t += step) {
    const x = (t - from) / spanMs * w, d = new Date(t);
    if (x < 18 || x > w - 18) continue;
    g.fillText(two(d.getHours()) + ':' + two(d.getMinutes()), x, 11);
    g.fillRect(x, 14, 1, 4);
  }
}

function draw(all) {
  if (sorting && Date.now() - sortedAt > (conns.size > 500 ? 1000 : 250)) sortRows();
  else if (sorting) later(260);
  const first = Math.max(0, Math.floor(rows.scrollTop / rowHeight) - 2);
  const last = Math.min(order.length, first + Math.ceil(rows.clientHeight / rowHeight) + 5);
  // A row stays with its connection where it can, so that a new order moves rows instead of filling them anew.
  const wanted = new Map(), free = [];
  for (let i = first; i < last; i++) wanted.set(order[i], i);
  for (const slot of pool) {
    if (slot.c && wanted.has(slot.c)) {
      const i = wanted.get(slot.c);
      wanted.delete(slot.c);
      rowDraw(slot, slot.c, i, all);
    } else free.push(slot);
  }
  for (const [c, i] of wanted) rowDraw(free.pop() || rowMake(), c, i, all);
  for (const slot of free) { slot.e.hidden = true; slot.c = null; }
  if (all) axis();
  const c = conns.get(opened);
  if (opened && !c) close();
  if (c && (all || c.shownAt !== c.journal[0] || Date.now() - detail.at > 400)) detailDraw(c);
  histories();
  journals();
}

let laters = 0;
function later(ms) { if (!laters) laters = setTimeout(() => { laters = 0; soon(); }, ms); }
function soon() {
  if (waiting) return;
  waiting = true;
  const run = () => { waiting = false; draw(false); };
  if (document.hidden) setTimeout(run, 1000); else requestAnimationFrame(run);
}

function pick(name) {
  selected = name;
  const i = order.findIndex(c => c.name === name);
  if (i >= 0) {
    const top = i * rowHeight;
    if (top < rows.scrollTop) rows.scrollTop = top;
    else if (top + rowHeight > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + rowHeight - rows.clientHeight;
  }
  if (opened) open(name);
  soon();
}

function step(by) {
  if (!order.length) return;
  const i = order.findIndex(c => c.name === selected);
  pick(order[Math.max(0, Math.min(order.length - 1, i < 0 ? 0 : i + by))].name);
}

// --- one connection ------------------------------------------------------------------------------------

const detail = { at: 0 };

function open(name) {
  const c = conns.get(name);
  if (!c || opened === name) return;
  opened = name;
  document.body.classList.add('opened');
  const e = $('detail'), d = detail;
  e.replaceChildren();
  const head = make('h2'), shut = make('button', '', 'close');
  shut.type = 'button';
  shut.addEventListener('click', close);
  head.append(make('span', '', name), shut);
  d.headline = make('p', 'headline');
  d.state = make('span', 'dot');
  d.rest = make('span');
  d.headline.append(d.state, d.rest);
  const buttons = make('div', 'buttons');
  for (const verb of ['stop', 'start', 'restart']) {
    const b = make('button', '', verb);
    b.type = 'button';
    b.dataset.verb = verb;
    b.addEventListener('click', () => press(b, verb));
    buttons.append(b);
  }
  d.line = make('canvas');
  d.fields = {};
  const list = make('dl');
  for (const key of ['since', 'down', 'next', 'cause', 'whose', 'decided', 'life', 'weather', 'warning', 'round trip', 'frames', 'backlog', 'sessions', 'policy', 'address']) {
    const t = make('dt', '', key), v = make('dd');
    d.fields[key] = [t, v];
    list.append(t, v);
  }
  const plots = make('div', 'plots');
  d.plots = ['round trip', 'frames in'].map(title => {
    const f = make('figure'), cap = make('figcaption', '', title), most = make('b');
    cap.append(most);
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), line = document.createElementNS(svg.namespaceURI, 'polyline');
    svg.setAttribute('viewBox', '0 0 300 46');
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', title);
    svg.append(line);
    f.append(cap, svg);
    plots.append(f);
    return { most, line };
  });
  d.journal = make('ol');
  e.append(head, d.headline, buttons, d.line, list, make('h3', '', 'five minutes'), plots, make('h3', '', 'journal, newest first'), d.journal);
  e.hidden = false;
  e.scrollTop = 0;
  may();
  story(c);
  draw(true);
}

function close() {
  if (!opened) return;
  opened = '';
  $('detail').hidden = true;
  $('detail').replaceChildren();
  document.body.classList.remove('opened');
  rows.focus({ preventScroll: true });
  draw(true);
}

// What cuts a connection asks once more.
function press(button, verb) {
  if (verb === 'start' || button.classList.contains('armed')) {
    button.classList.remove('armed');
    put(button, verb);
    command(verb, button);
    return;
  }
  button.classList.add('armed');
  put(button, verb + ': sure?');
  setTimeout(() => { button.classList.remove('armed'); put(button, verb); }, 4000);
}

function detailDraw(c) {
  const d = detail, v = c.v, look = shown(c);
  d.at = Date.now();
  face(d.state, 'dot s-' + look);
  put(d.state, STATES[c.state]);
  put(d.rest, ' for ' + span(now() - c.since) + (c.state !== 'up' && v.attempt ? ', attempt ' + (v.attempt + 1) : ''));
  const drops = dropsOf(c), x = c.decision;
  const set = (key, text, cls) => {
    const [t, e] = d.fields[key];
    t.hidden = e.hidden = !text;
    put(e, text || '');
    face(e, cls || '');
  };
  set('since', clock(c.since) + (drops ? ', ' + drops + (drops === 1 ? ' drop' : ' drops') + ' in ' + span(spanMs) : ''));
  set('next', nextWords(v) || (c.state === 'fatal' ? 'nothing by itself: start it once its cause is mended' : c.state === 'stopped' ? 'nothing until it is started' : ''));
  set('down', v.down_since && c.state !== 'up' ? 'since ' + clock(Date.parse(v.down_since)) + ', for ' + span(now() - Date.parse(v.down_since)) : '');
  set('cause', c.state === 'up' ? '' : causeWords(v.cause, true), 'bad');
  set('whose', c.state === 'up' ? '' : WHOSE[v.whose] || '');
  set('decided', x ? (c.state === 'up' ? clock(c.fresh) + ': ' + causeWords(x.cause, true) + '; ' : '') + outcomeWords(x) + ', ' + byWords(x) : '');
  const evidence = c.life === v.life.verdict && v.life.evidence ? ': ' + v.life.evidence : '';
  set('life', c.state === 'up' ? c.life + evidence : '', c.life === 'suspect' || c.life === 'dead' ? 'bad' : '');
  set('weather', v.weather);
  set('warning', v.warning, 'bad');
  set('round trip', c.state !== 'up' ? '' : (c.rtt !== undefined ? tripWords(c.rtt) + ' by ' + (v.pulse.round_trip_of || 'probe') : 'not measured yet') +
    (v.kernel ? ', the kernel says ' + v.kernel.round_trip_ms.toFixed(1) + ' ms' : ''));
  set('frames', count(c.totals.in) + ' in, ' + count(c.totals.out) + ' out, ' + size(v.frames.bytes_in) + ' in' +
    (v.frames.malformed ? ', ' + v.frames.malformed + ' malformed' : ''));
  set('backlog', count(c.backlog) + ' frames, kept in ' + v.backlog.kept_in + ', ' + v.backlog.consumers + (v.backlog.consumers === 1 ? ' consumer' : ' consumers') +
    (v.backlog.dropped ? ', ' + v.backlog.dropped + ' dropped' : '') + (v.backlog.gaps ? ', ' + v.backlog.gaps + (v.backlog.gaps === 1 ? ' gap' : ' gaps') : ''));
  set('sessions', 'ready ' + times(v.ready_total) + ', dialed ' + times(v.attempts_total) + (v.session ? ', a session to resume' : ''));
  set('policy', v.policy.name + ', version ' + v.policy.version + ' of ' + shortPath(v.policy.path));
  set('address', v.link ? v.link.address : '');
  timeline(d.line, c);
  plot(d.plots[0], c, 2, tripWords);
  plot(d.plots[1], c, 1, rateWords);
  if (c.shownAt !== c.journal[0]) storyMore(c);
}

function plot(p, c, column, words) {
  const to = now(), from = to - PLOT_MS, s = (c.samples || []).filter(x => x[0] >= from && x[column] !== undefined);
  let most = 0;
  for (const x of s) most = Math.max(most, x[column]);
  const y = n => (43 - n / (most || 1) * 38).toFixed(1), across = t => ((t - from) / PLOT_MS * 300).toFixed(1), points = [];
  s.forEach((x, i) => {
    if (i && column === 2) points.push(across(x[0]) + ',' + y(s[i - 1][column])); // what was measured holds until it is again
    points.push(across(x[0]) + ',' + y(x[column]));
  });
  const last = s[s.length - 1];
  if (last && column === 1 && to - last[0] > 2500) points.push(across(last[0] + 1000) + ',' + y(0), '300,' + y(0));
  else if (last && c.state === 'up') points.push('300,' + y(last[column]));
  p.line.setAttribute('points', points.join(' '));
  put(p.most, s.length ? 'at most ' + words(most) : 'no sample yet');
}

function storyLine(e) {
  const li = make('li'), t = make('time', '', clock(Date.parse(e.at)));
  t.dateTime = e.at;
  li.append(t);
  if (e.kind === 'state') {
    const to = make('span', 'dot s-' + (e.to in STATES ? e.to : 'unknown'), e.to);
    const more = e.text.replace(/^\S+ -> \S+?(; | on |$)/, '');
    li.append(to, make('span', 'aside', ' after ' + e.from + (more ? ': ' + more : '')));
  } else if (e.kind === 'decision') {
    li.append(make('span', 'why', causeWords(e.cause, true)), make('span', 'faint', outcomeWords(e) + ', ' + byWords(e)));
  } else {
    li.append(make('span', '', e.kind + ': ' + e.text));
  }
  return li;
}

function story(c) {
  detail.journal.replaceChildren(...c.journal.slice(0, JOURNAL_SHOWN).map(storyLine));
  c.shownAt = c.journal[0];
}

function storyMore(c) {
  const until = c.journal.indexOf(c.shownAt);
  if (until < 0) return story(c);
  detail.journal.prepend(...c.journal.slice(0, until).map(storyLine));
  while (detail.journal.childElementCount > JOURNAL_SHOWN) detail.journal.lastChild.remove();
  c.shownAt = c.journal[0];
}

// --- hands -------------------------------------------------------------------------------------------

function fresh() { sorting = true; sortedAt = 0; rows.scrollTop = 0; draw(true); }
$('filter').addEventListener('input', fresh);
$('trouble').addEventListener('change', fresh);
$('sort').addEventListener('change', fresh);
$('span').addEventListener('change', e => { spanMs = +e.target.value; draw(true); });
$('reload').addEventListener('click', e => command('reload', e.target));
$('forget').addEventListener('click', forget);
rows.addEventListener('scroll', soon, { passive: true });
addEventListener('resize', () => { readColours(); for (const s of pool) s.at = -1; sorting = true; sortedAt = 0; draw(true); });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { readColours(); draw(true); });
addEventListener('online', () => { if (!stream && token) connect(); });
document.addEventListener('visibilitychange', () => { if (!document.hidden) { if (!stream && token && !$('ask').open) connect(); draw(true); } });
$('ask').addEventListener('cancel', e => { if (!token) e.preventDefault(); });
$('asking').addEventListener('submit', e => {
  e.preventDefault();
  token = $('token').value.trim().replace(/[^\x21-\x7e]/g, '');
  $('token').value = '';
  try { sessionStorage.setItem(KEY, token); } catch (_) { /* asked for again after a reload */ }
  $('ask').close();
  tries = 0;
  connect();
  rows.focus({ preventScroll: true });
});

addEventListener('keydown', e => {
  if (e.ctrlKey || e.metaKey || e.altKey || $('ask').open) return;
  const typing = e.target.matches('input[type=search]'), control = e.target.matches('select, button, input');
  if (e.key === 'Escape') {
    if (typing) { $('filter').value = ''; fresh(); rows.focus(); } else close();
  } else if (typing && e.key === 'Enter') {
    rows.focus();
    if (order.length) pick(order[0].name);
  } else if (typing || (control && ['Enter', ' ', 'ArrowUp', 'ArrowDown'].includes(e.key))) {
    return;
  } else if (e.key === 'j' || e.key === 'ArrowDown') step(1);
  else if (e.key === 'k' || e.key === 'ArrowUp') step(-1);
  else if (e.key === 'PageDown') step(10);
  else if (e.key === 'PageUp') step(-10);
  else if (e.key === 'Home' || e.key === 'g') step(-order.length);
  else if (e.key === 'End' || e.key === 'G') step(order.length);
  else if (e.key === 'Enter') { if (selected) open(selected); }
  else if (e.key === '/') $('filter').focus();
  else if (e.key === 'u') { $('trouble').checked = !$('trouble').checked; fresh(); }
  else return;
  e.preventDefault();
});

setInterval(() => {
  if (stream && Date.now() - heard > STALLED_MS) stream.abort();
  live();
  // Ages in words, and the timelines move on; only what is on screen.
  if (!document.hidden) draw(true);
}, 1000);

readColours();
for (const s of ['up', 'linking', 'waiting', 'queued', 'closing', 'stopped', 'fatal', 'unknown']) $('legend').append(make('span', 'dot s-' + s, STATES[s]));
live();
connect();
draw(true);
