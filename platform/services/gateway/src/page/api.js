// The public API: REST and the stream.

const BASE = '/api/v1';
const KEY = 'paddock.token';
// Longer than the gateway waits for anybody.
const PATIENCE = 20000;

let token = sessionStorage.getItem(KEY);

export const loggedIn = () => token !== null;

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || 'The service does not answer. Try again.');
    this.status = status;
    this.code = problem.code || 'unknown';
  }
}

export async function call(method, path, body, headers = {}) {
  const options = { method, headers: { accept: 'application/json', ...headers }, signal: AbortSignal.timeout(PATIENCE) };
  if (token) options.headers.authorization = `Bearer ${token}`;
  if (body !== undefined) {
    options.headers['content-type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  let response;
  let text;
  try {
    response = await fetch(BASE + path, options);
    text = await response.text();
  } catch {
    throw new Refused(0, {});
  }
  let content = {};
  try { content = text ? JSON.parse(text) : {}; } catch { /* not ours: a proxy's page */ }
  if (!response.ok) {
    if (response.status === 401 && token && path !== '/sessions') forget();
    throw new Refused(response.status, content);
  }
  return content;
}

function forget() {
  token = null;
  sessionStorage.removeItem(KEY);
  document.dispatchEvent(new Event('session'));
}

export async function logIn(email, password) {
  const session = await call('POST', '/sessions', { email, password });
  token = session.token;
  sessionStorage.setItem(KEY, token);
  document.dispatchEvent(new Event('session'));
}

export async function logOut() {
  document.dispatchEvent(new Event('logout'));
  try { await call('DELETE', '/sessions/current'); } finally { if (token) forget(); }
}

// One WebSocket for all channels; it comes back by itself, and every channel starts with a snapshot again.
export class Stream {
  #socket = null;
  #channels = new Map();
  #wait = 500;
  #timer = 0;
  #onState;

  constructor(onState) {
    this.#onState = onState;
    document.addEventListener('session', () => this.restart());
    this.restart();
  }

  follow(channel, take) {
    const known = this.#channels.has(channel);
    this.#channels.set(channel, take);
    if (!known) this.#say({ type: 'subscribe', channel });
  }

  leave(channel) {
    if (this.#channels.delete(channel)) this.#say({ type: 'unsubscribe', channel });
  }

  restart() {
    clearTimeout(this.#timer);
    if (this.#socket) {
      this.#socket.onclose = null;
      this.#socket.close();
    }
    const url = new URL(`${BASE}/stream`, location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#onState('wait');
    socket.onopen = () => {
      this.#wait = 500;
      this.#onState('on');
      if (token) this.#say({ type: 'authenticate', token });
      for (const channel of this.#channels.keys()) this.#say({ type: 'subscribe', channel });
    };
    socket.onmessage = (message) => {
      const frame = JSON.parse(message.data);
      if (frame.type === 'reconnect') this.restart();
      else this.#channels.get(frame.channel)?.(frame);
    };
    socket.onclose = (event) => {
      this.#onState('off');
      if (event.code === 4401 && token) { forget(); return; }
      this.#timer = setTimeout(() => this.restart(), this.#wait * (0.5 + Math.random()));
      this.#wait = Math.min(this.#wait * 2, 15000);
    };
  }

  #say(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }
}
