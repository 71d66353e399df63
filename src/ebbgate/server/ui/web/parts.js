// Small pieces that several pages show.
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { Problem } from './api.js';
import { duration, number, rate } from './format.js';
import { html } from './html.js';
import { clock, secondsUntil } from './state.js';

const SLOTS_DRAWN_MAX = 40;

export function free(info) {
  return Math.max(0, info.limit - info.active_slots);
}

export function isCooling(info) {
  return info.cool_down_until !== null && secondsUntil(info.cool_down_until) > 0;
}

export function occupancyText(info) {
  const spent = info.spent_slots > 0 ? `, ${number(Math.ceil(info.spent_slots))} spent` : '';
  const of = `${number(info.held_slots)} held${spent}, ${number(free(info))} free of ${number(info.limit)}`;
  return info.active ? of : `${of}; not enforced`;
}

function markings(share) {
  const gap = 'var(--panel)';
  return `repeating-linear-gradient(to right, ${gap} 0 1px, #0000 1px calc(${share}% - 1px), ${gap} calc(${share}% - 1px) ${share}%)`;
}

// Held, spent and free slots; one mark a slot while they are few.
export function Bar({ info, large = false }) {
  const most = Math.max(info.limit, info.held_slots + info.spent_slots, 1);
  const held = (100 * info.held_slots) / most;
  const spent = (100 * info.spent_slots) / most;
  const kind = `bar${large ? ' large' : ''}${info.active ? '' : ' off'}${info.limit === 0 ? ' closed' : ''}`;
  const marks = most > 1 && most <= SLOTS_DRAWN_MAX && Number.isInteger(most);
  return html`<div class=${kind} role="img" aria-label=${occupancyText(info)} title=${occupancyText(info)}>
    <span class="held" style=${{ width: `${held}%` }}></span>
    <span class="spent" style=${{ width: `${spent}%`, left: `${held}%` }}></span>
    ${marks && html`<span class="marks" style=${{ backgroundImage: markings(100 / most) }}></span>`}
  </div>`;
}

export function Badges({ info }) {
  void clock.value;
  return html`
    ${info.slot_decay_per_second > 0 && html`<span class="badge rate">${rate(info.slot_decay_per_second, info.limit)}</span>`}
    ${!info.active && html`<span class="badge off">disabled</span>`}
    ${info.active && info.limit === 0 && html`<span class="badge bad">closed</span>`}
    ${isCooling(info) &&
    html`<span class="badge cool" title=${info.cool_down_why}>cools down ${duration(secondsUntil(info.cool_down_until))}</span>`}
  `;
}

export function Empty({ title, children }) {
  return html`<section class="empty">
    <svg class="gate" viewBox="0 0 120 70" aria-hidden="true">
      <path d="M20 62V34a40 26 0 0 1 80 0v28" /><path class="water" d="M32 50q7-7 14 0t14 0 14 0 14 0M32 60q7-7 14 0t14 0 14 0 14 0" />
    </svg>
    <h1>${title}</h1>${children}
  </section>`;
}

export function Trouble({ problem, retry = null }) {
  return html`<div class="trouble" role="alert">
    <p>${problem.message}</p>
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

export function Copy({ text }) {
  const [said, say] = useState('Copy');
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say('Copied');
    } catch {
      say('Select it to copy');
    }
    setTimeout(() => say('Copy'), 2000);
  };
  return html`<button type="button" class="copy" onClick=${copy} aria-live="polite">${said}</button>`;
}

export function Code({ samples }) {
  const [chosen, choose] = useState(0);
  const shown = samples[Math.min(chosen, samples.length - 1)];
  return html`<div class="code">
    <div class="choices" role="group" aria-label="Language">
      ${samples.map(
        ([name], index) =>
          html`<button type="button" aria-pressed=${index === chosen} onClick=${() => choose(index)}>${name}</button>`,
      )}
      <${Copy} text=${shown[1]} />
    </div>
    <pre tabindex="0" aria-label=${shown[0]}><code>${shown[1]}</code></pre>
  </div>`;
}

// A question to which the answer does something; what it would do stands in it, in numbers.
export function Dialog({ title, verb, danger = false, disabled = false, act, close, children }) {
  const dialog = useRef(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useLayoutEffect(() => { // before the next key comes
    dialog.current.showModal();
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await act();
      dialog.current?.close();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
      setBusy(false);
    }
  };
  return html`<dialog ref=${dialog} onClose=${close} aria-labelledby="dialog-title">
    <form onSubmit=${submit}>
      <h2 id="dialog-title">${title}</h2>
      ${children}
      ${problem && html`<${Trouble} problem=${problem} />`}
      <div class="actions">
        <button type="button" onClick=${() => dialog.current.close()}>Keep as it is</button>
        <button type="submit" class=${danger ? 'danger' : 'primary'} disabled=${busy || disabled}>${busy ? 'One moment' : verb}</button>
      </div>
    </form>
  </dialog>`;
}

export function Consequences({ lines }) {
  return html`<ul class="consequences" aria-live="polite">${lines.map((line) => html`<li>${line}</li>`)}</ul>`;
}
