// Follows the server's events: a snapshot, then changes; resumed after a break, stopped while nobody looks.
import { access, connection, lostSince, loaded, takeChange, takeSnapshot, tick } from './state.js';

const SILENCE_MS = 35_000; // more than two heartbeats
const HIDDEN_MS = 2_000; // a tab that is only passed over keeps its stream
const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 3_000;

let running = null; // what ends the present stream
let lastId = null;
let retryMs = RETRY_MIN_MS;
let retryTimer = 0;
let hiddenTimer = 0;

export function follow() {
  document.addEventListener('visibilitychange', look);
  window.addEventListener('online', retryNow);
  setInterval(() => document.hidden || tick(), 1000);
  look();
}

export function retryNow() {
  if (running || document.hidden) return;
  clearTimeout(retryTimer);
  retryMs = RETRY_MIN_MS;
  run();
}

function look() {
  clearTimeout(hiddenTimer);
  if (document.hidden) {
    hiddenTimer = setTimeout(pause, HIDDEN_MS);
  } else {
    tick();
    retryNow();
  }
}

function pause() {
  clearTimeout(retryTimer);
  connection.value = 'paused';
  running?.abort();
}

async function run() {
  const ending = new AbortController();
  running = ending;
  if (connection.value === 'paused') connection.value = 'connecting';
  try {
    await read(ending);
  } catch {
    // told below: whatever broke, the stream is over
  }
  running = null;
  if (access.value === 'needed') return;
  if (document.hidden && connection.value === 'paused') return;
  if (connection.value !== 'lost') lostSince.value = Date.now();
  connection.value = 'lost';
  retryTimer = setTimeout(() => document.hidden || run(), retryMs);
  retryMs = Math.min(RETRY_MAX_MS, retryMs * 1.7);
}

async function read(ending) {
  const headers = lastId === null || !loaded.value ? {} : { 'last-event-id': lastId };
  const answer = await fetch('/v1/events', { headers, signal: ending.signal, cache: 'no-store' });
  if (answer.status === 401) access.value = 'needed';
  if (!answer.ok) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let silence = 0;
  let text = '';
  let parts = [];
  try {
    for (;;) {
      silence = setTimeout(() => ending.abort(), SILENCE_MS);
      const { done, value } = await reader.read();
      clearTimeout(silence);
      if (done) return;
      connection.value = 'live';
      retryMs = RETRY_MIN_MS;
      text += value;
      const blocks = text.split('\n\n');
      text = blocks.pop();
      for (const block of blocks) parts = take(block, parts);
    }
  } finally {
    clearTimeout(silence);
  }
}

function take(block, parts) {
  const fields = {};
  for (const line of block.split('\n')) {
    const colon = line.indexOf(': ');
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  if (!fields.data) return parts;
  const data = JSON.parse(fields.data);
  if (fields.event === 'snapshot') {
    parts.push(...data.limits);
    if (data.more) return parts;
    takeSnapshot(parts, data.now);
  } else if (fields.event === 'change') {
    takeChange(data);
  }
  if (fields.id) lastId = fields.id;
  return [];
}
