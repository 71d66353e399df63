// One stream of events for all tabs of a browser: tells the server what they look at, and passes on what comes.
// It runs in a shared worker, or in each tab where there is none; so it knows nothing of the page.

const HIDDEN_MS = 2_000; // a tab that is only passed over keeps its stream
const UNSEEN_MS = 60_000; // a tab that says nothing for so long is gone; it speaks every PING_MS
const SILENCE_MS = 35_000; // more than two heartbeats
const SETTLE_MS = 40; // a page says what it looks at in several steps
const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 3_000;
export const PING_MS = 15_000;

export function makeHub() {
  const tabs = new Set();
  let stream = null; // whose events are passed on
  let coming = null; // takes its place as soon as it has begun
  let state = { kind: 'state', state: 'connecting', since: 0 };
  let retryMs = RETRY_MIN_MS;
  let timer = 0;

  const isHere = (tab) => Date.now() - tab.seen < UNSEEN_MS && (tab.visible || Date.now() - tab.hiddenAt < HIDDEN_MS);

  function become(name) {
    if (state.state === name) return;
    state = { kind: 'state', state: name, since: Date.now() };
    for (const tab of tabs) tab.post(state);
  }

  function wanted() {
    for (const tab of tabs) if (Date.now() - tab.seen > UNSEEN_MS && tab.visible) tabs.delete(tab);
    const keys = new Set();
    let anybody = false;
    for (const tab of tabs) {
      if (!isHere(tab)) continue;
      anybody = true;
      for (const key of tab.keys) keys.add(key);
    }
    return anybody ? [...keys].sort() : null;
  }

  // Has the stream be what is wanted; `anew`: somebody has joined who knows nothing yet.
  function adjust(anew) {
    const keys = wanted();
    if (!keys) {
      clearTimeout(timer);
      stream?.ending.abort();
      coming?.ending.abort();
      stream = coming = null;
      if (state.state !== 'refused') become('paused');
      return;
    }
    const shown = coming ?? stream;
    if (!anew && shown && shown.keys.join() === keys.join()) return;
    run(keys);
  }

  function later(anew, ms) {
    clearTimeout(timer);
    later.anew = anew || later.anew;
    timer = setTimeout(() => {
      const was = later.anew;
      later.anew = false;
      adjust(was);
    }, ms);
  }
  later.anew = false;

  async function run(keys) {
    const own = { ending: new AbortController(), keys };
    coming?.ending.abort();
    coming = own;
    if (state.state === 'paused' || state.state === 'refused') become('connecting');
    let status = 0;
    try {
      status = await read(own);
    } catch {
      // whatever broke, this stream is over
    }
    if (own !== coming && own !== stream) return;
    if (own === coming) coming = null;
    else stream = null;
    if (status === 401) {
      stream?.ending.abort();
      stream = null;
      become('refused');
      return;
    }
    if (!stream && !coming) become('lost');
    later(true, retryMs);
    retryMs = Math.min(RETRY_MAX_MS, retryMs * 1.7);
  }

  async function read(own) {
    const address = `/v1/events?views=${encodeURIComponent(`[${own.keys.join()}]`)}`;
    const answer = await fetch(address, { signal: own.ending.signal, cache: 'no-store', credentials: 'same-origin' });
    if (!answer.ok) return answer.status;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let silence = 0;
    let text = '';
    try {
      for (;;) {
        silence = setTimeout(() => own.ending.abort(), SILENCE_MS);
        const { done, value } = await reader.read();
        clearTimeout(silence);
        if (done) return 200;
        text += value;
        const blocks = text.split('\n\n');
        text = blocks.pop();
        for (const block of blocks) pass(own, block);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  function pass(own, block) {
    let name = '';
    let data = null;
    for (const line of block.split('\n')) {
      if (line.startsWith('event: ')) name = line.slice(7);
      else if (line.startsWith('data: ')) data = JSON.parse(line.slice(6));
    }
    if (own === coming) {
      if (!data) return;
      stream?.ending.abort();
      stream = own;
      coming = null;
      retryMs = RETRY_MIN_MS;
      become('live');
    }
    if (own !== stream || !data) return;
    const key = data.view ? JSON.stringify(data.view) : null;
    for (const tab of tabs) if (key === null || tab.keys.has(key)) tab.post({ kind: 'event', name, key, data });
  }

  return {
    // Has a tab join; `post` is called with what it is to know. Returns what hears what it says.
    join(post) {
      const tab = { post, keys: new Set(), visible: false, hiddenAt: 0, seen: Date.now() };
      post(state);
      return (said) => {
        const before = tab.keys;
        const wasHere = isHere(tab);
        tab.seen = Date.now();
        tab.keys = new Set(said.keys);
        if (tab.visible && !said.visible) tab.hiddenAt = said.leaves ? 0 : Date.now();
        tab.visible = said.visible;
        tabs.add(tab);
        if (said.leaves) tabs.delete(tab);
        const isNew = said.visible && (!wasHere || said.keys.some((key) => !before.has(key)));
        if (said.retry && state.state !== 'live') {
          retryMs = RETRY_MIN_MS;
          later(true, 0);
        } else if (isNew) later(true, SETTLE_MS);
        else if (!said.visible) setTimeout(() => later(false, 0), said.leaves ? 0 : HIDDEN_MS + 50);
        else if (stream || coming) later(false, SETTLE_MS);
      };
    },
  };
}
