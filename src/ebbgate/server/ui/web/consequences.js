// What a change would do, in numbers, from what is known of holders and waiters now.
import { duration, number, plural, span } from './format.js';

const slotsOf = (lease, name) => lease.limits.find((one) => one.name === name)?.slots ?? 0;
const waitsFor = (lease, name) => lease.lacks ?? lease.limits.map((one) => one.name);

// How many of the waiters get in at once when there is so much room, in their order; nobody is stepped over.
function entering(waiters, name, room) {
  let left = room;
  let count = 0;
  for (const lease of waiters) {
    const asked = slotsOf(lease, name);
    const elsewhere = waitsFor(lease, name).some((lacked) => lacked !== name);
    if (asked > left && !elsewhere) break;
    if (asked > left || elsewhere) continue;
    left -= asked;
    count += 1;
  }
  return count;
}

function keeping(info) {
  return info.held_slots
    ? `Nobody is put out: ${plural(info.held_slots, 'held slot')} ${info.held_slots === 1 ? 'stays' : 'stay'} held until given back.`
    : 'Nobody holds a slot now.';
}

const stillWaiting = (count) => `${plural(count, 'waiter')} ${count === 1 ? 'goes' : 'go'} on waiting.`;
const getIn = (count, atLeast = false) => `${atLeast ? 'At least ' : ''}${plural(count, 'waiter')} ${count === 1 ? 'gets' : 'get'} in at once.`;

export function resizing(info, to, waiters) {
  if (!Number.isInteger(to) || to < 0) return ['Slots are a whole number, 0 or more.'];
  if (to === info.limit) return ['Nothing changes.'];
  const used = info.held_slots + info.spent_slots;
  const lines = [keeping(info)];
  if (!info.active) return [...lines, 'The limit is disabled, so it stops nobody whatever its size is.'];
  if (to === 0) {
    lines.push('The gate closes: nobody gets in.');
    if (info.waiting) lines.push(stillWaiting(info.waiting));
    return lines;
  }
  const never = waiters.filter((lease) => slotsOf(lease, info.name) > to).length;
  const fitting = waiters.filter((lease) => slotsOf(lease, info.name) <= to);
  const count = entering(fitting, info.name, Math.floor(to - used));
  if (never) lines.push(`${plural(never, 'waiter')} ${never === 1 ? 'asks' : 'ask'} for more than ${number(to)} and ${never === 1 ? 'is' : 'are'} refused: that could never fit.`);
  if (used > to) lines.push(`It drains: nobody gets in until ${plural(Math.ceil(used - to), 'slot')} more than the new size ${Math.ceil(used - to) === 1 ? 'is' : 'are'} given back.`);
  if (info.waiting) lines.push(count ? getIn(count, count === waiters.length && info.waiting > count) : stillWaiting(info.waiting - never));
  else if (used <= to) lines.push(`${plural(Math.floor(to - used), 'slot')} ${Math.floor(to - used) === 1 ? 'is' : 'are'} then free.`);
  return lines;
}

export function toggling(info, waiters) {
  if (info.active) {
    const alone = waiters.filter((lease) => waitsFor(lease, info.name).every((name) => name === info.name)).length;
    const count = info.waiting > waiters.length && alone === waiters.length ? info.waiting : alone;
    const lines = ['The limit stops nobody any more, until it is enabled again.', keeping(info)];
    if (info.waiting) lines.push(getIn(count));
    if (info.waiting - count > 0) lines.push(`${plural(info.waiting - count, 'waiter')} ${info.waiting - count === 1 ? 'waits' : 'wait'} for other limits, too.`);
    return lines;
  }
  const lines = [`At most ${plural(info.limit, 'slot')} from now on.`, keeping(info)];
  if (info.held_slots > info.limit) lines.push(`Nobody gets in until ${plural(info.held_slots - info.limit, 'slot')} ${info.held_slots - info.limit === 1 ? 'has' : 'have'} been given back.`);
  return lines;
}

export function deleting(info, holders, holdersMore) {
  const count = `${number(holders.length)}${holdersMore ? ' or more' : ''}`;
  const lines = ['It cannot be undone. Programs that name the limit then run unprotected, or fail if they are strict.'];
  if (holders.length) lines.push(`${count} ${holders.length === 1 && !holdersMore ? 'lease forgets' : 'leases forget'} the limit; their ${plural(info.held_slots, 'slot')} ${info.held_slots === 1 ? 'is' : 'are'} gone.`);
  if (info.waiting) lines.push(`${plural(info.waiting, 'waiter')} ${info.waiting === 1 ? 'goes' : 'go'} on without it.`);
  if (!holders.length && !info.waiting) lines.push('Nobody holds a slot, and nobody waits.');
  return lines;
}

export function revoking(lease, info, waiters) {
  const slots = slotsOf(lease, info.name);
  if (lease.state === 'waiting') {
    return ['It is taken out of the queue, and its program is told so with an error.', `${plural(Math.max(0, info.waiting - 1), 'waiter')} ${info.waiting - 1 === 1 ? 'is' : 'are'} left.`];
  }
  const room = info.limit - info.held_slots - info.spent_slots + slots;
  const count = info.active ? entering(waiters, info.name, Math.floor(room)) : 0;
  const lines = [
    `Its ${plural(slots, 'slot')} of ${info.name} ${slots === 1 ? 'comes' : 'come'} free at once.`,
    'Its program is told, but what it is doing goes on unless it looks: two may then be at work where one should be.',
  ];
  const others = lease.limits.filter((one) => one.name !== info.name);
  if (others.length) lines.push(`It loses ${others.map((one) => `${plural(one.slots, 'slot')} of ${one.name}`).join(', ')}, too.`);
  lines.push(count ? getIn(count) : info.waiting ? stillWaiting(info.waiting) : 'Nobody waits for it.');
  return lines;
}

export function cooling(info, seconds) {
  if (!(seconds > 0)) return ['It takes a number of seconds.'];
  const lines = [`Nobody gets in for ${span(seconds)}, whatever room there is.`, keeping(info)];
  lines.push(info.waiting ? `${plural(info.waiting, 'waiter')} ${info.waiting === 1 ? 'keeps its place' : 'keep their places'}.` : 'Nobody waits now.');
  return lines;
}

export function decaying(info, decay) {
  if (decay === null) return ['Write the rate as 5/s, 100/min, 900/15min or 1000/day, or leave it empty.'];
  if (decay === info.slot_decay_per_second) return [];
  if (decay === 0) return [info.spent_slots > 0 ? `${number(Math.ceil(info.spent_slots))} spent slots come back at the old rate; then spending is an error.` : 'Spending from this limit becomes an error.'];
  const lines = [`Spent slots come back every ${span(1 / decay)}.`];
  if (info.spent_slots > 0) lines.push(`${number(Math.ceil(info.spent_slots))} spent slots stay spent; the last is back in ${duration(info.spent_slots / decay)}.`);
  return lines;
}
