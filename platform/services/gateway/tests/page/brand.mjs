// A brand behind the page: keeps tickets by customer and key as the real one does, and fails as a test wants.

export const EVENT = 'sr:match:1';

export function event(over = {}) {
  return {
    eventId: EVENT, sequence: 1, status: 'live', minute: 7, startTime: 0, score: { home: 0, away: 0 },
    category: { name: 'England' }, tournament: { name: 'League' }, competitors: [{ name: 'Reds' }, { name: 'Blues' }], ...over,
  };
}

export function line(odds, over = {}) {
  return {
    eventId: EVENT, marketId: 1, marketType: 'match-result', specifiers: '', status: 'active',
    outcomes: [{ id: '1', name: 'Reds', active: true, odds }, { id: '2', name: 'Blues', active: true, odds: '3.00' }], ...over,
  };
}

export class Brand {
  events = [event()];
  sessions = new Map();
  tickets = new Map();
  // Requests for tickets, as they left the page.
  posts = [];
  // What becomes of the next requests: `status` (0 = silence) and `body` instead of an answer; `lost` = it never arrived; `cut` = the
  // answer breaks off; `until` = a promise that the answer waits for.
  troubles = [];
  // The same for any other request: `METHOD /path` to a status.
  refuses = new Map();
  // How new tickets stand.
  status = 'accepted';

  async answer(method, path, headers, body) {
    const [route] = path.split('?');
    const respond = (status, content) => {
      if (status === 0) throw new TypeError('network');
      return { ok: status >= 200 && status < 300, status, text: async () => (typeof content === 'string' ? content : JSON.stringify(content)) };
    };
    const refusal = this.refuses.get(`${method} ${route}`);
    if (refusal !== undefined) return respond(refusal, { detail: `refused: ${refusal}` });
    if (route === '/brand') {
      return respond(200, { name: 'Acme Bet', licence: { name: 'mga-1', jurisdiction: 'MT' }, currencies: ['SEK', 'EUR'], locales: ['en'] });
    }
    if (route === '/events') return respond(200, { events: this.events });
    if (route === '/sessions' && method === 'POST') {
      if (body.password !== 'secret') return respond(401, { detail: 'The password is wrong.', code: 'credentials-invalid' });
      const token = `token-${this.sessions.size + 1}`;
      this.sessions.set(token, body.email);
      return respond(201, { token });
    }
    if (route === '/customers') return respond(201, {});
    const trouble = route === '/tickets' && method === 'POST' ? this.troubles.shift() ?? {} : {};
    if (route === '/tickets' && method === 'POST') this.posts.push({ key: headers['idempotency-key'], body });
    const token = headers.authorization?.replace('Bearer ', '');
    const customerId = this.sessions.get(token);
    if (!customerId) return respond(401, { detail: 'Log in again.' });
    if (route === '/sessions/current') {
      if (method === 'DELETE') this.sessions.delete(token);
      return respond(200, method === 'DELETE' ? '' : { customerId, currency: 'EUR' });
    }
    if (route === '/wallet/entries') return respond(200, { entries: [] });
    if (route === '/tickets') {
      const ticket = trouble.lost ? null : this.#place(customerId, headers['idempotency-key'], body);
      await trouble.until;
      if (trouble.cut) return { ok: true, status: 201, text: async () => { throw new TypeError('network'); } };
      return trouble.status === undefined ? respond(201, ticket) : respond(trouble.status, trouble.body ?? { detail: 'trouble' });
    }
    const ticket = [...this.tickets.values()].find(({ ticketId }) => route === `/tickets/${ticketId}`);
    return ticket ? respond(200, ticket) : respond(404, {});
  }

  #place(customerId, key, body) {
    const name = `${customerId} ${key}`;
    if (!this.tickets.has(name)) {
      const ticket = { ticketId: `t${this.tickets.size + 1}`, status: this.status, totalStake: '5.00', potentialPayout: '10.50', bets: [], body };
      this.tickets.set(name, ticket);
    }
    return this.tickets.get(name);
  }

  // Every ticket that waits is decided.
  decide(status) {
    for (const ticket of this.tickets.values()) if (ticket.status === 'pending') ticket.status = status;
  }
}

// A customer who is logged in, with a price on her slip.
export async function bettor(open, brand = new Brand()) {
  const page = await open(brand);
  await logIn(page, 'ann@example.com');
  await show(page, line('2.10'));
  await page.press(prices(page)[0]);
  return page;
}

export async function logIn(page, email, password = 'secret') {
  const form = page.$('login-form');
  form.querySelector('[type=email]').value = email;
  form.querySelector('[type=password]').value = password;
  await page.press(form.querySelector('[type=submit]'));
}

// The offer says something new about the event.
export async function show(page, ...lines) {
  const socket = page.socket();
  if (socket.readyState === 0) socket.accept();
  socket.say({ type: 'delta', channel: `event:${EVENT}`, payload: { lines } });
  await page.pass(0);
}

export const prices = (page) => page.$('events').querySelectorAll('button.price');
