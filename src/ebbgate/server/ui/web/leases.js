// Holders and the queue of one limit.
import { duration, fullTime, holderName, number, plural, shortId } from './format.js';
import { html } from './html.js';
import { clock, secondsSince, secondsUntil } from './state.js';

export const PAGE = 100; // holders, and as many waiters
export const SHOWN_MAX = 1000;
const NAMED_MAX = 2;

const slotsOf = (lease, name) => lease.limits.find((one) => one.name === name)?.slots ?? 0;

function Who({ lease }) {
  const labels = Object.entries(lease.holder.labels).filter(([name]) => name !== 'address' || lease.holder.host);
  return html`<div class="who"><b>${holderName(lease.holder)}</b>
    ${lease.holder.away_since && html`<span class="badge bad" title=${fullTime(lease.holder.away_since)}>away ${duration(secondsSince(lease.holder.away_since))}</span>`}
    ${labels.map(([name, value]) => html`<span class="label">${name}=${value}</span>`)}
    <span class="soft small" title=${lease.id}>lease …${shortId(lease.id)}</span>
  </div>`;
}

function Asks({ lease, name }) {
  const others = lease.limits.filter((one) => one.name !== name);
  return html`${number(slotsOf(lease, name))}${others.map((one) => html`<span class="soft small with"> + ${number(one.slots)} of ${one.name}</span>`)}`;
}

function Countdown({ lease }) {
  void clock.value;
  const left = secondsUntil(lease.expires);
  const share = Math.min(1, Math.max(0, left / lease.lease_duration_seconds));
  return html`<span class=${left < 10 ? 'soon' : ''} title=${`Ends ${fullTime(lease.expires)} unless it is renewed`}>${duration(left)}</span>
    <progress max="1" value=${share} aria-label=${`${Math.round(share * 100)} % of the lease is left`}></progress>`;
}

function More({ leases, shown, more }) {
  if (!more) return null;
  return html`<p class="none">The first ${number(shown)} are shown. ${leases.more && html`<button type="button" onClick=${leases.more}>Show more</button>`}</p>`;
}

export function Holders({ info, leases, revoke }) {
  void clock.value;
  const rows = leases.held;
  return html`<section class="panel" aria-labelledby="holders">
    <h2 id="holders" tabindex="-1">Holders <span class="count">${number(rows.length)}${leases.heldMore ? '+' : ''}</span></h2>
    ${!leases.loaded && html`<div class="ghost" role="status"><span class="unseen">Loading holders</span></div>`}
    ${leases.loaded && !rows.length && html`<p class="none">${info.slot_decay_per_second > 0 ? 'Nobody holds a slot. What is spent comes back with time, and belongs to nobody.' : 'Nobody holds a slot.'}</p>`}
    ${rows.length > 0 && html`<div class="scroll" tabindex="0" role="group" aria-labelledby="holders"><table>
      <thead><tr><th scope="col">Holder</th><th scope="col" class="number">Slots</th><th scope="col" class="number">Held for</th><th scope="col" class="number">Countdown</th><th scope="col" class="number">Fencing token</th><th scope="col"><span class="unseen">Revoke</span></th></tr></thead>
      <tbody>${rows.map(
        (lease) => html`<tr key=${lease.id}>
          <td data-title="Holder" class="wide"><${Who} lease=${lease} /></td>
          <td data-title="Slots" class="number"><${Asks} lease=${lease} name=${info.name} /></td>
          <td data-title="Held for" class="number" title=${fullTime(lease.granted)}>${duration(secondsSince(lease.granted))}</td>
          <td data-title="Countdown" class="number countdown"><${Countdown} lease=${lease} /></td>
          <td data-title="Fencing token" class="number token">${lease.fencing_token}</td>
          <td class="do"><button type="button" class="danger quiet" aria-label=${`Revoke the lease of ${holderName(lease.holder)}`} onClick=${() => revoke(lease)}>Revoke</button></td>
        </tr>`,
      )}</tbody>
    </table></div>`}
    <${More} leases=${leases} shown=${rows.length} more=${leases.heldMore} />
  </section>`;
}

// Names of holders, each once: "REST from 10.0.0.7 (3 leases), gpu-2 · 441".
function named(holders) {
  const counts = new Map();
  for (const { holder } of holders) {
    const name = holderName(holder);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const names = [...counts].map(([name, count]) => (count > 1 ? `${name} (${plural(count, 'lease')})` : name));
  const rest = holders.length - [...counts.values()].slice(0, NAMED_MAX).reduce((sum, count) => sum + count, 0);
  return `${names.slice(0, NAMED_MAX).join(', ')}${rest ? ` and ${plural(rest, 'other')}` : ''}`;
}

// Why a waiter is not in: what it lacks, and whose leases stand before it.
function Why({ lease, info, leases }) {
  const lacks = lease.lacks ?? [];
  const holders = (lease.blocked_by ?? []).map((id) => leases.held.find((held) => held.id === id)).filter(Boolean);
  const count = lease.blocked_by?.length ?? 0;
  const elsewhere = lacks.filter((name) => name !== info.name);
  const parts = [];
  if (lacks.includes(info.name)) {
    if (info.limit === 0) parts.push('the limit is closed');
    else if (count && lease.position > 1) parts.push(`behind ${plural(lease.position - 1, 'waiter')}`);
    else if (holders.length) parts.push(`${named(holders)} ${count === 1 ? 'holds' : 'hold'} it`);
    else if (lease.kind === 'spend' || !count) parts.push(info.slot_decay_per_second > 0 ? 'slots must come back' : 'its turn has not come');
    else parts.push(`${plural(count, 'lease')} ${count === 1 ? 'holds' : 'hold'} it`);
  } else if (!elsewhere.length) {
    parts.push('those before it have not got in');
  }
  if (elsewhere.length) parts.push(`lacks ${elsewhere.join(', ')}`);
  return html`<span>${parts.join('; ')}</span>`;
}

export function Queue({ info, leases, revoke }) {
  void clock.value;
  const rows = leases.waiting;
  return html`<section class="panel" aria-labelledby="queue">
    <h2 id="queue" tabindex="-1">Queue <span class="count">${number(Math.max(info.waiting, rows.length))}</span></h2>
    ${!leases.loaded && html`<div class="ghost" role="status"><span class="unseen">Loading the queue</span></div>`}
    ${leases.loaded && !rows.length && html`<p class="none">Nobody waits.</p>`}
    ${rows.length > 0 && html`<div class="scroll" tabindex="0" role="group" aria-labelledby="queue"><table>
      <thead><tr><th scope="col" class="number">Place</th><th scope="col">Waiter</th><th scope="col" class="number">Slots</th><th scope="col" class="number">Waits</th><th scope="col">Because</th><th scope="col" class="number">Estimate</th><th scope="col"><span class="unseen">Remove</span></th></tr></thead>
      <tbody>${rows.map(
        (lease) => html`<tr key=${lease.id}>
          <td data-title="Place" class="number place wide">${lease.position}${lease.priority !== 0 && html`<span class="soft small"> priority ${lease.priority}</span>`}</td>
          <td data-title="Waiter" class="wide"><${Who} lease=${lease} /></td>
          <td data-title="Slots" class="number"><${Asks} lease=${lease} name=${info.name} /></td>
          <td data-title="Waits" class="number" title=${fullTime(lease.asked)}>${duration(secondsSince(lease.asked))}</td>
          <td data-title="Because" class="wide"><${Why} lease=${lease} info=${info} leases=${leases} /></td>
          <td data-title="Estimate" class="number">${lease.estimate_seconds === null ? html`<span class="soft">unknown</span>` : `≤ ${duration(lease.estimate_seconds)}`}</td>
          <td class="do"><button type="button" class="danger quiet" aria-label=${`Remove ${holderName(lease.holder)} from the queue`} onClick=${() => revoke(lease)}>Remove</button></td>
        </tr>`,
      )}</tbody>
    </table></div>`}
    <${More} leases=${leases} shown=${rows.length} more=${leases.waitingMore} />
  </section>`;
}
