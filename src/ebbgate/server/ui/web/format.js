// Numbers, durations, instants and rates as people read and write them.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

export const number = (value) => whole.format(value);

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export function perSecond(value) {
  if (value === 0) return '0';
  if (value >= 100) return whole.format(value);
  return value < 0.05 ? '<0.1' : value.toFixed(1);
}

// A duration in seconds, in its two largest units.
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  const total = Math.max(0, seconds);
  if (total < 1) return total < 0.01 ? '0 s' : `${total.toFixed(total < 0.1 ? 2 : 1)} s`;
  const s = Math.floor(total);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor(s / 60) % 60).padStart(2, '0')} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

// The same for what goes on: below a second it would only flicker.
export const wait = (seconds) => (seconds < 1 ? '< 1 s' : duration(seconds));

// The same for a setting, which does not run: 60 is "1 min", and 1.5 keeps its fraction.
export function span(seconds) {
  const exact = Math.round(seconds * 1000) / 1000;
  if (exact >= 1 && exact < 10 && !Number.isInteger(exact)) return `${fine.format(exact)} s`;
  return duration(exact).replace(/ 0?0 (s|min|h)$/, '');
}

// The time of an instant of today, the day of an earlier one.
export function timeOrDay(instant) {
  const at = new Date(instant);
  if (at.toDateString() === new Date().toDateString()) return at.toLocaleTimeString('en-GB');
  return at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' });
}

export const fullTime = (instant) => `${new Date(instant).toISOString().replace('T', ' ').slice(0, 19)} UTC`;

export const shortId = (id) => id.slice(-8);

const UNITS = {
  s: 1, sec: 1, second: 1, min: 60, minute: 60, h: 3600, hour: 3600, d: 86400, day: 86400,
};

// Slots per second for a text such as 60/hour or 900/15min; null if it is not a rate above 0. As the server reads it.
export function parseRate(text) {
  const plain = text.trim();
  const match = /^(\d+(?:\.\d+)?)\s*(?:\/|per)\s*(\d{0,6})\s*([a-z]+?)s?$/.exec(plain);
  const unit = match && (UNITS[match[3]] ?? UNITS[`${match[3]}s`]);
  const decay = unit ? Number(match[1]) / (unit * Number(match[2] || 1)) : 0;
  return decay > 0 && decay < Infinity ? decay : null;
}

// A decay as a person would write it: in the unit in which it equals the limit, else in the shortest in which it is whole.
export function rate(decay, limit = 0) {
  if (decay === 0) return '';
  let shortest = '';
  for (const [unit, seconds] of [['s', 1], ['min', 60], ['hour', 3600], ['day', 86400]]) {
    const count = decay * seconds;
    const rounded = Math.round(count);
    if (rounded < 1 || Math.abs(count - rounded) >= 1e-9 * rounded) continue;
    if (rounded === limit) return `${rounded}/${unit}`;
    shortest ||= `${rounded}/${unit}`;
  }
  return shortest || `${Number(decay.toPrecision(4))}/s`;
}

const WAYS = { page: 'These pages', rest: 'REST', prefect: 'Prefect', client: 'A program' };

// Who has changed something: how, from where, and with which key.
export function doerName(doer) {
  const place = doer.host && (doer.way === 'client' ? `${doer.host} · ${doer.pid}` : `from ${doer.host}`);
  if (doer.way === 'client') return place || WAYS.client;
  return [WAYS[doer.way], place].filter(Boolean).join(' ');
}

export function holderName(holder) {
  if (holder.labels.api === 'prefect') return holder.labels.address ? `Prefect from ${holder.labels.address}` : 'Prefect';
  if (holder.host) return holder.pid ? `${holder.host} · ${holder.pid}` : holder.host;
  return holder.labels.address ? `REST from ${holder.labels.address}` : holder.session;
}
