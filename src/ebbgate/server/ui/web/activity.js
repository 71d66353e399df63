// What happens, as it happens: what became of leases, and what was changed at limits.
import { useRef, useState } from 'preact/hooks';
import { clockTime, fullTime, holderName, number, plural } from './format.js';
import { html } from './html.js';
import { limitLink, route, setQuery } from './route.js';
import { activity, activityNews, connection, limitNamed } from './state.js';

const SHOWN_MAX = 200;
const KINDS = {
  all: ['Everything', () => true],
  granted: ['Got in', (kind) => kind === 'held' || kind === 'spent'],
  waiting: ['Began to wait', (kind) => kind === 'waiting'],
  ended: ['Ended', (kind) => ['released', 'cancelled'].includes(kind)],
  lost: ['Lost or removed', (kind) => ['expired', 'revoked', 'lost_holder', 'refused'].includes(kind)],
  changes: ['Changes of limits', (kind) => ['created', 'changed', 'deleted'].includes(kind)],
};
const WORDS = {
  held: 'got in', waiting: 'waits', released: 'gave back', spent: 'spent', expired: 'expired', revoked: 'was revoked', cancelled: 'gave up',
  refused: 'was refused', lost_holder: 'lost its holder', created: 'limit created', changed: 'limit changed', deleted: 'limit deleted',
};
const TONES = { held: 'good', spent: 'good', waiting: 'wait', expired: 'bad', revoked: 'bad', lost_holder: 'bad', refused: 'bad', deleted: 'bad', created: 'note', changed: 'note' };

const labelsOf = (event) => Object.entries(event.labels).filter(([name]) => name !== 'address').map(([name, value]) => `${name}=${value}`).join(' ');
const who = (event) => holderName({ host: event.host, pid: event.pid, labels: event.labels, session: event.session });

function searchable(one) {
  if (one.limit) return `${one.limit} ${one.what}`;
  if (!one.event) return '';
  return `${one.event.limits.map((limit) => limit.name).join(' ')} ${who(one.event)} ${labelsOf(one.event)} ${one.event.id} ${one.event.fencing_token ?? ''}`;
}

function Name({ name }) {
  return limitNamed(name) ? html`<a href=${limitLink(name)}>${name}</a>` : html`<span>${name}</span>`;
}

function Line({ one }) {
  if (one.kind === 'more') {
    return html`<li class="event"><time datetime=${one.at}>${clockTime(one.at)}</time><span class="soft">and ${plural(one.count, 'more event')} of leases, too many to tell</span></li>`;
  }
  const { event } = one;
  return html`<li class="event">
    <time datetime=${one.at} title=${fullTime(one.at)}>${clockTime(one.at)}</time>
    <span class="badge ${TONES[one.kind] ?? ''}">${WORDS[one.kind] ?? one.kind}</span>
    ${event
      ? html`<span class="limits-of">${event.limits.map((limit) => html`<${Name} name=${limit.name} />${limit.slots > 1 && html`<span class="soft"> × ${number(limit.slots)}</span>`} `)}</span>
          <span class="by">${who(event)} <span class="soft small">${labelsOf(event)}</span></span>
          <span class="soft small token">${event.fencing_token === null || event.state === 'waiting' ? '' : `token ${event.fencing_token}`}</span>`
      : html`<span class="limits-of"><${Name} name=${one.limit} /></span><span class="by">${one.what}</span><span></span>`}
  </li>`;
}

export function Activity() {
  void activityNews.value;
  const { query } = route.value;
  const text = query.get('q') ?? '';
  const kind = KINDS[query.get('kind')] ? query.get('kind') : 'all';
  const [pausedAt, setPausedAt] = useState(null);
  const still = useRef([]);
  const wanted = text.toLocaleLowerCase();
  const fits = (one) => KINDS[kind][1](one.kind) && (!wanted || searchable(one).toLocaleLowerCase().includes(wanted));
  const source = pausedAt === null ? activity : still.current;
  const found = [];
  for (let at = source.length - 1; at >= 0 && found.length < SHOWN_MAX; at -= 1) if (fits(source[at])) found.push(source[at]);
  const missed = pausedAt === null ? 0 : activity.filter((one) => one.serial > pausedAt && fits(one)).length;
  const toggle = () => {
    if (pausedAt !== null) {
      setPausedAt(null);
      return;
    }
    still.current = activity.slice();
    setPausedAt(activity.at(-1)?.serial ?? 0);
  };
  return html`
    <div class="title"><h1>Activity</h1>
      <div class="buttons"><button type="button" aria-pressed=${pausedAt !== null} onClick=${toggle}>${pausedAt === null ? 'Pause' : `Go on${missed ? ` (${number(missed)} new)` : ''}`}</button></div>
    </div>
    <div class="tools" role="search">
      <input type="search" placeholder="Limit, host, process, lease or token" aria-label="Search events" value=${text} onInput=${(event) => setQuery({ q: event.target.value })} />
      <label>Show <select value=${kind} onChange=${(event) => setQuery({ kind: event.target.value === 'all' ? '' : event.target.value })}>
        ${Object.entries(KINDS).map(([name, [title]]) => html`<option value=${name}>${title}</option>`)}
      </select></label>
    </div>
    ${found.length
      ? html`<ol class="events panel" aria-label="Events, newest first">${found.map((one) => html`<${Line} key=${one.serial} one=${one} />`)}</ol>`
      : html`<p class="none panel">${activity.length ? 'Nothing that happened is like that.' : connection.value === 'live' ? 'Nothing has happened since this page was opened. What happens appears here at once.' : 'Not connected.'}</p>`}`;
}
