// A small drawing of grants over time, for a limit that is not there yet.
import { plural, span } from './format.js';
import { html } from './html.js';

const WIDTH = 460;
const LANE = 20;
const LANES_MAX = 5;

// Eight callers come at once, each stays a while: who is in is filled, who waits is an outline.
function lanes(slots) {
  const callers = Math.min(slots, LANES_MAX) + 3;
  const stay = 130;
  const free = Array.from({ length: Math.min(slots, LANES_MAX) }, (_, index) => index * 9);
  return Array.from({ length: callers }, (_, index) => {
    free.sort((a, b) => a - b);
    const came = index * 9;
    const from = slots === 0 ? Infinity : Math.max(came, free[0]);
    const length = stay + ((index * 37) % 60);
    if (slots > 0) free[0] = from + length;
    return { came, from, to: from + length };
  });
}

function Concurrency({ slots }) {
  const rows = lanes(slots);
  const height = rows.length * LANE + 6;
  const end = Math.max(WIDTH - 10, ...rows.map((row) => (Number.isFinite(row.to) ? row.to : 0)));
  const x = (at) => 5 + (Math.min(at, end) / end) * (WIDTH - 10);
  const said = slots === 0 ? 'Everybody waits.' : `${plural(rows.length, 'caller')} come almost at once; the first ${Math.min(slots, LANES_MAX)} are in, the others wait until one leaves.`;
  return html`<figure><svg class="picture" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label=${said}>
    ${rows.map((row, index) => html`
      ${row.from > row.came && html`<rect class="waits" x=${x(row.came)} y=${index * LANE + 8} width=${x(row.from) - x(row.came)} height="6" rx="3" />`}
      ${Number.isFinite(row.from) && html`<rect class="in" x=${x(row.from)} y=${index * LANE + 4} width=${Math.max(2, x(row.to) - x(row.from) - 2)} height="14" rx="4" />`}`)}
  </svg><figcaption class="soft small">${said}${slots > LANES_MAX ? ` Drawn with ${LANES_MAX}.` : ''}</figcaption></figure>`;
}

function Rate({ slots, decay }) {
  const height = 110;
  const drawn = Math.min(slots, 40);
  const steady = 10;
  const burst = slots > 1 ? 0.14 : 0.02;
  const step = (1 - burst) / (steady + 1);
  const grants = [
    ...Array.from({ length: drawn }, (_, index) => [0.02, index + 1]),
    ...Array.from({ length: steady }, (_, index) => [burst + (index + 1) * step, drawn + index + 1]),
  ];
  const top = drawn + steady;
  const x = (share) => 6 + share * (WIDTH - 12);
  const y = (count) => height - 20 - (count / top) * (height - 30);
  const steps = grants.map(([at, count], index) => `${index ? 'H' : `M${x(0)} ${y(0)} H`}${x(at).toFixed(1)} V${y(count).toFixed(1)}`).join(' ');
  const said = `${plural(slots, 'grant')} at once, then one every ${span(1 / decay)}.`;
  return html`<figure><svg class="picture" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label=${said}>
    <path class="axis" d=${`M${x(0)} ${y(0)} H${x(1)}`} />
    <path class="steps" d=${steps} />
    ${grants.slice(drawn).map(([at, count]) => html`<circle class="dot" cx=${x(at)} cy=${y(count)} r="3.5" />`)}
    <circle class="dot" cx=${x(0.02)} cy=${y(drawn)} r="3.5" />
    <text x=${x(0.04)} y=${y(drawn) - 6}>${slots} at once</text>
    <text x=${x(1)} y=${height - 5} text-anchor="end">${span(steady / decay)} later</text>
  </svg><figcaption class="soft small">Grants if everybody asks as fast as they can: ${said}</figcaption></figure>`;
}

export function Picture({ kind, slots, decay }) {
  if (!Number.isInteger(slots) || slots < 0) return null;
  if (kind === 'rate') return decay > 0 && slots > 0 ? html`<${Rate} slots=${slots} decay=${decay} />` : null;
  return html`<${Concurrency} slots=${slots} />`;
}
