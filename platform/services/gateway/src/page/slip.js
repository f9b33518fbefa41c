// The bet slip: singles, one stake each.

import { call, loggedIn } from './api.js';
import { $, legKey, make, marketName, teams } from './dom.js';

const legs = new Map();
// The key of a ticket that may or may not have been placed: it is sent again with the same one.
let pending = null;

export const has = (key) => legs.has(key);

export function start() {
  $('slip-form').addEventListener('submit', (event) => {
    event.preventDefault();
    place();
  });
  $('odds-change').addEventListener('change', () => { pending = null; });
}

export function toggle(event, line, outcome) {
  const key = legKey(line, outcome.id);
  if (legs.has(key)) legs.delete(key);
  else legs.set(key, { event, line, outcome, odds: outcome.odds, now: outcome.odds, stake: '5.00' });
  changed();
}

// A price on the slip has moved; null = it cannot be bet on now.
export function moved(key, odds) {
  const leg = legs.get(key);
  if (!leg || leg.now === odds) return;
  leg.now = odds;
  if (odds) {
    leg.odds = odds;
    pending = null;
  }
  if (leg.price) leg.price.textContent = odds ?? 'suspended';
  totals();
}

function changed() {
  pending = null;
  note('');
  draw();
  document.dispatchEvent(new Event('slip'));
}

function draw() {
  $('slip-legs').replaceChildren(...[...legs].map(([key, leg]) => {
    const root = make('li', 'leg');
    const remove = make('button', 'remove', '✕');
    remove.type = 'button';
    remove.setAttribute('aria-label', `Remove ${leg.outcome.name}, ${teams(leg.event)}`);
    remove.addEventListener('click', () => { legs.delete(key); changed(); });
    const what = make('span', 'what', `${leg.outcome.name} @ `);
    leg.price = make('span', '', leg.now ?? 'suspended');
    what.append(leg.price);
    const label = make('label', '', 'Stake');
    const stake = make('input');
    stake.inputMode = 'decimal';
    stake.required = true;
    stake.pattern = '[0-9]+([.][0-9]+)?';
    stake.value = leg.stake;
    stake.addEventListener('input', () => { leg.stake = stake.value.trim(); pending = null; totals(); });
    label.append(stake);
    root.append(what, remove, make('span', 'where', `${teams(leg.event)} · ${marketName(leg.line)}`), label);
    return root;
  }));
  $('slip-count').textContent = String(legs.size);
  $('slip-empty').hidden = legs.size > 0;
  $('slip-form').hidden = legs.size === 0;
  totals();
}

// For the eye only: what counts is what the answer says.
function totals() {
  let stake = 0;
  let back = 0;
  for (const leg of legs.values()) {
    stake += Number(leg.stake) || 0;
    back += (Number(leg.stake) || 0) * Number(leg.odds);
  }
  $('slip-total').textContent = stake.toFixed(2);
  $('slip-return').textContent = back.toFixed(2);
  $('slip-place').disabled = [...legs.values()].some((leg) => leg.now === null);
}

function note(text, tone = '') {
  $('slip-note').textContent = text;
  $('slip-note').dataset.tone = tone;
}

async function place() {
  if (!loggedIn()) {
    $('login').showModal();
    return;
  }
  const button = $('slip-place');
  button.disabled = true;
  note('Placing…');
  try {
    const { currency } = await call('GET', '/sessions/current');
    pending ??= {
      key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`,
      ticket: {
        currency,
        funds: 'cash',
        oddsChange: $('odds-change').value,
        bets: [...legs.values()].map((leg) => ({
          type: 'single',
          stake: leg.stake,
          selections: [{
            eventId: leg.line.eventId,
            marketId: leg.line.marketId,
            specifiers: leg.line.specifiers ?? '',
            outcomeId: leg.outcome.id,
            odds: leg.odds,
          }],
        })),
      },
    };
    const ticket = await call('POST', '/tickets', pending.ticket, { 'idempotency-key': pending.key });
    say(ticket);
    document.dispatchEvent(new CustomEvent('ticket', { detail: ticket }));
    follow(ticket);
  } catch (error) {
    // 503 and silence: unknown whether it was placed. The next try repeats it with the same key.
    if (error.status !== 503 && error.status !== 0) pending = null;
    note(error.message, 'bad');
  } finally {
    totals();
  }
}

function say(ticket) {
  if (ticket.status === 'accepted') {
    legs.clear();
    changed();
    note(`Accepted: ${ticket.totalStake} to return ${ticket.potentialPayout}.`, 'good');
  } else if (ticket.status === 'rejected') {
    pending = null;
    note(`Refused: ${(ticket.code ?? ticket.bets?.find((bet) => bet.code)?.code ?? 'no reason given').replaceAll('-', ' ')}.`, 'bad');
  } else {
    note('Waiting for the bet delay…');
  }
}

async function follow(ticket) {
  for (let tries = 0; tries < 40 && !['accepted', 'rejected', 'reoffered'].includes(ticket.status); tries += 1) {
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    try { ticket = await call('GET', `/tickets/${ticket.ticketId}`); } catch { return; }
    if (ticket.status === 'accepted' || ticket.status === 'rejected') say(ticket);
  }
}
