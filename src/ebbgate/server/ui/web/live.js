// What this tab looks at, and what it is told of that: by a worker that all tabs share, or by a stream of its own.
import { useEffect } from 'preact/hooks';
import { PING_MS, makeHub } from './hub.js';
import { access, connection, lostSince, sightOf, take, tick } from './state.js';

const looks = new Map(); // the key of a view -> how many parts of the page look at it
const FIRST_MS = 200;
let say = null; // once we may talk to the server
let planned = false;

function tell(more = {}) {
  planned = false;
  say?.({ keys: [...looks.keys()], visible: !document.hidden, ...more });
}

function plan() {
  if (planned) return;
  planned = true;
  queueMicrotask(tell);
}

function heard(message) {
  if (message.kind === 'event') {
    take(message.name, message.key, message.data);
    return;
  }
  if (message.state === 'refused') access.value = 'needed';
  lostSince.value = message.since;
  connection.value = message.state;
}

function joinShared() {
  const worker = new SharedWorker(new URL('./shared.js', import.meta.url), { type: 'module', name: 'ebbgate' });
  worker.port.onmessage = ({ data }) => heard(data);
  worker.onerror = () => {
    say = makeHub().join(heard); // it could not be loaded: an own stream, then
    tell();
  };
  return (said) => worker.port.postMessage(said);
}

export function follow() {
  try {
    say = joinShared();
  } catch {
    say = makeHub().join(heard);
  }
  document.addEventListener('visibilitychange', () => {
    tick();
    tell();
  });
  window.addEventListener('pagehide', () => say({ keys: [], visible: false, leaves: true }));
  window.addEventListener('pageshow', () => tell());
  window.addEventListener('online', retryNow);
  setInterval(() => document.hidden || tick(), 1000);
  setInterval(() => tell(), PING_MS);
  setTimeout(() => looks.size || tell(), FIRST_MS); // a page that looks at nothing still tells that it is here
}

export const retryNow = () => tell({ retry: true });

// What is known of a view, which is kept up to date while the component is shown; null looks at nothing.
export function useSight(view) {
  const key = view && JSON.stringify(view);
  useEffect(() => {
    if (!key) return undefined;
    looks.set(key, (looks.get(key) ?? 0) + 1);
    plan();
    return () => {
      const left = looks.get(key) - 1;
      if (left) looks.set(key, left);
      else looks.delete(key);
      plan();
    };
  }, [key]);
  if (!key) return null;
  const sight = sightOf(key);
  void sight.news.value;
  return sight;
}
