// What happens, as it happens: who got in, who waits, what ended and how, and who changed which limit.
import { useRef, useState } from 'preact/hooks';
import { doerName, duration, fullTime, holderName, number, plural, shortId, timeOrDay } from './format.js';
import { html } from './html.js';
import { useSight } from './live.js';
import { activityLink, go, limitLink, route, setQuery } from './route.js';
import { connection } from './state.js';

const PAGE = 200;
const KINDS = {
  all: ['Everything', () => true],
  granted: ['Got in', (kind) => kind === 'held' || kind === 'spent'],
  waiting: ['Began to wait', (kind) => kind === 'waiting'],
  ended: ['Gave back or gave up', (kind) => ['released', 'cancelled'].includes(kind)],
  lost: ['Lost or removed', (kind) => ['expired', 'revoked', 'lost_holder', 'refused'].includes(kind)],
  changes: ['Changes of limits', (kind) => ['created', 'changed', 'deleted'].includes(kind)],
};
const WORDS = {
  held: 'got in', waiting: 'waits', released: 'gave back', spent: 'spent', expired: 'expired', revoked: 'was revoked', cancelled: 'gave up',
  refused: 'was refused', lost_holder: 'lost its holder', created: 'created', changed: 'changed', deleted: 'deleted',
};
const TONES = { held: 'good', spent: 'good', waiting: 'wait', expired: 'bad', revoked: 'bad', lost_holder: 'bad', refused: 'bad', deleted: 'bad', created: 'note', changed: 'note' };

const SHOWN_ELSEWHERE = new Set(['address', 'api']); // in the name of who it was
const labelsOf = (event) => Object.entries(event.labels).filter(([name]) => !SHOWN_ELSEWHERE.has(name));
const limitsOf = (one) => (one.definition ? [{ name: one.definition.name, slots: 1 }] : one.event ? one.event.limits : []);
const keysOf = ({ definition, event }) => [definition?.by?.key, event?.key, event?.by?.key].filter(Boolean);

function whoOf({ definition, event }) {
  if (definition) return definition.by ? doerName(definition.by) : '';
  return holderName({ host: event.host, pid: event.pid, labels: event.labels, session: event.session });
}

function searchable(one) {
  if (one.kind === 'more') return '';
  const { event, definition } = one;
  const more = event ? [event.id, event.fencing_token ?? '', event.session, ...labelsOf(event).map((pair) => pair.join('='))] : [definition.changes];
  return [whoOf(one), ...keysOf(one), event?.by ? doerName(event.by) : '', ...limitsOf(one).map((limit) => limit.name), ...more].join(' ').toLocaleLowerCase();
}

// How long it took, as far as that says something.
function tookOf({ kind, event }) {
  if (!event) return '';
  if (event.held_seconds !== null) return `held ${duration(event.held_seconds)}`;
  if (kind === 'waiting' || event.waited_seconds === null) return '';
  if (kind === 'held' || kind === 'spent') return event.waited_seconds < 0.005 ? 'at once' : `waited ${duration(event.waited_seconds)}`;
  return `waited ${duration(event.waited_seconds)}`;
}

function Line({ one }) {
  if (one.kind === 'more') {
    return html`<li class="event"><time datetime=${one.at}>${timeOrDay(one.at)}</time><span class="soft more">and ${plural(one.count, 'more event')} of leases, too many to tell</span></li>`;
  }
  const { event, definition } = one;
  return html`<li class="event">
    <time datetime=${one.at} title=${fullTime(one.at)}>${timeOrDay(one.at)}</time>
    <span class="badge ${TONES[one.kind] ?? ''}">${WORDS[one.kind] ?? one.kind}</span>
    <span class="limits-of">${limitsOf(one).map((limit) => html`<span><a href=${limitLink(limit.name)}>${limit.name}</a>${limit.slots > 1 && html`<span class="soft"> × ${number(limit.slots)}</span>`} </span>`)}</span>
    <span class="by">${whoOf(one) ? html`<b>${whoOf(one)}</b>` : html`<span class="soft">by whom is not known here</span>`}${keysOf(one).slice(0, 1).map((key) => html`<span class="label">key ${key}</span>`)}${event && labelsOf(event).map(([name, value]) => html`<span class="label">${name}=${value}</span>`)}${event?.by && html`<span class="soft">by ${doerName(event.by)}${event.by.key && `, key ${event.by.key}`}</span>`}</span>
    <span class="took">${definition ? definition.changes : tookOf(one)}</span>
    <span class="soft small token" title=${event ? `lease ${event.id}` : ''}>${event && (event.fencing_token === null || event.state === 'waiting' ? `lease …${shortId(event.id)}` : `token ${event.fencing_token}`)}</span>
  </li>`;
}

export function Activity({ limit }) {
  const { query } = route.value;
  const text = query.get('q') ?? '';
  const kind = KINDS[query.get('kind')] ? query.get('kind') : 'all';
  const sight = useSight({ kind: 'events', limit });
  const [paused, setPaused] = useState(null); // what was there then
  const [shown, setShown] = useState(PAGE);
  const searched = useRef(new WeakMap());
  const wanted = text.toLocaleLowerCase().split(' ').filter(Boolean);
  const fits = (one) => {
    if (!KINDS[kind][1](one.kind)) return false;
    if (!wanted.length) return true;
    if (!searched.current.has(one)) searched.current.set(one, searchable(one));
    return wanted.every((word) => searched.current.get(one).includes(word));
  };
  const source = paused ?? sight.events;
  const found = [];
  for (let at = source.length - 1; at >= 0 && found.length <= shown; at -= 1) if (fits(source[at])) found.push(source[at]);
  const last = paused?.at(-1)?.serial ?? 0;
  const missed = paused ? sight.events.filter((one) => one.serial > last && fits(one)).length : 0;
  const toLimit = (event) => {
    const name = event.target.value.trim();
    const search = location.hash.split('?')[1];
    go(`${name ? activityLink(name).slice(1) : '/activity'}${search ? `?${search}` : ''}`);
  };
  const names = new Set(sight.events.slice(-1000).flatMap(limitsOf).map((one) => one.name));
  const none = sight.events.length ? 'Nothing that happened is like that.'
    : connection.value === 'live' ? 'Nothing has happened lately. What happens appears here at once.' : 'Not connected.';
  return html`
    <div class="title"><h1>Activity${limit && html` <span class="soft">of</span> <a href=${limitLink(limit)}>${limit}</a>`}</h1>
      <div class="buttons"><button type="button" aria-pressed=${paused !== null} onClick=${() => setPaused(paused ? null : sight.events.slice())}>${paused ? `Go on${missed ? ` (${number(missed)} new)` : ''}` : 'Pause'}</button></div>
    </div>
    <div class="tools" role="search">
      <input type="search" placeholder="Who: host, process, label, key, lease or token" aria-label="Search events" value=${text} onInput=${(event) => setQuery({ q: event.target.value })} />
      <label>What <select value=${kind} onChange=${(event) => setQuery({ kind: event.target.value === 'all' ? '' : event.target.value })}>
        ${Object.entries(KINDS).map(([name, [title]]) => html`<option value=${name}>${title}</option>`)}
      </select></label>
      <label>Limit <input class="short" list="limits-seen" placeholder="any" value=${limit} onChange=${toLimit} /></label>
      <datalist id="limits-seen">${[...names].sort().map((name) => html`<option value=${name} />`)}</datalist>
    </div>
    ${found.length
      ? html`<ol class="events panel" aria-label="Events, newest first">${found.slice(0, shown).map((one) => html`<${Line} key=${one.serial} one=${one} />`)}</ol>
          ${found.length > shown && html`<p class="none"><button type="button" onClick=${() => setShown(shown + 4 * PAGE)}>Show older ones</button></p>`}`
      : !sight.loaded && connection.value === 'live' ? html`<div class="ghost tall" role="status"><span class="unseen">Loading</span></div>` : html`<p class="none panel">${none}</p>`}`;
}
