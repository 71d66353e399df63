// Charts over time: uPlot with the colours of the page. Fetched only where a chart is shown.
import uPlot from 'uplot';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { html } from './html.js';

const HEIGHT = 176;
const COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];
const SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];
const dark = window.matchMedia('(prefers-color-scheme: dark)');

const two = (value) => String(value).padStart(2, '0');
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

function times(plot, splits, axis, space, step) {
  let last = '';
  return splits.map((seconds) => {
    const at = new Date(seconds * 1000);
    const date = day.format(at);
    const isNew = date !== last && (last !== '' || step >= 43_200);
    last = date;
    if (step >= 86_400 || (isNew && at.getHours() + at.getMinutes() === 0)) return date;
    const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
    return step < 60 ? `${clock}:${two(at.getSeconds())}` : clock;
  });
}

// A colour as the canvas wants it: what a token means on this ground.
function colours() {
  const probe = document.createElement('span');
  document.body.append(probe);
  const of = (token) => {
    probe.style.color = `var(--${token})`;
    return getComputedStyle(probe).color;
  };
  const found = Object.fromEntries(['held', 'spent', 'hot', 'bad', 'note', 'good', 'line', 'soft', 'text'].map((token) => [token, of(token)]));
  probe.remove();
  return found;
}

const faint = (colour, share) => colour.replace(/^rgba?\(([^)/]+)\)$/, (_, parts) => `rgba(${parts.split(',').slice(0, 3).join(',')}, ${share})`);

// Points without neighbours, which a line would not show.
function alone(plot, index) {
  const values = plot.data[index];
  const found = [];
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] != null && values[at - 1] == null && values[at + 1] == null) found.push(at);
  }
  return found;
}

function lines(series, colour) {
  return series.map(({ tone, dash, fill = 0, width = 1.75, steps = false }) => ({
    stroke: colour[tone], width, dash, fill: fill ? faint(colour[tone], fill) : undefined,
    paths: steps ? uPlot.paths.stepped({ align: 1 }) : undefined,
    points: { show: true, filter: alone, size: 4, width: 0, fill: colour[tone] },
  }));
}

function top(most, whole) {
  if (!(most > 0)) return whole ? 1 : 0.001;
  return whole && most <= 4 ? Math.ceil(most + 0.15) : most * 1.08;
}

function options({ series, unit, most, span, zoom, point, axisValues }, width) {
  const colour = colours();
  const font = '12px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
  const axis = { stroke: colour.soft, font, grid: { stroke: colour.line, width: 1 }, ticks: { stroke: colour.line, width: 1, size: 4 } };
  return {
    width, height: HEIGHT, padding: [8, 20, 0, 0],
    legend: { show: false },
    cursor: {
      sync: { key: 'history', setSeries: false }, y: false, drag: { x: true, y: false, setScale: false },
      points: { size: 8, width: 2, fill: (plot, index) => plot.series[index].stroke(plot, index) },
    },
    scales: { x: { time: true, range: () => span() }, y: { range: (plot, low, high) => [0, top(Math.max(high ?? 0, most()), unit !== 'seconds')] } },
    axes: [
      { ...axis, size: 26, space: width < 400 ? 54 : 76, values: times },
      { ...axis, size: 54, space: 32, values: axisValues, incrs: { seconds: SECONDS, count: COUNTS }[unit] },
    ],
    series: [{}, ...lines(series, colour)],
    hooks: {
      setCursor: [(plot) => point(plot.cursor.idx ?? null)],
      setSelect: [
        (plot) => {
          const { left, width: wide } = plot.select;
          if (wide < 6) return;
          const from = plot.posToVal(left, 'x');
          const to = plot.posToVal(left + wide, 'x');
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          zoom(from, to);
        },
      ],
    },
  };
}

// One chart. `data` is columns, times first; `most` returns what the scale must hold besides.
export function Chart({ label, series, data, unit, most = () => 0, span, zoom, point, axisValues }) {
  const place = useRef(null);
  const plot = useRef(null);
  const now = useRef({});
  now.current = { data, most, span, zoom, point };
  const kind = JSON.stringify(series);
  useLayoutEffect(() => {
    const make = () => {
      plot.current?.destroy();
      const given = {
        series, unit, axisValues,
        most: () => now.current.most(), span: () => now.current.span, zoom: (...at) => now.current.zoom(...at), point: (at) => now.current.point(at),
      };
      plot.current = new uPlot(options(given, place.current.clientWidth), now.current.data, place.current);
    };
    make();
    const sized = new ResizeObserver(() => {
      const width = place.current?.clientWidth;
      if (width && width !== plot.current.width) plot.current.setSize({ width, height: HEIGHT });
    });
    sized.observe(place.current);
    dark.addEventListener('change', make);
    return () => {
      sized.disconnect();
      dark.removeEventListener('change', make);
      plot.current.destroy();
      plot.current = null;
    };
  }, [kind, unit]);
  useEffect(() => {
    plot.current?.setData(data);
  }, [data]);
  return html`<div class="plot" ref=${place} role="img" aria-label=${label}></div>`;
}
