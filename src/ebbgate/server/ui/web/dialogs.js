// The questions before anything is changed at a limit.
import { useRef, useState } from 'preact/hooks';
import { ask, leasePath, limitPath } from './api.js';
import { cooling, decaying, deleting, resizing, revoking, toggling } from './consequences.js';
import { holderName, parseRate, rate } from './format.js';
import { html } from './html.js';
import { Consequences, Dialog } from './parts.js';
import { go, limitLink, route } from './route.js';

export function Resize({ info, waiters, close }) {
  const [slots, setSlots] = useState(String(info.limit));
  const to = slots.trim() === '' ? NaN : Number(slots);
  const lines = resizing(info, to, waiters);
  const bad = !Number.isInteger(to) || to < 0 || to === info.limit;
  const act = () => ask('PATCH', limitPath(info.id), { limit: to });
  return html`<${Dialog} title=${`Resize ${info.name}`} verb=${bad ? 'Resize' : `Resize to ${to}`} disabled=${bad} act=${act} close=${close}>
    <label>Slots, now ${info.limit}
      <input type="number" min="0" max="1000000000" step="1" required autofocus value=${slots} onInput=${(event) => setSlots(event.target.value)} />
    </label>
    <${Consequences} lines=${lines} />
  <//>`;
}

export function Edit({ info, waiters, close }) {
  const [name, setName] = useState(info.name);
  const [slots, setSlots] = useState(String(info.limit));
  const [before] = useState(rate(info.slot_decay_per_second, info.limit));
  const [decay, setDecay] = useState(before);
  const [description, setDescription] = useState(info.description);
  const to = slots.trim() === '' ? NaN : Number(slots);
  const unchangedDecay = decay.trim() === before;
  const wanted = decay.trim() === '' ? 0 : unchangedDecay ? info.slot_decay_per_second : parseRate(decay);
  const changes = {};
  if (name !== info.name) changes.name = name;
  if (to !== info.limit) changes.limit = to;
  if (!unchangedDecay) changes.slot_decay_per_second = decay.trim() === '' ? 0 : decay.trim();
  if (description !== info.description) changes.description = description;
  const lines = [];
  if (name !== info.name) lines.push(`Programs that ask for ${info.name} find it no more; holders and waiters stay.`);
  if (to !== info.limit) lines.push(...resizing(info, to, waiters));
  lines.push(...decaying(info, wanted));
  const nothing = Object.keys(changes).length === 0;
  const act = async () => {
    const after = await ask('PATCH', limitPath(info.id), changes);
    if (after.name !== info.name && route.value.name === info.name) go(limitLink(after.name).slice(1));
  };
  return html`<${Dialog} title=${`Edit ${info.name}`} verb="Save" disabled=${nothing || wanted === null || !(to >= 0)} act=${act} close=${close}>
    <label>Name <input required maxlength="200" value=${name} onInput=${(event) => setName(event.target.value)} /></label>
    <label>Slots <input type="number" min="0" max="1000000000" step="1" required value=${slots} onInput=${(event) => setSlots(event.target.value)} /></label>
    <label>Slots that come back <input value=${decay} placeholder="none; or 60/hour" onInput=${(event) => setDecay(event.target.value)} /></label>
    <label>Description <textarea rows="2" maxlength="1000" value=${description} onInput=${(event) => setDescription(event.target.value)}></textarea></label>
    <${Consequences} lines=${nothing ? ['Nothing changes.'] : lines.length ? lines : ['Holders, waiters and spent slots stay as they are.']} />
  <//>`;
}

export function Toggle({ info, waiters, close }) {
  const verb = info.active ? 'Disable' : 'Enable';
  const act = () => ask('PATCH', limitPath(info.id), { active: !info.active });
  return html`<${Dialog} title=${`${verb} ${info.name}?`} verb=${verb} danger=${info.active} act=${act} close=${close}>
    <${Consequences} lines=${toggling(info, waiters)} />
  <//>`;
}

export function CoolDown({ info, close }) {
  const [text, setText] = useState('30');
  const [why, setWhy] = useState('');
  const seconds = Number(text);
  const act = () => ask('POST', `${limitPath(info.id)}/cool-down`, { duration_seconds: seconds, why });
  return html`<${Dialog} title=${`Cool ${info.name} down`} verb="Cool down" disabled=${!(seconds > 0)} act=${act} close=${close}>
    <label>Seconds <input type="number" min="0.1" max="86400" step="any" required autofocus value=${text} onInput=${(event) => setText(event.target.value)} /></label>
    <label>Why, for others who look <input maxlength="200" value=${why} onInput=${(event) => setWhy(event.target.value)} /></label>
    <${Consequences} lines=${cooling(info, seconds)} />
  <//>`;
}

export function EndCoolDown({ info, close }) {
  const act = () => ask('POST', `${limitPath(info.id)}/cool-down`, { duration_seconds: 0 });
  return html`<${Dialog} title=${`Let people into ${info.name} again?`} verb="End the cool-down" act=${act} close=${close}>
    <${Consequences} lines=${[info.waiting ? `${info.waiting} in the queue get in as far as there is room.` : 'Nobody waits now.']} />
  <//>`;
}

export function Delete({ info, holders, holdersMore, close }) {
  const [typed, setTyped] = useState('');
  const used = holders.length > 0 || info.waiting > 0;
  const act = async () => {
    await ask('DELETE', `${limitPath(info.id)}${used ? '?force=true' : ''}`);
    go('/');
  };
  return html`<${Dialog} title=${`Delete ${info.name}?`} verb="Delete" danger disabled=${used && typed !== info.name} act=${act} close=${close}>
    <${Consequences} lines=${deleting(info, holders, holdersMore)} />
    ${used && html`<label>It is in use. Type its name to delete it all the same <input autocomplete="off" spellcheck="false" autofocus value=${typed} onInput=${(event) => setTyped(event.target.value)} /></label>`}
  <//>`;
}

export function Revoke({ lease, info, waiters, close }) {
  const waits = lease.state === 'waiting';
  const gone = useRef(false);
  const act = async () => {
    await ask('POST', `${leasePath(lease.id)}/revoke`);
    gone.current = true;
  };
  const leave = () => {
    close();
    if (gone.current) document.getElementById(waits ? 'queue' : 'holders')?.focus(); // its button goes with its row
  };
  const title = waits ? `Remove ${holderName(lease.holder)} from the queue?` : `Revoke the lease of ${holderName(lease.holder)}?`;
  return html`<${Dialog} title=${title} verb=${waits ? 'Remove' : 'Revoke'} danger act=${act} close=${leave}>
    <${Consequences} lines=${revoking(lease, info, waiters)} />
  <//>`;
}
