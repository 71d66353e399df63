// What the pages know: kept up to date by live.js, read by everything that is shown.
import { batch, signal } from '@preact/signals';

const ACTIVITY_MAX = 2000;
const RATE_SECONDS = 10;
const SAMPLE_MS = 500;

export const access = signal('unknown'); // 'open', 'needed' (log in first), 'in' (logged in)
export const keyId = signal('');
export const connection = signal('connecting'); // 'live', 'lost', 'paused'
export const lostSince = signal(0);
export const loaded = signal(false);
export const news = signal(0); // rises when any limit changes
export const members = signal(0); // rises when limits come or go
export const activityNews = signal(0);
export const clock = signal(Date.now()); // once a second, by the server's time

// id -> { info, samples }; changed in place, since there may be ten thousand: see `news`
export const limits = new Map();
export const activity = []; // the newest last
let byName = new Map();
let offsetMs = 0;
let serial = 0;

export const serverNow = () => Date.now() + offsetMs;
export const secondsSince = (instant) => (clock.value - Date.parse(instant)) / 1000;
export const secondsUntil = (instant) => (Date.parse(instant) - clock.value) / 1000;
export const limitNamed = (name) => byName.get(name) ?? null;

export function tick() {
  clock.value = serverNow();
}

function noteTime(now) {
  if (now) offsetMs = Date.parse(now) - Date.now();
}

function sample(entry, info) {
  const now = Date.now();
  const samples = entry.samples;
  if (samples.length && info.granted < samples[samples.length - 1].granted) samples.length = 0; // counted anew
  if (!samples.length || now - samples[samples.length - 1].at >= SAMPLE_MS) {
    samples.push({ at: now, granted: info.granted });
    while (samples.length > 2 && samples[1].at <= now - RATE_SECONDS * 1000) samples.shift();
  }
}

// Grants a second over the last seconds; null while too little is known.
export function grantRate(entry) {
  const now = Date.now();
  const start = now - RATE_SECONDS * 1000;
  let base = entry.samples[0];
  for (const one of entry.samples) if (one.at <= start) base = one;
  const seconds = Math.min(RATE_SECONDS, (now - base.at) / 1000);
  return seconds < 1 ? null : (entry.info.granted - base.granted) / seconds;
}

function put(info) {
  const known = limits.get(info.id);
  if (!known) {
    const entry = { info, samples: [] };
    limits.set(info.id, entry);
    byName.set(info.name, entry);
    sample(entry, info);
    return 'new';
  }
  if (known.info.name !== info.name) {
    byName.delete(known.info.name);
    byName.set(info.name, known);
  }
  known.info = info;
  sample(known, info);
  return 'known';
}

export function takeSnapshot(infos, now) {
  noteTime(now);
  batch(() => {
    const present = new Set(infos.map((info) => info.id));
    for (const [id, entry] of limits) {
      if (!present.has(id)) limits.delete(id), byName.delete(entry.info.name);
    }
    for (const info of infos) put(info);
    byName = new Map([...limits.values()].map((entry) => [entry.info.name, entry]));
    loaded.value = true;
    members.value += 1;
    news.value += 1;
    tick();
  });
}

export function takeChange(change) {
  noteTime(change.now);
  batch(() => {
    for (const info of change.limits) {
      const before = limits.get(info.id)?.info ?? null;
      if (put(info) === 'new') {
        members.value += 1;
        note(info.updated, 'created', info, settings(info));
      } else if (before.updated !== info.updated) {
        const what = differences(before, info);
        if (what) note(info.updated, 'changed', info, what);
      }
    }
    for (const id of change.gone) {
      const entry = limits.get(id);
      if (!entry) continue;
      limits.delete(id);
      byName.delete(entry.info.name);
      members.value += 1;
      note(change.now, 'deleted', entry.info, '');
    }
    for (const event of change.leases) {
      activity.push({ serial: ++serial, at: event.at, kind: event.state === 'ended' ? event.why : event.state, event });
    }
    if (change.leases_left_out) {
      activity.push({ serial: ++serial, at: change.now, kind: 'more', count: change.leases_left_out });
    }
    if (activity.length > ACTIVITY_MAX) activity.splice(0, activity.length - ACTIVITY_MAX);
    news.value += 1;
    activityNews.value += 1;
    tick();
  });
}

function note(at, kind, info, what) {
  activity.push({ serial: ++serial, at, kind, limit: info.name, what });
}

function settings(info) {
  return info.slot_decay_per_second ? `${info.limit} slots, with slot decay` : `${info.limit} slots`;
}

function differences(before, after) {
  const told = [];
  if (before.name !== after.name) told.push(`was named ${before.name}`);
  if (before.limit !== after.limit) told.push(`${before.limit} → ${after.limit} slots`);
  if (before.slot_decay_per_second !== after.slot_decay_per_second) told.push('another slot decay');
  if (before.active !== after.active) told.push(after.active ? 'enabled' : 'disabled');
  if (before.description !== after.description) told.push('another description');
  return told.join(', ');
}
