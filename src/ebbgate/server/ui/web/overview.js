// Every limit, the fullest first; as many rows as fit are drawn, so that ten thousand stay smooth.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { duration, number, perSecond, plural } from './format.js';
import { html } from './html.js';
import { Badges, Bar, Code, Empty, free, isCooling, isFull } from './parts.js';
import { go, limitLink, route, setQuery } from './route.js';
import { clock, grantRate, limits, loaded, members, news, secondsSince } from './state.js';

const REORDER_MS = 2000;
const SPARE_ROWS = 6;
const NARROW = window.matchMedia('(max-width: 760px)');

const waited = (entry) => (entry.info.waiting_since ? secondsSince(entry.info.waiting_since) : -1);
const share = ({ info }) => (info.active ? info.active_slots / Math.max(info.limit, 0.5) : -1);

const ORDERS = {
  saturation: [(a, b) => (b.info.waiting > 0) - (a.info.waiting > 0) || share(b) - share(a) || b.info.waiting - a.info.waiting, 'Fullest first'],
  name: [() => 0, 'Name'],
  used: [(a, b) => b.info.active_slots - a.info.active_slots, 'Most slots in use'],
  waiting: [(a, b) => b.info.waiting - a.info.waiting, 'Most waiting'],
  oldest: [(a, b) => waited(b) - waited(a), 'Longest wait'],
  rate: [(a, b) => (grantRate(b) ?? 0) - (grantRate(a) ?? 0), 'Most grants'],
};

const FILTERS = {
  all: [() => true, 'All'],
  full: [({ info }) => isFull(info), 'Full'],
  waiting: [({ info }) => info.waiting > 0, 'With waiters'],
  used: [({ info }) => info.active_slots > 0, 'In use'],
  idle: [({ info }) => info.active_slots === 0 && info.waiting === 0, 'Idle'],
  rates: [({ info }) => info.slot_decay_per_second > 0, 'Rate limits'],
  off: [({ info }) => !info.active || isCooling(info), 'Disabled or cooling'],
};

const collator = new Intl.Collator('en', { numeric: true });

function chosen(text, show, sort) {
  const wanted = text.toLocaleLowerCase();
  const [fits] = FILTERS[show];
  const [order] = ORDERS[sort];
  const found = [];
  for (const entry of limits.values()) {
    const { name, description } = entry.info;
    if (wanted && !name.toLocaleLowerCase().includes(wanted) && !description.toLocaleLowerCase().includes(wanted)) continue;
    if (fits(entry)) found.push(entry);
  }
  return found.sort((a, b) => order(a, b) || collator.compare(a.info.name, b.info.name));
}

function totals() {
  const sum = { full: 0, waiting: 0, oldest: -1, rate: 0 };
  for (const entry of limits.values()) {
    sum.full += isFull(entry.info) ? 1 : 0;
    sum.waiting += entry.info.waiting;
    sum.oldest = Math.max(sum.oldest, waited(entry));
    sum.rate += grantRate(entry) ?? 0;
  }
  return sum;
}

function Totals({ show }) {
  void news.value;
  void clock.value;
  const sum = totals();
  const pick = (name) => setQuery({ show: show === name ? '' : name });
  return html`<dl class="totals">
    <div><dt>Limits</dt><dd>${number(limits.size)}</dd></div>
    <div class=${sum.full ? 'hot' : ''}><dt>Full</dt><dd><button type="button" class="plain" aria-pressed=${show === 'full'} onClick=${() => pick('full')}>${number(sum.full)}</button></dd></div>
    <div class=${sum.waiting ? 'hot' : ''}><dt>Waiting</dt><dd><button type="button" class="plain" aria-pressed=${show === 'waiting'} onClick=${() => pick('waiting')}>${number(sum.waiting)}</button></dd></div>
    <div><dt>Longest wait</dt><dd>${sum.oldest < 0 ? '–' : duration(sum.oldest)}</dd></div>
    <div><dt>Grants per second</dt><dd>${perSecond(sum.rate)}</dd></div>
  </dl>`;
}

// Keeps the order still while a hand or the keyboard is on the list, and for some seconds at a time.
function useOrder(text, show, sort) {
  const kept = useRef({ key: '', at: 0, found: [], held: false });
  void news.value;
  void clock.value;
  const key = JSON.stringify([text, show, sort, members.value]);
  const state = kept.current;
  if (state.key !== key || (!state.held && Date.now() - state.at > REORDER_MS)) {
    Object.assign(state, { key, at: Date.now(), found: chosen(text, show, sort) });
  }
  return state;
}

function useWindowing(count, height) {
  const list = useRef(null);
  const [range, setRange] = useState([0, 40]);
  const place = () => {
    if (!list.current) return;
    const above = -list.current.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / height) - SPARE_ROWS);
    const last = Math.min(count, Math.ceil((above + window.innerHeight) / height) + SPARE_ROWS);
    setRange((old) => (old[0] === first && old[1] === last ? old : [first, Math.max(first, last)]));
  };
  useLayoutEffect(place, [count, height]);
  useEffect(() => {
    let asked = 0;
    const later = () => {
      cancelAnimationFrame(asked);
      asked = requestAnimationFrame(place);
    };
    window.addEventListener('scroll', later, { passive: true });
    window.addEventListener('resize', later);
    return () => {
      cancelAnimationFrame(asked);
      window.removeEventListener('scroll', later);
      window.removeEventListener('resize', later);
    };
  }, [count, height]);
  return [list, range];
}

function useNarrow() {
  const [narrow, setNarrow] = useState(NARROW.matches);
  useEffect(() => {
    const changed = () => setNarrow(NARROW.matches);
    NARROW.addEventListener('change', changed);
    return () => NARROW.removeEventListener('change', changed);
  }, []);
  return narrow;
}

function Row({ entry, index, top, height }) {
  const { info } = entry;
  const wait = waited(entry);
  const state = !info.active ? ' off' : info.waiting ? ' hot' : '';
  return html`<div class="row${state}" role="row" aria-rowindex=${index + 2} style=${{ transform: `translateY(${top}px)`, height: `${height}px` }}>
    <div class="name" role="cell">
      <a href=${limitLink(info.name)} data-index=${index} title=${info.description || info.name}>${info.name}</a><${Badges} info=${info} />
    </div>
    <div class="occupancy" role="cell"><${Bar} info=${info} /></div>
    <div class="used number" role="cell"><b>${number(info.active_slots)}</b><span class="soft"> of ${number(info.limit)}</span></div>
    <div class="free number" role="cell">${info.active ? number(free(info)) : '–'}<span class="unit"> free</span></div>
    <div class="waiting number" role="cell">${info.waiting ? number(info.waiting) : html`<span class="soft">0</span>`}<span class="unit"> waiting</span></div>
    <div class="oldest number" role="cell">${wait < 0 ? html`<span class="soft">–</span>` : duration(wait)}</div>
    <div class="grants number" role="cell">${perSecond(grantRate(entry))}<span class="unit"> grants/s</span></div>
  </div>`;
}

const COLUMNS = [
  ['name', 'Limit', 'name'], ['occupancy', 'Held, spent, free', 'saturation'], ['used number', 'In use', 'used'], ['free number', 'Free', ''],
  ['waiting number', 'Waiting', 'waiting'], ['oldest number', 'Longest wait', 'oldest'], ['grants number', 'Grants/s', 'rate'],
];

function List({ text, show, sort }) {
  const narrow = useNarrow();
  const height = narrow ? 92 : 52;
  const state = useOrder(text, show, sort);
  const found = state.found.filter((entry) => limits.has(entry.info.id));
  const [list, [first, last]] = useWindowing(found.length, height);
  const move = (event) => {
    const at = Number(event.target.dataset?.index ?? -1);
    const to = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: found.length - 1 }[event.key];
    if (at < 0 || to === undefined || to < 0 || to >= found.length) return;
    event.preventDefault();
    const place = list.current.getBoundingClientRect().top + to * height;
    if (place < 160 || place > window.innerHeight - 2 * height) window.scrollBy(0, place - window.innerHeight / 2);
    requestAnimationFrame(() => requestAnimationFrame(() => list.current?.querySelector(`a[data-index="${to}"]`)?.focus({ preventScroll: true })));
  };
  const hold = (held) => () => {
    state.held = held;
  };
  return html`<div class="limits" role="table" aria-label="Limits" aria-rowcount=${found.length + 1} onKeyDown=${move}
      onPointerEnter=${hold(true)} onPointerLeave=${hold(false)} onFocusIn=${hold(true)} onFocusOut=${hold(false)}>
    <div class="head" role="row" aria-rowindex="1">
      ${COLUMNS.map(
        ([kind, title, order]) => html`<div class=${kind} role="columnheader" aria-sort=${order && order === sort ? (order === 'name' ? 'ascending' : 'descending') : undefined}>
          ${order ? html`<button type="button" class="plain" onClick=${() => setQuery({ sort: order === 'saturation' ? '' : order })}>${title}</button>` : title}
        </div>`,
      )}
    </div>
    <div class="rows" role="rowgroup" ref=${list} style=${{ height: `${found.length * height}px` }}>
      ${found.slice(first, last).map(
        (entry, offset) => html`<${Row} key=${entry.info.id} entry=${entry} index=${first + offset} top=${(first + offset) * height} height=${height} />`,
      )}
    </div>
    ${!found.length && html`<div role="row"><p class="none" role="cell">No limit is like that. <button type="button" onClick=${() => setQuery({ q: '', show: '' })}>Show all ${number(limits.size)}</button></p></div>`}
  </div>`;
}

const FIRST = [
  ['Shell', 'ebbgate limit create database --limit 5\nebbgate run --limit database -- ./job.sh'],
  ['Python', 'from ebbgate.sync import concurrency\n\nwith concurrency("database"):\n    ...'],
];

export function Overview() {
  const { query } = route.value;
  const text = query.get('q') ?? '';
  const show = FILTERS[query.get('show')] ? query.get('show') : 'all';
  const sort = ORDERS[query.get('sort')] ? query.get('sort') : 'saturation';
  const search = useRef(null);
  useEffect(() => {
    const key = (event) => {
      const typing = event.target.closest?.('input, textarea, select, dialog');
      if (event.key === '/' && !typing) {
        event.preventDefault();
        search.current?.focus();
      }
    };
    document.addEventListener('keydown', key);
    return () => document.removeEventListener('keydown', key);
  }, []);
  void members.value;
  if (!loaded.value) return html`<${Loading} />`;
  if (!limits.size) {
    return html`<${Empty} title="No limits yet">
      <p>A limit lets so many programs through at once, or so many a minute. Create the first one here, or in a shell.</p>
      <p><a class="button primary" href="#/create">Create a limit</a></p>
      <${Code} samples=${FIRST} />
    <//>`;
  }
  const down = (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'Enter') return;
    event.preventDefault();
    const first = document.querySelector('a[data-index="0"]');
    if (event.key === 'Enter' && first) go(first.getAttribute('href').slice(1));
    else first?.focus();
  };
  return html`
    <h1 class="unseen">Limits</h1>
    <${Totals} show=${show} />
    <div class="tools" role="search">
      <input ref=${search} type="search" placeholder="Search limits" aria-label="Search limits" title="Press / to search" value=${text}
        onInput=${(event) => setQuery({ q: event.target.value })} onKeyDown=${down} />
      <label>Show <select value=${show} onChange=${(event) => setQuery({ show: event.target.value === 'all' ? '' : event.target.value })}>
        ${Object.entries(FILTERS).map(([name, [, title]]) => html`<option value=${name}>${title}</option>`)}
      </select></label>
      <label>Sort by <select value=${sort} onChange=${(event) => setQuery({ sort: event.target.value === 'saturation' ? '' : event.target.value })}>
        ${Object.entries(ORDERS).map(([name, [, title]]) => html`<option value=${name}>${title}</option>`)}
      </select></label>
      <span class="soft legend"><i class="held"></i>held <i class="spent"></i>spent <i class="free"></i>free</span>
    </div>
    <${List} text=${text} show=${show} sort=${sort} />`;
}

function Loading() {
  return html`<div class="loading" role="status"><span class="unseen">Loading limits</span>
    ${[0, 1, 2, 3, 4, 5].map(() => html`<div class="ghost"></div>`)}
  </div>`;
}

export const summary = () => {
  const sum = totals();
  return sum.waiting ? `${plural(sum.waiting, 'waits', 'wait')}` : sum.full ? `${sum.full} full` : '';
};
