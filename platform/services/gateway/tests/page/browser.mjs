// As much of a browser as the page needs: a document that is read from index.html, fetch, a WebSocket, a clock. Each page has modules
// of its own, so that tests share nothing.

import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { webcrypto } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const SOURCE = fileURLToPath(new URL('../../src/page/', import.meta.url));
const VOID = new Set(['meta', 'link', 'img', 'input']);

class Element extends EventTarget {
  constructor(tag) {
    super();
    Object.assign(this, { tag, parentElement: null, nodes: [], attributes: new Map(), dataset: {}, className: '', value: '' });
    Object.assign(this, { hidden: false, disabled: false, open: false });
    const names = () => this.className.split(' ').filter(Boolean);
    const set = (name, on) => { this.className = [...names().filter((other) => other !== name), ...(on ? [name] : [])].join(' '); };
    this.classList = {
      contains: (name) => names().includes(name),
      add: (...wanted) => { for (const name of wanted) set(name, true); },
      remove: (...gone) => { for (const name of gone) set(name, false); },
      toggle: (name, on = !names().includes(name)) => set(name, on),
    };
  }

  get children() { return this.nodes.filter((node) => node instanceof Element); }
  get textContent() { return this.nodes.map((node) => (node instanceof Element ? node.textContent : node)).join(''); }
  set textContent(text) { this.replaceChildren(String(text)); }

  append(...nodes) {
    for (const node of nodes) {
      if (node instanceof Element) {
        node.remove();
        node.parentElement = this;
      }
      this.nodes.push(node);
    }
  }

  replaceChildren(...nodes) {
    for (const child of this.children) child.parentElement = null;
    this.nodes = [];
    this.append(...nodes);
  }

  remove() {
    if (this.parentElement) this.parentElement.nodes = this.parentElement.nodes.filter((node) => node !== this);
    this.parentElement = null;
  }

  setAttribute(name, value) {
    this.attributes.set(name, value);
    if (name === 'class') this.className = value;
    else if (name === 'hidden' || name === 'disabled') this[name] = true;
    else if (name.startsWith('data-')) this.dataset[name.slice(5)] = value;
    else if (['id', 'name', 'type', 'value'].includes(name)) this[name] = value;
  }

  getAttribute(name) { return this.attributes.get(name) ?? null; }
  get all() { return this.children.flatMap((child) => [child, ...child.all]); }

  matches(selector) {
    const [, tag, name, attribute, value] = /^([a-z]*)(?:\.([\w-]+))?(?:\[([\w-]+)(?:=([\w-]+))?\])?$/.exec(selector);
    return (!tag || tag === this.tag) && (!name || this.classList.contains(name))
      && (!attribute || (this.attributes.has(attribute) && (!value || this.attributes.get(attribute) === value)));
  }

  querySelectorAll(selector) { return this.all.filter((element) => element.matches(selector)); }
  querySelector(selector) { return this.querySelectorAll(selector)[0] ?? null; }
  closest(selector) { return this.matches(selector) ? this : this.parentElement?.closest(selector) ?? null; }
  showModal() { this.open = true; }
  close() { this.open = false; }
  reset() { for (const input of this.querySelectorAll('input')) input.value = input.getAttribute('value') ?? ''; }

  click() {
    if (this.disabled) return;
    this.dispatchEvent(new Event('click'));
    if (this.type === 'submit') this.closest('form')?.dispatchEvent(new Event('submit', { cancelable: true }));
  }

  write(text) {
    if (this.disabled) return;
    this.value = text;
    this.dispatchEvent(new Event('input'));
  }
}

function parse(html) {
  const root = new Element('document');
  let at = root;
  for (const [, end, tag, attributes, text] of html.matchAll(/<(\/?)([a-z][a-z0-9]*)([^>]*)>|([^<]+)/g)) {
    if (text !== undefined) at.append(text);
    else if (end) at = at.parentElement;
    else {
      const element = new Element(tag);
      for (const [, name, value] of attributes.matchAll(/([\w-]+)(?:="([^"]*)")?/g)) element.setAttribute(name, value ?? '');
      at.append(element);
      if (!VOID.has(tag)) at = element;
    }
  }
  for (const select of root.querySelectorAll('select')) select.value = select.querySelector('option').value;
  return root;
}

class Clock {
  now = 0;
  timers = new Map();
  last = 0;

  set = (work, ms) => {
    this.last += 1;
    this.timers.set(this.last, { work, at: this.now + ms });
    return this.last;
  };

  clear = (id) => { this.timers.delete(id); };

  async pass(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= end).sort(([, one], [, other]) => one.at - other.at)[0];
      if (!due) break;
      const [id, { work, at }] = due;
      this.timers.delete(id);
      this.now = at;
      work();
      await settled();
    }
    this.now = end;
  }
}

// Everything that needs no time has happened.
export async function settled() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => { setImmediate(resolve); });
}

function storage(content = new Map()) {
  return {
    content,
    getItem: (key) => content.get(key) ?? null,
    setItem: (key, value) => { content.set(key, String(value)); },
    removeItem: (key) => { content.delete(key); },
  };
}

function folder() {
  const path = mkdtempSync(join(tmpdir(), 'paddock-page-'));
  process.on('exit', () => rmSync(path, { recursive: true, force: true }));
  for (const file of readdirSync(SOURCE).filter((name) => name.endsWith('.js'))) copyFileSync(join(SOURCE, file), join(path, file));
  writeFileSync(join(path, 'package.json'), '{"type":"module"}');
  return path;
}

// Opens the page in front of a brand; `kept` is what the tab's storage held when it was loaded again.
export async function open(brand, kept) {
  process.setMaxListeners(100);
  const clock = new Clock();
  const root = parse(readFileSync(join(SOURCE, 'index.html'), 'utf8'));
  const document = new EventTarget();
  Object.assign(document, {
    getElementById: (id) => root.all.find((element) => element.id === id) ?? null,
    querySelectorAll: (selector) => root.querySelectorAll(selector),
    createElement: (tag) => new Element(tag),
  });
  const sockets = [];
  const page = { brand, clock, document, sockets, storage: storage(kept) };
  const globals = {
    document,
    sessionStorage: page.storage,
    location: new URL('https://acme.example/'),
    crypto: globalThis.crypto ?? webcrypto,
    CustomEvent: class extends Event {
      constructor(type, { detail }) {
        super(type);
        this.detail = detail;
      }
    },
    FormData: class {
      constructor(form) { this.form = form; }
      * [Symbol.iterator]() { for (const input of this.form.querySelectorAll('[name]')) yield [input.name, input.value]; }
    },
    WebSocket: class {
      static OPEN = 1;
      readyState = 0;
      sent = [];
      constructor(url) {
        this.url = String(url);
        sockets.push(this);
      }
      send(text) { this.sent.push(JSON.parse(text)); }
      close() { this.readyState = 3; }
      accept() {
        this.readyState = 1;
        this.onopen();
      }
      say(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
      end(code) {
        this.readyState = 3;
        this.onclose({ code });
      }
    },
    fetch: async (path, { method, headers, body, signal }) => {
      if (!(signal instanceof AbortSignal)) throw new Error(`${method} ${path} waits for ever`);
      return brand.answer(method, path.replace('/api/v1', ''), headers, body === undefined ? undefined : JSON.parse(body));
    },
    setTimeout: clock.set,
    clearTimeout: clock.clear,
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  await import(pathToFileURL(join(folder(), 'app.js')));
  await settled();
  page.$ = document.getElementById;
  page.press = async (element) => {
    (typeof element === 'string' ? page.$(element) : element).click();
    await settled();
  };
  page.socket = () => sockets[sockets.length - 1];
  page.pass = (ms) => clock.pass(ms);
  page.reload = () => open(brand, new Map(page.storage.content));
  return page;
}
