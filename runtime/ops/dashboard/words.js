// Words: causes, decisions, times and sizes as people say them, alike in `holdfast why`. Touches no page.
'use strict';

// Control characters and those that turn a line's direction say nothing to a reader.
const plain = text => String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');

const PHRASES = {
  hook: 'the policy’s own code failed', call: 'no answer to an HTTP call', address: 'not an address to dial',
  resolve: 'the name did not resolve', refused: 'connection refused', unreachable: 'no way to the host',
  connect: 'could not connect', proxy: 'the proxy was no help', tls: 'no TLS with the peer',
  certificate: 'the certificate is not good', upgrade_refused: 'the upgrade was refused',
  upgrade_bad: 'no proper answer to the upgrade', closed: 'closed', eof: 'the stream ended without a close frame',
  reset: 'the stream was reset', io: 'the socket failed', protocol: 'the peer broke the WebSocket protocol',
  too_big: 'a message was too big', inflate: 'compressed data could not be read',
  silence: 'nothing came, and probes stayed unanswered', beat: 'a heartbeat stayed unanswered',
  wished: 'closed by the policy', retired: 'replaced as planned', suspend: 'the machine slept',
  conflict: 'somebody else holds the identity', backlog_full: 'the backlog stayed full',
  stopped: 'stopped by an operator', restarted: 'restarted by an operator', shutdown: 'the daemon ended',
  store: 'the store failed', internal: 'a bug of holdfast, kept to this connection',
};
const STAGES = {
  preparing: 'before the dial', resolving: 'while looking up the name', connecting: 'while connecting',
  securing: 'in the TLS handshake', upgrading: 'in the upgrade', greeting: 'in the greeting', ready: 'while it was up',
  draining: 'in a handover', closing: 'while closing',
};
const STATES = { up: 'up', waiting: 'waiting to dial', queued: 'queued for the budget', preparing: 'preparing', linking: 'linking',
  closing: 'closing', stopped: 'stopped', fatal: 'given up', unknown: 'not known' };

function causeWords(c, where) {
  if (!c || !c.kind || c.kind === 'none') return '';
  let said = c.kind === 'timeout' ? c.stage + ' took too long' : c.kind === 'ended' ? (c.name === 'conflict' ? 'somebody else took over its identity' : 'the platform announced ' + c.name)
    : PHRASES[c.kind] || c.name || c.kind;
  if (c.close_code) said += ' with ' + c.close_code;
  if (c.http_status) said += ', HTTP ' + c.http_status;
  if (c.reason && c.reason !== PHRASES[c.kind]) said += ': ' + c.reason;
  if (!where || c.by === 'operator') return said;
  const by = c.by === 'peer' ? 'by the platform' : c.by === 'policy' ? 'by the policy' : '';
  const at = c.kind === 'timeout' ? '' : STAGES[c.stage] || '';
  return by || at ? said + ' (' + by + (by && at ? ', ' : '') + at + ')' : said;
}

const WHOSE = { platform: 'the platform’s', platform_or_network: 'the platform’s or the network’s: from here nobody can tell which', network: 'the network’s, on the way to the platform',
  machine: 'this machine’s', credentials: 'the credentials’: the platform does not take them', limits: 'this account’s: it asked for more than the platform allows',
  another_client: 'another client’s, which uses the same credentials', configuration: 'the configuration’s', policy: 'the policy’s own', consumer: 'a consumer’s, which does not take its frames',
  holdfast: 'holdfast’s own' };

function span(ms) {
  if (ms < 1000) return Math.max(0, Math.round(ms)) + ' ms';
  const s = Math.floor(ms / 1000);
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' min' + (s < 600 && s % 60 ? ' ' + s % 60 + ' s' : '');
  if (s < 86400) return Math.floor(s / 3600) + ' h' + (s % 3600 >= 60 ? ' ' + Math.floor(s % 3600 / 60) + ' min' : '');
  return Math.floor(s / 86400) + ' d' + (s % 86400 >= 3600 ? ' ' + Math.floor(s % 86400 / 3600) + ' h' : '');
}
const times = n => n === 1 ? 'once' : n === 2 ? 'twice' : n + ' times';
const two = n => String(n).padStart(2, '0');
function clock(ms) {
  const d = new Date(ms), today = new Date(now()).toDateString() === d.toDateString();
  return (today ? '' : d.getDate() + '.' + (d.getMonth() + 1) + '. ') + two(d.getHours()) + ':' + two(d.getMinutes()) + ':' + two(d.getSeconds());
}
function count(n) {
  if (n === undefined) return '–';
  return n < 10000 ? String(n) : n < 1e6 ? (n / 1e3).toFixed(n < 1e5 ? 1 : 0) + 'k' : (n / 1e6).toFixed(1) + 'M';
}
const size = n => n < 1024 ? n + ' B' : n < 1048576 ? (n / 1024).toFixed(1) + ' KiB' : (n / 1048576).toFixed(1) + ' MiB';
const tripWords = ms => ms < 1 ? '<1 ms' : Math.round(ms) + ' ms';
const rateWords = r => r <= 0 ? '0/s' : r < 10 ? r.toFixed(1) + '/s' : count(Math.round(r)) + '/s';

// brief: for a line that may be cut; the head says why attempts are held.
function nextWords(v, brief) {
  if (!v.next) return '';
  const left = Date.parse(v.next.at) - now();
  let said = (v.next.what || 'next') + (left > 0 ? ' in ' + span(left) : ' now');
  if (v.next.held) said += brief ? ' (held)' : ', held: its host answers nobody';
  if (v.next.budget) said += ', the budget ' + v.next.budget + ' holds it' + (v.next.left !== undefined ? ', ' + v.next.left + ' left' : '');
  return said;
}

function outcomeWords(d) {
  if (d.pace === 'stop') return 'stop';
  let said = 'dial again after ' + span(d.delay_ms || 0);
  if (d.pace === 'slow') said += ', at the slow pace';
  if (d.drop === 'fresh') said += ', with a new session';
  if (d.drop === 'renew') said += ', with a new session and newly fetched values';
  if (d.planned) said += ', as planned';
  const [low, high] = d.wish_ms || [0, 0];
  if (!high) return said;
  said += ' (asked for: ' + (low === high ? span(high) : span(low) + ' to ' + span(high));
  if (d.clamped) said += d.backoff_ms ? '; held to the backoff, which drew ' + span(d.backoff_ms) : '; held to the floor';
  return said + ')';
}

const shortPath = path => path.split('/').slice(-2).join('/');

function byWords(d) {
  if (d.by === 'operator') return 'by an operator';
  if (d.by === 'engine') return 'by holdfast itself' + (d.note ? ': ' + d.note : '');
  const who = d.by === 'hook' ? 'on_ended' : d.by === 'climb' ? 'the climb rule' : 'the rule';
  return 'by ' + who + (d.line ? ' ' + shortPath(d.file || '') + ':' + d.line : '') + (d.note ? ': “' + d.note + '”' : '');
}
