// Node and ws, as its README shows it. Usage: node ws.js PORT CA_PATH SOCKET_PATH COUNT
'use strict';
const fs = require('fs');
const net = require('net');
const WebSocket = require('ws');
const [port, caPath, socketPath, count] = process.argv.slice(2);
const ca = fs.readFileSync(caPath);
const local = net.connect(socketPath);
local.on('error', () => process.exit(0));
local.on('close', () => process.exit(0));
let frames = 0, left = Number(count), pending = 0, session;

function next() {
  for (; left > 0 && pending < 64; left--, pending++) dial(true);
}
function dial(first) {
  const ws = new WebSocket(`wss://127.0.0.1:${port}/`, { ca, session, perMessageDeflate: false, skipUTF8Validation: false });
  ws.on('upgrade', (response) => response.socket.on('session', (s) => { session = s; }));
  ws.on('open', () => { if (first) { first = false; pending--; next(); } });
  ws.on('message', (data) => {
    const { op, s, t } = JSON.parse(data);
    if (op === 0 && s > 0 && t) {
      frames++;
      local.write(data);
      local.write('\n');
    }
  });
  ws.on('error', () => {});
  ws.on('close', () => dial(first));
}
local.on('connect', () => { next(); setInterval(() => {}, 1 << 30); });
