// A new limit; what it will do is told while one types.
import { useEffect, useState } from 'preact/hooks';
import { Problem, ask } from './api.js';
import { number, parseRate, plural, span } from './format.js';
import { html } from './html.js';
import { Code, Trouble } from './parts.js';
import { Picture } from './picture.js';
import { go, limitLink } from './route.js';
import { samples } from './samples.js';

const FORBIDDEN = /[/\\%&><?#]/;
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
const ASK_MS = 250;
const UUID = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;

function troubleWithName(name, isTaken) {
  if (!name) return '';
  if (name !== name.trim()) return 'A name neither begins nor ends with a space.';
  if (FORBIDDEN.test(name)) return 'A name has none of / \\ % & > < ? #.';
  if (UNSEEN.test(name)) return 'A name has no invisible characters: two names could look the same.';
  if (name === '.' || name === '..' || UUID.test(name)) return 'That could not be told from an address.';
  if (isTaken) return 'A limit of this name exists already.';
  return '';
}

// The name if there is a limit of it, as soon as one pauses to type.
function useTaken(name) {
  const [taken, setTaken] = useState('');
  useEffect(() => {
    if (!name || troubleWithName(name, false)) return undefined;
    const timer = setTimeout(async () => {
      const found = await ask('GET', `/v1/limits?name=${encodeURIComponent(name)}`).catch(() => null);
      if (found?.items.length) setTaken(name);
    }, ASK_MS);
    return () => clearTimeout(timer);
  }, [name]);
  return taken;
}

function explained(kind, slots, decay, decayText) {
  if (!Number.isInteger(slots) || slots < 0) return ['Slots are a whole number, 0 or more.'];
  if (kind === 'concurrency') {
    if (slots === 0) return ['0 slots: the gate is closed. Everybody waits until you make it larger.'];
    return [
      `At most ${plural(slots, 'slot')} ${slots === 1 ? 'is' : 'are'} held at once, in all processes together.`,
      `Who comes when all are held waits, first come, first served, until one is given back.`,
      'A slot is given back when its block ends, or when its process dies.',
    ];
  }
  if (decay === null) return ['Write the rate as 5/s, 100/min, 900/15min or 1000/day.'];
  if (slots === 0) return ['0 slots: nobody can spend any.'];
  const hourly = decay * 3600;
  return [
    `After a quiet time, ${number(slots)} may go at once; then one every ${span(1 / decay)}.`,
    `In the long run ${decayText.trim()}${hourly >= 1 && !/h/.test(decayText) ? `, which is ${number(hourly)} an hour` : ''}.`,
    `From empty it takes ${span(slots / decay)} until ${slots === 1 ? 'the slot is' : `all ${number(slots)} are`} back.`,
    'Spent slots come back with time alone; nothing gives them back sooner.',
  ];
}

export function Create() {
  const [kind, setKind] = useState('concurrency');
  const [name, setName] = useState('');
  const [text, setText] = useState('5');
  const [decayText, setDecayText] = useState('60/hour');
  const [description, setDescription] = useState('');
  const [active, setActive] = useState(true);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const slots = text.trim() === '' ? NaN : Number(text);
  const isRate = kind === 'rate';
  const decay = isRate ? parseRate(decayText) : 0;
  const badName = troubleWithName(name, useTaken(name) === name);
  const bad = !name || badName || !Number.isInteger(slots) || slots < 0 || (isRate && !(decay > 0));
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      const made = await ask('POST', '/v1/limits', { name, limit: slots, active, description, ...(isRate ? { slot_decay_per_second: decayText.trim() } : {}) });
      go(limitLink(made.name).slice(1));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
      setBusy(false);
    }
  };
  const choice = (id, title, what) => html`<label class="choice ${kind === id ? 'chosen' : ''}">
    <input type="radio" name="kind" value=${id} checked=${kind === id} onChange=${() => setKind(id)} /><span><b>${title}</b><span class="soft">${what}</span></span>
  </label>`;
  return html`<h1>New limit</h1>
    <div class="sides create">
      <form class="panel" onSubmit=${submit}>
        <fieldset><legend>What it limits</legend>
          ${choice('concurrency', 'How many at once', 'Slots are held while a block runs, and given back after it. For connections, licences, memory.')}
          ${choice('rate', 'How many in a time', 'Slots are spent, and come back with time. For APIs with a quota, mails, log-ins.')}
        </fieldset>
        <label>Name
          <input required maxlength="200" autocomplete="off" spellcheck="false" placeholder=${isRate ? 'vendor-api' : 'database'} value=${name}
            aria-invalid=${badName ? 'true' : undefined} aria-describedby="name-trouble" onInput=${(event) => setName(event.target.value)} />
        </label>
        <p id="name-trouble" class="wrong" aria-live="polite">${badName}</p>
        <div class="pair">
          <label>${isRate ? 'At once after a quiet time' : 'Slots'}
            <input type="number" required min="0" max="1000000000" step="1" value=${text} onInput=${(event) => setText(event.target.value)} />
          </label>
          ${isRate && html`<label>Rate
            <input required autocomplete="off" spellcheck="false" placeholder="60/hour" value=${decayText} aria-invalid=${decay > 0 ? undefined : 'true'} onInput=${(event) => setDecayText(event.target.value)} />
          </label>`}
        </div>
        <label>Description, for people <input maxlength="1000" value=${description} onInput=${(event) => setDescription(event.target.value)} /></label>
        <label class="check"><input type="checkbox" checked=${active} onChange=${(event) => setActive(event.target.checked)} /> Enforce it from the start</label>
        ${problem && html`<${Trouble} problem=${problem} />`}
        <button type="submit" class="primary" disabled=${busy || bad}>${busy ? 'One moment' : 'Create the limit'}</button>
      </form>
      <section class="panel" aria-labelledby="does"><h2 id="does">What it will do</h2>
        <ul class="consequences" aria-live="polite">${explained(kind, slots, decay, decayText).map((line) => html`<li>${line}</li>`)}</ul>
        <${Picture} kind=${kind} slots=${slots} decay=${decay} />
        <h2>How to use it</h2>
        <${Code} samples=${samples(name || (isRate ? 'vendor-api' : 'database'), Number.isInteger(slots) ? slots : 1, isRate && decay > 0 ? decayText.trim() : '')} />
      </section>
    </div>`;
}
