// Talks to the server's REST interface.
import { access } from './state.js';

export class Problem extends Error {
  constructor(status, code, detail, more = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.more = more;
  }
}

export async function ask(method, path, body = undefined) {
  const request = { method, credentials: 'same-origin', headers: {}, cache: 'no-store' };
  if (body !== undefined) {
    request.headers['content-type'] = 'application/json';
    request.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Problem(0, 'unreachable', 'The server cannot be reached. Nothing is known to have changed.');
  }
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => null);
  if (answer.ok) return content;
  if (answer.status === 401) access.value = 'needed';
  const said = content ?? {};
  throw new Problem(answer.status, said.code ?? '', said.detail ?? `The server answered ${answer.status}.`, said);
}

export const limitPath = (name) => `/v1/limits/${encodeURIComponent(name)}`;
export const leasePath = (id) => `/v1/leases/${encodeURIComponent(id)}`;
