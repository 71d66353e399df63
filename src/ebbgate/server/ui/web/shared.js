// A worker that all tabs of a browser share, so that one stream serves them all.
import { makeHub } from './hub.js';

const hub = makeHub();

self.onconnect = ({ ports: [port] }) => {
  const hear = hub.join((message) => port.postMessage(message));
  port.onmessage = ({ data }) => hear(data);
};
