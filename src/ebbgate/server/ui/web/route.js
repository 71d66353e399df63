// Where we are: kept behind the # of the address, so that every view can be linked to.
import { signal } from '@preact/signals';

export const route = signal(parse());

function parse() {
  const [path, query = ''] = (location.hash.slice(1) || '/').split('?');
  const parts = path.split('/').filter(Boolean).map(decode);
  return { page: parts[0] ?? 'limits', name: parts[1] ?? '', query: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

window.addEventListener('hashchange', () => {
  route.value = parse();
});

export const limitLink = (name) => `#/limits/${encodeURIComponent(name)}`;

export const activityLink = (name) => `#/activity/${encodeURIComponent(name)}`;

export function go(address) {
  location.hash = address;
}

// Changes what the address says of the present view, without a step in the history.
export function setQuery(changes) {
  const query = new URLSearchParams(route.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const path = (location.hash.slice(1) || '/').split('?')[0];
  const text = query.toString();
  history.replaceState(null, '', `#${path}${text ? `?${text}` : ''}`);
  route.value = parse();
}
