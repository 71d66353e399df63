// One limit: who holds it, who waits for it and why, and what can be done about it.
import { useEffect, useRef, useState } from 'preact/hooks';
import { CoolDown, Delete, Edit, EndCoolDown, Resize, Revoke, Toggle } from './dialogs.js';
import { duration, fullTime, number, perSecond, plural, rate, span, wait } from './format.js';
import { History } from './history.js';
import { html } from './html.js';
import { Holders, PAGE, Queue, SHOWN_MAX } from './leases.js';
import { useSight } from './live.js';
import { Badges, Bar, Code, Empty, free, isCooling } from './parts.js';
import { activityLink } from './route.js';
import { samples } from './samples.js';
import { clock, looked, secondsSince } from './state.js';

export function limitSummary(info) {
  const used = `${info.active_slots}/${info.limit}`;
  return info.waiting ? `${used}, ${info.waiting} waiting` : used;
}

function Facts({ info }) {
  void clock.value;
  const decay = info.slot_decay_per_second;
  return html`<dl class="totals">
    <div><dt>Held</dt><dd>${number(info.held_slots)}<span class="soft"> of ${number(info.limit)}</span></dd></div>
    ${(decay > 0 || info.spent_slots > 0) && html`<div><dt>Spent</dt><dd>${number(Math.ceil(info.spent_slots))}</dd></div>`}
    <div><dt>Free</dt><dd>${info.active ? number(free(info)) : 'not enforced'}</dd></div>
    <div class=${info.waiting ? 'hot' : ''}><dt>Waiting</dt><dd>${number(info.waiting)}</dd></div>
    <div><dt>Longest wait</dt><dd>${info.waiting_since ? wait(secondsSince(info.waiting_since)) : '–'}</dd></div>
    <div><dt>Grants per second</dt><dd>${perSecond(info.grants_per_second)}</dd></div>
    ${decay > 0 && html`<div><dt>One back every</dt><dd>${span(1 / decay)}</dd></div>`}
  </dl>`;
}

function Now({ info }) {
  void clock.value;
  const lines = [];
  if (!info.active) lines.push('This limit is disabled: it stops nobody.');
  else if (isCooling(info)) lines.push(`Nobody is let in while it cools down${info.cool_down_why ? `: ${info.cool_down_why}` : '.'}`);
  else if (info.limit === 0) lines.push('Its size is 0: nobody gets in, everybody waits.');
  else if (info.held_slots > info.limit) lines.push(`It drains: ${plural(info.held_slots - info.limit, 'slot')} more than its size ${info.held_slots - info.limit === 1 ? 'is' : 'are'} held, from before it was made smaller.`);
  const decay = info.slot_decay_per_second;
  if (decay > 0 && info.spent_slots > 0) {
    const part = info.spent_slots - Math.floor(info.spent_slots) || 1;
    lines.push(`The next spent slot is back in ${duration(part / decay)}, the last in ${duration(info.spent_slots / decay)}.`);
  }
  return lines.map((line) => html`<p class="now">${line}</p>`);
}

// Holders and waiters as far as they are told; `more` asks for more of them.
function leasesOf({ leases }, more) {
  return {
    loaded: leases !== null, held: leases?.held ?? [], waiting: leases?.waiting ?? [],
    heldMore: leases?.held_more ?? false, waitingMore: leases?.waiting_more ?? false, more,
  };
}

export function LimitPage({ name }) {
  const [count, setCount] = useState(PAGE);
  const sight = useSight({ kind: 'limit', limit: name, leases: count });
  const shown = useRef(sight); // while more of the queue is asked for, what was known stays
  if (sight.loaded) shown.current = sight;
  const [open, setOpen] = useState(null);
  const info = shown.current.limit;
  useEffect(() => window.scrollTo(0, 0), []);
  useEffect(() => {
    looked.value = info;
  }, [info]);
  useEffect(() => () => {
    looked.value = null;
  }, []);
  if (!shown.current.loaded) return html`<div class="loading" role="status"><span class="unseen">Loading</span><div class="ghost tall"></div><div class="ghost"></div></div>`;
  if (!info) return html`<${Empty} title=${`No limit is named ${name}`}><p>It may have been deleted or renamed.</p><p><a class="button" href="#/">See all limits</a></p><//>`;
  const leases = leasesOf(shown.current, count < SHOWN_MAX ? () => setCount(Math.min(SHOWN_MAX, count * 4)) : null);
  const close = () => setOpen(null);
  const known = { info, close, waiters: leases.waiting, holders: leases.held, holdersMore: leases.heldMore };
  const Asked = open && { Resize, Edit, Toggle, CoolDown, EndCoolDown, Delete, Revoke }[open.kind];
  const button = (kind, title, more = '') => html`<button type="button" class=${more} onClick=${() => setOpen({ kind })}>${title}</button>`;
  return html`
    <nav class="crumbs" aria-label="Where you are"><a href="#/">Limits</a> / <span>${info.name}</span></nav>
    <div class="title">
      <h1>${info.name}</h1><${Badges} info=${info} />
      <div class="buttons" role="group" aria-label="Change this limit">
        ${button('Resize', 'Resize')} ${button('Edit', 'Edit')}
        ${isCooling(info) ? button('EndCoolDown', 'End cool-down') : button('CoolDown', 'Cool down')}
        ${button('Toggle', info.active ? 'Disable' : 'Enable')} ${button('Delete', 'Delete', 'danger quiet')}
      </div>
    </div>
    ${info.description && html`<p class="description">${info.description}</p>`}
    <${Bar} info=${info} large />
    <${Now} info=${info} />
    <${Facts} info=${info} />
    <div class="sides">
      <${Holders} info=${info} leases=${leases} revoke=${(lease) => setOpen({ kind: 'Revoke', lease })} />
      <${Queue} info=${info} leases=${leases} revoke=${(lease) => setOpen({ kind: 'Revoke', lease })} />
    </div>
    <${History} info=${info} />
    <section class="panel"><h2>Use it</h2><${Code} samples=${samples(info.name, info.limit, rate(info.slot_decay_per_second, info.limit))} /></section>
    <p><a href=${activityLink(info.name)}>What happened at ${info.name}</a></p>
    <p class="soft small">Created ${fullTime(info.created)}, changed ${fullTime(info.updated)}. Id <code>${info.id}</code></p>
    ${Asked && html`<${Asked} ...${known} ...${open} />`}`;
}
