// Every limit, the fullest first; what fits on the screen is asked for and drawn, so that ten thousand stay smooth.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { number, perSecond, plural, wait } from './format.js';
import { html } from './html.js';
import { useSight } from './live.js';
import { Badges, Bar, Code, Empty, free } from './parts.js';
import { go, limitLink, route, setQuery } from './route.js';
import { Spark } from './spark.js';
import { clock, secondsSince, totals } from './state.js';

const SPARE_ROWS = 8;
const STEP = 50; // windows begin and end at such places, so that many look at the same ones
const COUNT_MAX = 200;
const NARROW = window.matchMedia('(max-width: 760px)');

const ORDERS = {
  saturation: 'Fullest first', name: 'Name', used: 'Most slots in use', waiting: 'Most waiting', oldest: 'Longest wait', grants: 'Most grants',
};
const FILTERS = {
  all: 'All', full: 'Full', waiting: 'With waiters', used: 'In use', idle: 'Idle', rates: 'Rate limits', off: 'Disabled or cooling',
};

function Totals({ show }) {
  void clock.value;
  const sum = totals.value;
  const pick = (name) => setQuery({ show: show === name ? '' : name });
  return html`<dl class="totals">
    <div><dt>Limits</dt><dd>${number(sum.limits)}</dd></div>
    <div class=${sum.full ? 'hot' : ''}><dt>Full</dt><dd><button type="button" class="plain" aria-pressed=${show === 'full'} onClick=${() => pick('full')}>${number(sum.full)}</button></dd></div>
    <div class=${sum.waiting ? 'hot' : ''}><dt>Waiting</dt><dd><button type="button" class="plain" aria-pressed=${show === 'waiting'} onClick=${() => pick('waiting')}>${number(sum.waiting)}</button></dd></div>
    <div><dt>Longest wait</dt><dd>${sum.waiting_since ? wait(secondsSince(sum.waiting_since)) : '–'}</dd></div>
    <div><dt>Grants per second</dt><dd>${perSecond(sum.grants_per_second)}</dd></div>
  </dl>`;
}

// The rows of one list that are known, by their place in it. Only those around what is seen are kept up to date;
// where others were is remembered, so that one can scroll back. `held` keeps rows where they are, under a hand.
function useRows(text, show, sort, first, count) {
  const query = JSON.stringify([text, show, sort]);
  const kept = useRef({ query: '', at: [], rows: new Map(), count: null, held: false, order: null });
  const state = kept.current;
  const sight = useSight({ kind: 'limits', search: text, show, sort, first, count });
  if (state.query !== query && sight.loaded) Object.assign(state, { query, at: [], rows: new Map(), count: null, order: null });
  state.isCurrent = state.query === query && sight.loaded;
  if (!state.isCurrent) return state;
  for (const [id, info] of sight.rows) state.rows.set(id, info);
  const comesOrGoes = state.count !== sight.matching;
  if (state.order !== sight.order && (!state.held || comesOrGoes || state.first !== first)) {
    if (comesOrGoes) state.at = [];
    sight.order.forEach((id, index) => {
      state.at[first + index] = id;
    });
    Object.assign(state, { order: sight.order, first, count: sight.matching });
  }
  return state;
}

// Which rows are seen, as the number of the first and of the one after the last.
function useWindowing(count, height) {
  const list = useRef(null);
  const [range, setRange] = useState([0, 40]);
  const place = () => {
    if (!list.current) return;
    const above = -list.current.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / height));
    const last = Math.ceil((above + window.innerHeight) / height);
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

function Row({ info, index, top, height }) {
  void clock.value;
  const state = !info.active ? ' off' : info.waiting ? ' hot' : '';
  return html`<div class="row${state}" role="row" aria-rowindex=${index + 2} style=${{ transform: `translateY(${top}px)`, height: `${height}px` }}>
    <div class="name" role="cell">
      <a href=${limitLink(info.name)} data-index=${index} title=${info.description || info.name}>${info.name}</a><${Badges} info=${info} />${info.description && html`<span class="about soft small">${info.description}</span>`}
    </div>
    <div class="occupancy" role="cell"><${Bar} info=${info} /></div>
    <div class="past" role="cell"><${Spark} info=${info} /></div>
    <div class="used number" role="cell"><b>${number(info.active_slots)}</b><span class="soft"> of ${number(info.limit)}</span></div>
    <div class="free number" role="cell">${info.active ? number(free(info)) : '–'}<span class="unit"> free</span></div>
    <div class="waiting number" role="cell">${info.waiting ? number(info.waiting) : html`<span class="soft">0</span>`}<span class="unit"> waiting</span></div>
    <div class="oldest number" role="cell">${info.waiting_since ? wait(secondsSince(info.waiting_since)) : html`<span class="soft">–</span>`}</div>
    <div class="grants number" role="cell">${info.grants_per_second ? perSecond(info.grants_per_second) : html`<span class="soft">0</span>`}<span class="unit"> grants/s</span></div>
  </div>`;
}

const COLUMNS = [
  ['name', 'Limit', 'name'], ['occupancy', 'Held, spent, free', 'saturation'], ['past', 'Last 15 minutes', ''], ['used number', 'In use', 'used'], ['free number', 'Free', ''],
  ['waiting number', 'Waiting', 'waiting'], ['oldest number', 'Longest wait', 'oldest'], ['grants number', 'Grants/s', 'grants'],
];

function Ghost({ index, top, height }) {
  return html`<div class="row ghostly" role="row" aria-rowindex=${index + 2} style=${{ transform: `translateY(${top}px)`, height: `${height}px` }}><div role="cell"><span class="unseen">Loading</span></div></div>`;
}

// `wanted` is the row that is to have the focus, or be opened, as soon as it is there.
function List({ text, show, sort, wanted }) {
  const narrow = useNarrow();
  const height = narrow ? 92 : 52;
  const [count, setCount] = useState(COUNT_MAX);
  const [list, [top, bottom]] = useWindowing(count, height);
  const first = Math.floor(Math.max(0, top - SPARE_ROWS) / STEP) * STEP;
  const span = Math.min(COUNT_MAX, Math.ceil((bottom + SPARE_ROWS - first) / STEP) * STEP);
  const state = useRows(text, show, sort, first, Math.max(STEP, span));
  useEffect(() => {
    if (state.count !== null) setCount(state.count);
  }, [state.count]);
  useEffect(() => {
    const link = wanted.current?.query === state.query && state.isCurrent && list.current?.querySelector(`a[data-index="${wanted.current.index}"]`);
    if (!link) return;
    if (wanted.current.opens) go(link.getAttribute('href').slice(1));
    else link.focus({ preventScroll: true });
    wanted.current = null;
  });
  const [, draw] = useState(0);
  const move = (event) => {
    const at = Number(event.target.dataset?.index ?? -1);
    const to = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: state.count - 1 }[event.key];
    if (at < 0 || to === undefined || to < 0 || to >= state.count) return;
    event.preventDefault();
    const place = list.current.getBoundingClientRect().top + to * height;
    if (place < 160 || place > window.innerHeight - 2 * height) window.scrollBy(0, place - window.innerHeight / 2);
    wanted.current = { index: to, opens: false, query: state.query };
    draw((old) => old + 1);
  };
  const hold = (held) => () => {
    state.held = held;
  };
  const drawn = [];
  const there = new Set();
  for (let index = Math.max(0, top - SPARE_ROWS); index < Math.min(state.count ?? 0, bottom + SPARE_ROWS); index += 1) {
    const id = state.at[index];
    const info = there.has(id) ? null : state.rows.get(id); // places that are not up to date may name one twice
    there.add(id);
    const place = { index, top: index * height, height };
    drawn.push(info ? html`<${Row} key=${info.id} info=${info} ...${place} />` : html`<${Ghost} key=${`ghost ${index}`} ...${place} />`);
  }
  if (state.count === null) return html`<${Loading} />`;
  return html`<div class="limits" role="table" aria-label="Limits" aria-rowcount=${state.count + 1} onKeyDown=${move}
      onPointerEnter=${hold(true)} onPointerLeave=${hold(false)} onFocusIn=${hold(true)} onFocusOut=${hold(false)}>
    <div class="head" role="row" aria-rowindex="1">
      ${COLUMNS.map(
        ([kind, title, order]) => html`<div class=${kind} role="columnheader" aria-sort=${order && order === sort ? (order === 'name' ? 'ascending' : 'descending') : undefined}>
          ${order ? html`<button type="button" class="plain" onClick=${() => setQuery({ sort: order === 'saturation' ? '' : order })}>${title}</button>` : title}
        </div>`,
      )}
    </div>
    <div class="rows" role="rowgroup" ref=${list} style=${{ height: `${state.count * height}px` }}>${drawn}</div>
    ${!state.count && html`<div role="row"><p class="none" role="cell">No limit is like that. <button type="button" onClick=${() => setQuery({ q: '', show: '' })}>Show all ${number(totals.value.limits)}</button></p></div>`}
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
  const wanted = useRef(null);
  const [, redraw] = useState(0);
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
  if (!totals.value) return html`<${Loading} />`;
  if (!totals.value.limits) {
    return html`<${Empty} title="No limits yet">
      <p>A limit lets so many programs through at once, or so many a minute. Create the first one here, or in a shell.</p>
      <p><a class="button primary" href="#/create">Create a limit</a></p>
      <${Code} samples=${FIRST} />
    <//>`;
  }
  const type = (event) => {
    wanted.current = null;
    setQuery({ q: event.target.value });
  };
  const down = (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'Enter') return;
    event.preventDefault();
    wanted.current = { index: 0, opens: event.key === 'Enter', query: JSON.stringify([event.target.value, show, sort]) };
    redraw((old) => old + 1);
  };
  return html`
    <h1 class="unseen">Limits</h1>
    <${Totals} show=${show} />
    <div class="tools" role="search">
      <input ref=${search} type="search" placeholder="Search limits" aria-label="Search limits" title="Press / to search" value=${text}
        onInput=${type} onKeyDown=${down} />
      <label>Show <select value=${show} onChange=${(event) => setQuery({ show: event.target.value === 'all' ? '' : event.target.value })}>
        ${Object.entries(FILTERS).map(([name, title]) => html`<option value=${name}>${title}</option>`)}
      </select></label>
      <label>Sort by <select value=${sort} onChange=${(event) => setQuery({ sort: event.target.value === 'saturation' ? '' : event.target.value })}>
        ${Object.entries(ORDERS).map(([name, title]) => html`<option value=${name}>${title}</option>`)}
      </select></label>
      <span class="soft legend"><i class="held"></i>held <i class="spent"></i>spent <i class="free"></i>free</span>
    </div>
    <${List} text=${text} show=${show} sort=${sort} wanted=${wanted} />`;
}

function Loading() {
  return html`<div class="loading" role="status"><span class="unseen">Loading limits</span>
    ${[0, 1, 2, 3, 4, 5].map(() => html`<div class="ghost"></div>`)}
  </div>`;
}

export const summary = (sum) => (sum.waiting ? plural(sum.waiting, 'waits', 'wait') : sum.full ? `${number(sum.full)} full` : '');
