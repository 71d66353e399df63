// The frame around every page: where one can go, and whether what is shown is live.
import { render } from 'preact';
import { useEffect } from 'preact/hooks';
import { effect } from '@preact/signals';
import { Activity } from './activity.js';
import { Create } from './create.js';
import { duration } from './format.js';
import { html } from './html.js';
import { LimitPage, limitSummary } from './limit.js';
import { follow, retryNow } from './live.js';
import { Login, logOut, lookForAccess } from './login.js';
import { Overview, summary } from './overview.js';
import { Empty } from './parts.js';
import { go, route } from './route.js';
import { access, clock, connection, keyId, looked, lostSince, totals } from './state.js';

const PAGES = [['limits', '#/', 'Limits'], ['activity', '#/activity', 'Activity'], ['create', '#/create', 'New limit']];

function Connection() {
  void clock.value;
  const state = connection.value;
  const text = { connecting: 'Connecting', live: 'Live', lost: 'Not connected', paused: 'Paused', refused: 'Logged out' }[state];
  return html`<span class="connection ${state}" role="status"><i></i>${text}</span>`;
}

function LostNote() {
  void clock.value;
  if (connection.value !== 'lost') return null;
  const seconds = (Date.now() - lostSince.value) / 1000;
  if (seconds < 1) return null;
  return html`<div class="away" role="alert">
    <p>The server has not answered for ${duration(seconds)}. ${totals.value ? 'What you see is as it was then.' : ''} It is tried again and again.</p>
    <button type="button" onClick=${retryNow}>Try now</button>
  </div>`;
}

function Page() {
  const { page, name } = route.value;
  if (page === 'limits' && name) return html`<${LimitPage} key=${name} name=${name} />`;
  if (page === 'limits') return html`<${Overview} />`;
  if (page === 'activity') return html`<${Activity} key=${name} limit=${name} />`;
  if (page === 'create') return html`<${Create} />`;
  return html`<${Empty} title="There is no such page"><p><a href="#/">See all limits</a></p><//>`;
}

function App() {
  useEffect(() => {
    const key = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.('input, textarea, select, dialog')) return;
      const address = { g: '/', a: '/activity', n: '/create' }[event.key];
      if (address) go(address);
    };
    document.addEventListener('keydown', key);
    return () => document.removeEventListener('keydown', key);
  }, []);
  if (access.value === 'unknown') return html`<p class="boot" role="status">Ebbgate is loading.</p><${LostNote} />`;
  if (access.value === 'needed') return html`<${Login} />`;
  const { page } = route.value;
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), document.getElementById('main').focus())}>Skip to the page</a>
    <header class="top">
      <a class="brand" href="#/" aria-label="Ebbgate, all limits"><svg viewBox="0 0 32 32" aria-hidden="true"><path d="M7 27V13a9 9 0 0 1 18 0v14" /><path class="water" d="M11 21q2.5-3 5 0t5 0M11 26q2.5-3 5 0t5 0" /></svg><span>Ebbgate</span></a>
      <nav aria-label="Pages">
        ${PAGES.map(([id, address, title]) => html`<a href=${address} aria-current=${page === id ? 'page' : undefined}>${title}</a>`)}
      </nav>
      <div class="side"><${Connection} />
        ${access.value === 'in' && html`<button type="button" class="plain" onClick=${logOut} title="Logged in with the key ${keyId.value}">Log out</button>`}
      </div>
    </header>
    <${LostNote} />
    <main id="main" tabindex="-1"><${Page} /></main>`;
}

// The title and the icon tell how full it is, for tabs that are not looked at.
let drawn = '';
effect(() => {
  const { page, name } = route.value;
  const info = page === 'limits' && name ? looked.value : null;
  const all = totals.value;
  const said = info ? limitSummary(info) : all ? summary(all) : '';
  const place = info ? info.name : { activity: 'Activity', create: 'New limit' }[page] ?? '';
  document.title = [said, place, 'Ebbgate'].filter(Boolean).join(' · ');
  if (info) draw(info.active && info.limit ? Math.min(4, Math.ceil((info.active_slots / info.limit) * 4)) : 0, info.waiting > 0);
  else if (all) draw(all.quarters, all.waiting > 0);
});

function draw(quarters, waits) {
  const key = `${quarters}${waits}`;
  if (key === drawn) return;
  drawn = key;
  const height = quarters * 5;
  const colour = waits ? '#ffb454' : '#9fe3df';
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0b6b6f"/><rect x="9" y="${27 - height}" width="14" height="${height}" fill="${colour}"/><path d="M7 27V13a9 9 0 0 1 18 0v14" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>`;
  document.getElementById('icon').href = `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

async function begin() {
  try {
    await lookForAccess();
  } catch {
    if (connection.value !== 'lost') lostSince.value = Date.now();
    connection.value = 'lost';
    setTimeout(begin, 1000);
    return;
  }
  if (access.value !== 'needed') follow();
  else {
    const stop = access.subscribe((value) => {
      if (value === 'in') queueMicrotask(() => (stop(), follow()));
    });
  }
}

const root = document.getElementById('app');
root.replaceChildren();
render(html`<${App} />`, root);
begin();
