// The history of one limit: charts and the same numbers as a table.
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import { Problem, ask } from './api.js';
import { duration, number, perSecond, plural } from './format.js';
import { html } from './html.js';
import { Trouble } from './parts.js';
import { route, setQuery } from './route.js';
import { clock } from './state.js';

const RANGES = [
  ['15m', '15 min', 900], ['1h', '1 h', 3600], ['6h', '6 h', 21_600], ['24h', '24 h', 86_400], ['7d', '7 d', 604_800], ['30d', '30 d', 2_592_000],
];
const SECONDS_MIN = 60;
const SECONDS_MAX = 2_592_000;
const LIVE_MIN_MS = 5_000;
const LIVE_MAX_MS = 60_000;
const NO_PAST = 30 * 86_400;

const fine = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const level = (value) => (value === null || value === undefined ? '–' : value >= 100 ? number(value) : fine.format(value));
const wait = (value) => (value === null || value === undefined ? '–' : value === 0 ? 'none' : duration(value));
const short = (value) => (value === 0 ? '0' : value < 1 ? `${+(value * 1000).toPrecision(2)} ms` : value < 120 ? `${+value.toPrecision(3)} s` : value < 7200 ? `${+(value / 60).toPrecision(3)} min` : `${+(value / 3600).toPrecision(3)} h`);
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 2 });

const clockOf = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayOf = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short' });

function when(ms, stepSeconds, withDay) {
  const end = new Date(ms + stepSeconds * 1000);
  const cut = stepSeconds % 60 === 0 ? 5 : 8;
  const text = `${clockOf.format(ms).slice(0, cut)}–${clockOf.format(end).slice(0, cut)}`;
  return withDay ? `${dayOf.format(ms)}, ${text}` : text;
}

// Every step of the window, null where nothing was recorded: a chart needs to know where the gaps are.
function columns(found) {
  const step = found.step_seconds;
  const start = Date.parse(found.start) / 1000;
  const end = Date.parse(found.end) / 1000;
  const count = Math.round((end - start) / step);
  const points = new Array(count).fill(null);
  for (const point of found.points) points[Math.round((Date.parse(point.at) / 1000 - start) / step)] = point;
  const of = (read) => points.map((point) => (point === null ? null : read(point)));
  return {
    step, start, end, points,
    x: points.map((_, index) => start + index * step),
    held: of((point) => point.held_slots_mean), used: of((point) => point.held_slots_mean + point.spent_slots_mean),
    usedMax: of((point) => Math.max(point.held_slots_max, point.spent_slots_max, point.held_slots_mean + point.spent_slots_mean)),
    slots: of((point) => point.slots),
    waiting: of((point) => point.waiting_mean), waitingMax: of((point) => point.waiting_max),
    grants: of((point) => point.grants_per_second),
    p50: of((point) => point.wait_p50_seconds), p90: of((point) => point.wait_p90_seconds), p99: of((point) => point.wait_p99_seconds),
  };
}

const largest = (values) => values.reduce((most, value) => Math.max(most, value ?? 0), 0);

function charts(info, shown) {
  const spends = info.slot_decay_per_second > 0 || shown.points.some((point) => point?.spent_slots_max > 0);
  const holds = info.slot_decay_per_second === 0 || shown.points.some((point) => point?.held_slots_max > 0);
  const usedMost = largest(shown.usedMax);
  const sizeMost = largest(shown.slots);
  const showsSize = sizeMost <= Math.max(4 * usedMost, 10);
  const used = [
    { key: 'slots', name: 'size', tone: 'soft', dash: [5, 4], width: 1.25, steps: true, hidden: !showsSize, level },
    { key: 'usedMax', name: 'highest', tone: spends && !holds ? 'spent' : 'held', width: 0.75, level },
    ...(spends ? [{ key: 'used', name: holds ? 'held and spent' : 'spent', tone: 'spent', fill: 0.22, level }] : []),
    ...(holds ? [{ key: 'held', name: 'held', tone: 'held', fill: 0.28, level }] : []),
  ];
  return [
    { id: 'used', title: spends && !holds ? 'Spent slots' : 'Slots in use', unit: 'count', series: used },
    {
      id: 'waiting', title: 'Waiting', unit: 'count',
      series: [{ key: 'waitingMax', name: 'most', tone: 'hot', width: 0.75, level }, { key: 'waiting', name: 'on average', tone: 'hot', fill: 0.22, level }],
    },
    { id: 'grants', title: 'Grants per second', unit: 'rate', series: [{ key: 'grants', name: 'grants/s', tone: 'good', fill: 0.2, level: perSecond }] },
    {
      id: 'waits', title: 'Wait of those who got in, at most', unit: 'seconds',
      series: [
        { key: 'p99', name: 'p99', tone: 'bad', dash: [2, 3], level: wait }, { key: 'p90', name: 'p90', tone: 'spent', dash: [7, 3], level: wait },
        { key: 'p50', name: 'p50', tone: 'held', level: wait },
      ],
    },
  ];
}

const AXES = { count: (plot, values) => values.map((value) => compact.format(value)), rate: (plot, values) => values.map((value) => compact.format(value)), seconds: (plot, values) => values.map(short) };

function summaryOf({ series, title }, shown) {
  const told = series.map(({ key, name, level: say }) => {
    const known = shown[key].filter((value) => value !== null);
    return known.length ? `${name} ${say(known[known.length - 1])}, highest ${say(largest(known))}` : `${name}: nothing`;
  });
  return `${title}. ${told.join('; ')}. The table has every number.`;
}

function Panel({ Chart, chart, shown, at, setAt, zoom }) {
  const { title, series } = chart;
  const drawn = series.filter((one) => !one.hidden);
  const data = useMemo(() => [shown.x, ...drawn.map(({ key }) => shown[key])], [shown, drawn.length]);
  const index = at ?? latest(shown);
  return html`<figure class="chart">
    <figcaption><h3>${title}</h3>
      <span class="read">${series.map(
        ({ key, name, tone, dash, width, level: say }) => html`<span class="${tone}"><i class=${dash ? 'dashed' : width < 1 ? 'thin' : ''}></i>${name} <b>${say(shown[key][index])}</b></span>`,
      )}</span>
    </figcaption>
    <${Chart} label=${summaryOf(chart, shown)} series=${drawn.map(({ tone, dash, fill, width, steps }) => ({ tone, dash, fill, width, steps }))}
      data=${data} unit=${chart.unit} span=${[shown.start, shown.end]} zoom=${zoom} point=${setAt} axisValues=${AXES[chart.unit]} />
  </figure>`;
}

function latest(shown) {
  let index = shown.points.length - 1;
  while (index > 0 && shown.points[index] === null) index -= 1;
  return index;
}

function Table({ shown, spends }) {
  const rows = shown.points.filter((point) => point !== null).reverse();
  const long = shown.end - shown.start > 43_200;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="History as a table"><table class="past">
    <thead><tr><th scope="col">Time</th><th class="number" scope="col">Size</th><th class="number" scope="col">Held</th><th class="number" scope="col">most</th>
      ${spends && html`<th class="number" scope="col">Spent</th>`}
      <th class="number" scope="col">Waiting</th><th class="number" scope="col">most</th><th class="number" scope="col">Grants</th><th class="number" scope="col">per second</th>
      <th class="number" scope="col">p50 wait</th><th class="number" scope="col">p90</th><th class="number" scope="col">p99</th>
      <th class="number" scope="col">Left the queue</th><th class="number" scope="col">Denied</th></tr></thead>
    <tbody>${rows.map((point) => html`<tr key=${point.at}>
      <td class="wide">${when(Date.parse(point.at), shown.step, long)}</td>
      <td class="number" data-title="Size">${number(point.slots)}</td>
      <td class="number" data-title="Held">${level(point.held_slots_mean)}</td><td class="number" data-title="most held">${number(point.held_slots_max)}</td>
      ${spends && html`<td class="number" data-title="Spent">${level(point.spent_slots_mean)}</td>`}
      <td class="number" data-title="Waiting">${level(point.waiting_mean)}</td><td class="number" data-title="most waiting">${number(point.waiting_max)}</td>
      <td class="number" data-title="Grants">${number(point.grants)}</td><td class="number" data-title="per second">${perSecond(point.grants_per_second)}</td>
      <td class="number" data-title="p50 wait">${wait(point.wait_p50_seconds)}</td><td class="number" data-title="p90">${wait(point.wait_p90_seconds)}</td>
      <td class="number" data-title="p99">${wait(point.wait_p99_seconds)}</td>
      <td class="number" data-title="Left the queue">${number(point.left)}</td><td class="number" data-title="Denied">${number(point.denied)}</td>
    </tr>`)}</tbody></table></div>`;
}

// What is looked at: one of the ranges that end now, or a part of the past.
function useHistory(id, seconds, part) {
  const [state, setState] = useState({ found: null, problem: null, key: '' });
  const [again, setAgain] = useState(0);
  const key = `${id} ${seconds} ${part ? `${part[0]} ${part[1]}` : ''}`;
  useEffect(() => {
    let over = false;
    let timer = 0;
    const query = part ? { window_seconds: part[1] - part[0], until: new Date(part[1] * 1000).toISOString() } : { window_seconds: seconds };
    const look = async () => {
      let pause = LIVE_MIN_MS;
      try {
        const found = document.hidden ? null : await ask('GET', `/v1/limits/${id}/history?${new URLSearchParams(query)}`);
        if (over) return;
        if (found) {
          setState({ found: columns(found), problem: null, key });
          pause = Math.min(LIVE_MAX_MS, Math.max(LIVE_MIN_MS, found.step_seconds * 250));
        }
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        if (over) return;
        setState((old) => ({ ...old, problem }));
      }
      if (!part) timer = setTimeout(look, pause);
    };
    look();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [key, again]);
  return { ...state, isOld: state.key !== key, reload: () => setAgain((count) => count + 1) };
}

function useCharts() {
  const [Chart, setChart] = useState(null);
  useEffect(() => {
    let over = false;
    import('./charts.js').then((module) => over || setChart(() => module.Chart));
    return () => {
      over = true;
    };
  }, []);
  return Chart;
}

function Move({ part, seconds, setPart }) {
  const now = clock.peek() / 1000;
  const [from, to] = part ?? [now - seconds, now];
  const length = to - from;
  const middle = (from + to) / 2;
  const go = (start, end) => setPart(end >= now - 1 && start <= now - seconds + 1 && Math.abs(end - start - seconds) < 2 ? null : [start, end]);
  const buttons = [
    ['Earlier', '‹', () => go(from - length / 2, to - length / 2), from - length / 2 > now - NO_PAST],
    ['Later', '›', () => go(Math.min(to + length / 2, now) - length, Math.min(to + length / 2, now)), part !== null && to < now - 1],
    ['Zoom in', '+', () => go(middle - length / 4, middle + length / 4), length / 2 >= SECONDS_MIN],
    ['Zoom out', '−', () => go(Math.min(to + length / 2, now) - Math.min(length * 2, SECONDS_MAX), Math.min(to + length / 2, now)), length * 2 <= SECONDS_MAX],
  ];
  return html`<span class="move" role="group" aria-label="Move and zoom">
    ${buttons.map(([title, sign, act, can]) => html`<button type="button" aria-label=${title} title=${title} disabled=${!can} onClick=${act}>${sign}</button>`)}
    ${part && html`<button type="button" onClick=${() => setPart(null)}>Back to now</button>`}
  </span>`;
}

export function History({ info }) {
  const asked = route.value.query.get('range');
  const [range, , seconds] = RANGES.find(([id]) => id === asked) ?? RANGES[1];
  const isTable = route.value.query.get('view') === 'table';
  const [part, setPart] = useState(null);
  const [at, setAt] = useState(null);
  const { found: shown, problem, isOld, reload } = useHistory(info.id, seconds, part);
  const Chart = useCharts();
  const zoom = useCallback((from, to) => {
    const middle = (from + to) / 2;
    const half = Math.max(to - from, SECONDS_MIN) / 2;
    setPart([middle - half, middle + half]);
  }, []);
  const pick = (id) => {
    setPart(null);
    setQuery({ range: id === '1h' ? '' : id });
  };
  const nothing = shown && !shown.points.some((point) => point !== null);
  const index = shown && (at === null || at >= shown.points.length ? latest(shown) : at);
  return html`<section class="panel history" aria-labelledby="history" aria-busy=${isOld}>
    <div class="over">
      <h2 id="history">History</h2>
      <span class="ranges" role="group" aria-label="How far back">
        ${RANGES.map(([id, title]) => html`<button type="button" aria-pressed=${id === range && !part} onClick=${() => pick(id)}>${title}</button>`)}
      </span>
      <${Move} part=${part} seconds=${seconds} setPart=${setPart} />
      <span class="views" role="group" aria-label="How it is shown">
        <button type="button" aria-pressed=${!isTable} onClick=${() => setQuery({ view: '' })}>Charts</button>
        <button type="button" aria-pressed=${isTable} onClick=${() => setQuery({ view: 'table' })}>Table</button>
      </span>
    </div>
    ${problem && html`<${Trouble} problem=${problem} retry=${reload} />`}
    ${!shown && !problem && html`<div class="loading" role="status"><span class="unseen">Loading history</span><div class="ghost tall"></div></div>`}
    ${nothing && html`<p class="none">${part || seconds > NO_PAST ? 'Nothing was recorded in this time: no server ran, or it is more than 30 days ago.' : 'Nothing recorded yet: what happens from now on is seen here within seconds.'}</p>`}
    ${shown && !nothing && html`<p class="soft small time">${when(shown.x[index] * 1000, shown.step, true)}
      <span class="hint">${part ? ` · ${plural(shown.points.length, 'step')} of ${duration(shown.step)}` : ' · live'}${isTable ? '' : ' · drag across a chart to zoom'}</span></p>
      ${isTable ? html`<${Table} shown=${shown} spends=${info.slot_decay_per_second > 0} />`
        : html`<div class="charts">${charts(info, shown).map((chart) => (Chart
          ? html`<${Panel} key=${`${chart.id} ${chart.series.map((one) => one.key + one.hidden)}`} Chart=${Chart} chart=${chart} shown=${shown} at=${at === null ? null : index} setAt=${setAt} zoom=${zoom} />`
          : html`<div class="ghost tall" key=${chart.id}></div>`))}</div>`}`}
  </section>`;
}
