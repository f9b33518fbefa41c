// The customer: registration, session, wallet, bets.

import { call, logIn, logOut, loggedIn } from './api.js';
import { $, make, title } from './dom.js';

const tickets = new Map();
let stream;
let reading = 0;

export function start(live) {
  stream = live;
  for (const button of document.querySelectorAll('[data-open]')) {
    button.addEventListener('click', () => $(button.dataset.open).showModal());
  }
  for (const button of document.querySelectorAll('[data-close]')) {
    button.addEventListener('click', () => button.closest('dialog').close());
  }
  submit('login', async (fields) => logIn(fields.email, fields.password));
  submit('join', async (fields) => {
    await call('POST', '/customers', { ...fields, country: fields.country.toUpperCase(), currency: fields.currency.toUpperCase() });
    await logIn(fields.email, fields.password);
  });
  $('logout').addEventListener('click', () => { logOut().catch(() => {}); });
  document.addEventListener('session', session);
  document.addEventListener('ticket', (event) => takeTickets([event.detail]));
  session();
}

function submit(name, work) {
  const form = $(`${name}-form`);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const problem = form.querySelector('.problem');
    const button = form.querySelector('[type=submit]');
    problem.textContent = '';
    button.disabled = true;
    try {
      await work(Object.fromEntries(new FormData(form)));
      form.reset();
      $(name).close();
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
}

function session() {
  const inside = loggedIn();
  $('me-in').hidden = !inside;
  $('me-out').hidden = inside;
  $('entries-card').hidden = !inside;
  tickets.clear();
  drawTickets();
  if (inside) {
    stream.follow('wallet', (frame) => takeWallet(frame.payload));
    stream.follow('tickets', (frame) => {
      // A snapshot is the truth of its moment, whatever was known before.
      if (frame.type === 'snapshot') tickets.clear();
      takeTickets(frame.payload.tickets ?? []);
    });
  } else {
    stream.leave('wallet');
    stream.leave('tickets');
    takeWallet({ wallets: [] });
    $('entries').replaceChildren();
  }
}

function takeWallet({ wallets }) {
  const wallet = wallets[0];
  const show = (id, amount) => { $(id).textContent = wallet ? `${amount} ${wallet.currency}` : '–'; };
  show('m-available', wallet?.available);
  show('m-held', wallet?.held);
  show('m-stake', wallet?.atStake);
  clearTimeout(reading);
  if (loggedIn()) reading = setTimeout(readEntries, 300);
}

async function readEntries() {
  try {
    const { entries } = await call('GET', '/wallet/entries?limit=12');
    $('entries').replaceChildren(...entries.map((entry) => {
      const row = make('li');
      row.append(make('span', '', title(entry.reason)), make('strong', '', `${entry.change} ${entry.currency}`));
      row.append(make('span', 'small', title(entry.kind)), make('span', 'small', new Date(entry.bookedAt).toLocaleTimeString()));
      return row;
    }));
    $('entries-empty').hidden = entries.length > 0;
  } catch { /* the next change of the wallet reads them again */ }
}

function takeTickets(list) {
  for (const ticket of list) {
    const known = tickets.get(ticket.ticketId);
    if (!known || (ticket.sequence ?? 0) >= (known.sequence ?? 0)) tickets.set(ticket.ticketId, ticket);
  }
  drawTickets();
}

const TONES = { accepted: 'good', settled: 'good', rejected: 'bad', cancelled: 'bad', rolled_back: 'bad' };

function drawTickets() {
  // Ids rise with time.
  const newest = [...tickets.values()].sort((one, other) => (other.ticketId > one.ticketId ? 1 : -1)).slice(0, 20);
  $('bets').replaceChildren(...newest.map((ticket) => {
    const row = make('li');
    const legs = (ticket.bets ?? []).flatMap((bet) => bet.selections ?? []);
    const paid = (ticket.bets ?? []).map((bet) => bet.payout).filter(Boolean);
    row.append(
      make('span', '', `${ticket.totalStake ?? ''} ${ticket.currency ?? ''}`),
      make('span', `status ${TONES[ticket.status] ?? 'wait'}`, title(ticket.status ?? '')),
      make('span', 'small', legs.map((leg) => [leg.odds && `@ ${leg.odds}`, leg.result ?? leg.code].filter(Boolean).join(' ')).join(', ')),
      make('span', 'small', paid.length ? `paid ${paid.join(' + ')}` : `to return ${ticket.potentialPayout ?? '–'}`),
    );
    return row;
  }));
  $('bets-empty').textContent = loggedIn() ? 'No bets yet.' : 'Log in to see your bets.';
  $('bets-empty').hidden = newest.length > 0;
}
