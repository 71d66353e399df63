// What the pages know: kept up to date by live.js, read by everything that is shown.
import { batch, signal } from '@preact/signals';

const SIGHTS_KEPT = 12;
const EVENTS_KEPT = 5_000;

export const access = signal('unknown'); // 'open', 'needed' (log in first), 'in' (logged in)
export const keyId = signal('');
export const connection = signal('connecting'); // 'live', 'lost', 'paused', 'refused'
export const lostSince = signal(0);
export const totals = signal(null); // all limits together; null: not known yet
export const clock = signal(Date.now()); // once a second, by the server's time
export const looked = signal(null); // the limit whose page is shown

const sights = new Map(); // the key of a view -> what is known of it, the least lately used first
let offsetMs = 0;
let serial = 0;

export const secondsSince = (instant) => (clock.value - Date.parse(instant)) / 1000;
export const secondsUntil = (instant) => (Date.parse(instant) - clock.value) / 1000;

export function tick() {
  clock.value = Date.now() + offsetMs;
}

// Changed in place, since there may be much of it: who shows it reads `news`.
export function sightOf(key) {
  let sight = sights.get(key);
  if (sight) sights.delete(key);
  else sight = { news: signal(0), loaded: false, limit: null, leases: null, matching: 0, order: [], rows: new Map(), events: [], known: new Set() };
  sights.set(key, sight);
  if (sights.size > SIGHTS_KEPT) sights.delete(sights.keys().next().value);
  return sight;
}

export function take(name, key, data) {
  if (data.now) offsetMs = Date.parse(data.now) - Date.now();
  batch(() => {
    if (name === 'totals') totals.value = data.totals;
    const sight = key && sightOf(key);
    if (sight && name in TAKES) {
      TAKES[name](sight, data);
      sight.loaded = true;
      sight.news.value += 1;
    }
    tick();
  });
}

const TAKES = {
  limits(sight, data) {
    sight.matching = data.matching;
    for (const info of data.limits) sight.rows.set(info.id, info);
    if (!data.order) return;
    sight.order = data.order;
    const kept = new Set(data.order);
    for (const id of sight.rows.keys()) if (!kept.has(id)) sight.rows.delete(id);
  },
  limit(sight, data) {
    sight.limit = data.limit;
  },
  leases(sight, data) {
    sight.leases = data;
  },
  events(sight, data) {
    const told = [
      ...data.leases.map((event) => ({ id: `${event.id} ${event.state} ${event.at}`, at: event.at, kind: event.state === 'ended' ? event.why : event.state, event })),
      ...data.definitions.map((event) => ({ id: `${event.id} ${event.at} ${event.what}`, at: event.at, kind: event.what, definition: event })),
    ];
    const fresh = told.filter((one) => !sight.known.has(one.id)).sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
    for (const one of fresh) {
      sight.known.add(one.id);
      sight.events.push({ ...one, serial: ++serial });
    }
    if (data.left_out) sight.events.push({ serial: ++serial, at: data.now, kind: 'more', count: data.left_out });
    if (sight.events.length > EVENTS_KEPT * 1.2) {
      for (const one of sight.events.splice(0, sight.events.length - EVENTS_KEPT)) sight.known.delete(one.id);
    }
  },
};
