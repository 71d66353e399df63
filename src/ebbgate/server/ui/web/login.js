// Logs in with an API key, in exchange for a cookie that scripts cannot read.
import { useEffect, useRef, useState } from 'preact/hooks';
import { Problem, ask } from './api.js';
import { html } from './html.js';
import { Trouble } from './parts.js';
import { retryNow } from './live.js';
import { access, keyId } from './state.js';

export async function lookForAccess() {
  const found = await ask('GET', '/ui/session');
  keyId.value = found.key ?? '';
  access.value = !found.needs_key ? 'open' : found.key ? 'in' : 'needed';
}

export async function logOut() {
  await ask('DELETE', '/ui/session');
  location.reload(); // so that nothing of what was seen stays
}

export function Login() {
  const field = useRef(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => field.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await ask('POST', '/ui/session', { key: field.current.value });
      field.current.value = '';
      await lookForAccess();
      retryNow();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
      setBusy(false);
      field.current.select();
    }
  };
  return html`<main class="login">
    <form class="panel" onSubmit=${submit}>
      <h1>Ebbgate</h1>
      <p>This server lets in who has one of its API keys.</p>
      <label>API key
        <input ref=${field} type="password" autocomplete="current-password" spellcheck="false" required aria-describedby="key-help" />
      </label>
      <p id="key-help" class="soft">Your browser keeps no key: the server gives it a cookie that ends after 12 hours without use.</p>
      ${problem && html`<${Trouble} problem=${problem} />`}
      <button type="submit" class="primary" disabled=${busy}>${busy ? 'One moment' : 'Log in'}</button>
    </form>
  </main>`;
}
