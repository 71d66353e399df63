// What happened at each limit in the last quarter of an hour, as a small picture and as words.
import { useEffect, useState } from 'preact/hooks';
import { ask } from './api.js';
import { number, plural } from './format.js';
import { html } from './html.js';

const FRESH_MS = 30_000;
const GATHER_MS = 120; // rows come in one after the other while one scrolls
const RETRY_MS = 5_000;
const IDS_MAX = 100;
const KEPT_MAX = 2_000;
const WIDTH = 120;
const HEIGHT = 26;

const known = new Map(); // id -> { at, inUse, waiting }
const wanted = new Map(); // id -> those who draw it
let timer = 0;
let due = Infinity;
let asking = false;

function askAfter(ms) {
  const at = Date.now() + ms;
  if (at >= due) return;
  clearTimeout(timer);
  due = at;
  timer = setTimeout(update, ms);
}

async function update() {
  due = Infinity;
  if (asking || document.hidden) return askAfter(1_000);
  const now = Date.now();
  const old = [...wanted.keys()].filter((id) => now - (known.get(id)?.at ?? 0) >= FRESH_MS);
  if (old.length) {
    asking = true;
    try {
      await fetchSome(old.slice(0, IDS_MAX));
    } catch {
      due = Infinity;
      return askAfter(RETRY_MS);
    } finally {
      asking = false;
    }
  }
  if (wanted.size) askAfter(old.length > IDS_MAX ? 0 : 1_000);
}

async function fetchSome(ids) {
  const { items } = await ask('GET', `/v1/history?ids=${ids.join(',')}`);
  const at = Date.now();
  for (const id of ids) known.set(id, { at, inUse: [], waiting: [] });
  for (const item of items) known.set(item.id, { at, inUse: item.in_use_mean, waiting: item.waiting_max });
  for (const id of known.keys()) {
    if (known.size <= KEPT_MAX) break;
    if (!wanted.has(id)) known.delete(id);
  }
  for (const id of ids) wanted.get(id)?.forEach((draw) => draw((count) => count + 1));
}

function useRecent(id) {
  const [, draw] = useState(0);
  useEffect(() => {
    const drawers = wanted.get(id) ?? wanted.set(id, new Set()).get(id);
    drawers.add(draw);
    if (!known.has(id)) askAfter(GATHER_MS);
    else askAfter(1_000);
    return () => {
      drawers.delete(draw);
      if (!drawers.size) wanted.delete(id);
    };
  }, [id]);
  return known.get(id) ?? null;
}

function outline(values, top) {
  const x = (index) => (index * WIDTH) / Math.max(1, values.length - 1);
  const y = (value) => HEIGHT - 1 - (Math.min(value, top) / top) * (HEIGHT - 4);
  let line = '';
  let area = '';
  for (let from = 0; from < values.length; from += 1) {
    if (values[from] === null) continue;
    let to = from;
    while (to + 1 < values.length && values[to + 1] !== null) to += 1;
    const points = values.slice(from, to + 1).map((value, index) => `${x(from + index).toFixed(1)} ${y(value).toFixed(1)}`);
    if (from === to) points.push(`${(x(from) + 1.5).toFixed(1)} ${y(values[from]).toFixed(1)}`);
    line += `M${points.join('L')}`;
    area += `M${x(from).toFixed(1)} ${HEIGHT}L${points.join('L')}V${HEIGHT}Z`;
    from = to;
  }
  return { line, area, x };
}

function words(info, inUse, waiting) {
  const seen = inUse.filter((value) => value !== null);
  if (!seen.length) return 'Nothing recorded in the last 15 minutes';
  const most = Math.max(...seen);
  const queue = Math.max(0, ...waiting);
  const used = most < 0.05 ? 'not in use' : `up to ${number(Math.ceil(most))} of ${number(info.limit)} in use`;
  return `Last 15 minutes: ${used}${queue ? `, up to ${plural(queue, 'waiter')}` : ''}`;
}

export function Spark({ info }) {
  const recent = useRecent(info.id);
  if (!recent) return html`<span class="spark"></span>`;
  const { inUse, waiting } = recent;
  const said = words(info, inUse, waiting);
  const seen = inUse.some((value) => value !== null);
  const top = Math.max(info.limit, 1, ...inUse.map((value) => value ?? 0));
  const { line, area, x } = outline(inUse, top);
  return html`<svg class="spark${info.slot_decay_per_second > 0 ? ' rate' : ''}" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${said}>
    <title>${said}</title>
    <path class="ground" d=${`M0 ${HEIGHT - 0.5}H${WIDTH}`} />
    ${seen && html`<path class="area" d=${area} /><path class="line" d=${line} />`}
    ${waiting.map((count, index) => count > 0 && html`<path class="queue" d=${`M${x(index).toFixed(1)} 0V3`} />`)}
  </svg>`;
}
