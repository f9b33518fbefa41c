// The bet slip: singles, one stake each.

import { call, loggedIn } from './api.js';
import { $, legKey, make, marketName, teams } from './dom.js';
import * as placing from './placing.js';

const UNKNOWN = 'It is not known whether your bet was placed. Try again: it is placed once, however often you do.';
const RELOADED = 'You sent this bet before the page was loaded, and it is not known what became of it. Try again: it is placed once, however often you do.';
const SLOW = 'Your bet is not decided yet. Try again to ask how it stands: it is placed once.';
const LEFT = 'You left before it was known whether your bet was placed. My bets has it if it was.';
const OTHER = 'The bet on this slip was sent by somebody else who was logged in here. The slip is empty now.';

// Looks at a ticket that waits for its decision.
const LOOKS = 40;
const BETWEEN_LOOKS = 500;

const legs = new Map();
// `open` to changes; else a ticket is under way and the slip stays as it was sent: `sending`, `waiting` for the decision, or
// `unknown`: it may have been placed, and only the same request with the same key may be sent.
let phase = 'open';
// That ticket with its key, and whose it is.
let sent = null;

export const has = (key) => legs.has(key);

export function start() {
  $('slip-form').addEventListener('submit', (event) => {
    event.preventDefault();
    place();
  });
  document.addEventListener('logout', () => { if (sent) empty(LEFT, 'bad'); });
  const kept = placing.kept();
  if (!kept) return;
  sent = kept.sent;
  for (const [key, leg] of kept.legs) legs.set(key, leg);
  $('odds-change').value = sent.ticket.oddsChange;
  enter('unknown', RELOADED, 'bad');
}

export function toggle(event, line, outcome) {
  if (phase !== 'open') return;
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
  if (phase === 'open') follow(leg);
  totals();
}

// A slip that is open shows the price of now, and asks for it.
function follow(leg) {
  if (leg.now) leg.odds = leg.now;
  if (leg.price) leg.price.textContent = leg.now ?? 'suspended';
}

function changed() {
  note('');
  draw();
  document.dispatchEvent(new Event('slip'));
}

function draw() {
  const fixed = phase !== 'open';
  $('slip-legs').replaceChildren(...[...legs].map(([key, leg]) => {
    const root = make('li', 'leg');
    const remove = make('button', 'remove', '✕');
    remove.type = 'button';
    remove.disabled = fixed;
    remove.setAttribute('aria-label', `Remove ${leg.outcome.name}, ${teams(leg.event)}`);
    remove.addEventListener('click', () => { legs.delete(key); changed(); });
    const what = make('span', 'what', `${leg.outcome.name} @ `);
    leg.price = make('span', '', fixed ? leg.odds : leg.now ?? 'suspended');
    what.append(leg.price);
    const label = make('label', '', 'Stake');
    const stake = make('input');
    stake.inputMode = 'decimal';
    stake.required = true;
    stake.pattern = '[0-9]+([.][0-9]+)?';
    stake.value = leg.stake;
    stake.disabled = fixed;
    stake.addEventListener('input', () => { leg.stake = stake.value.trim(); totals(); });
    label.append(stake);
    root.append(what, remove, make('span', 'where', `${teams(leg.event)} · ${marketName(leg.line)}`), label);
    return root;
  }));
  $('odds-change').disabled = fixed;
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
  const { text, disabled } = placing.button(phase, [...legs.values()]);
  $('slip-place').textContent = text;
  $('slip-place').disabled = disabled;
}

function note(text, tone = '') {
  $('slip-note').textContent = text;
  $('slip-note').dataset.tone = tone;
}

function enter(next, text, tone) {
  phase = next;
  if (phase === 'open') {
    sent = null;
    placing.forget();
    for (const leg of legs.values()) follow(leg);
  }
  draw();
  note(text, tone);
}

function empty(text, tone) {
  legs.clear();
  enter('open', text, tone);
  document.dispatchEvent(new Event('slip'));
}

async function place() {
  if (placing.button(phase, [...legs.values()]).disabled) return;
  if (!loggedIn()) {
    $('login').showModal();
    return;
  }
  const again = sent !== null;
  const mine = sent ?? { key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}` };
  sent = mine;
  enter('sending', 'Placing…');
  let session;
  try {
    session = await call('GET', '/sessions/current');
  } catch (error) {
    if (sent !== mine) return;
    if (again) doubt(error.status, error.message);
    else enter('open', error.message, 'bad');
    return;
  }
  if (sent !== mine) return;
  if (again && mine.customer !== session.customerId) {
    empty(OTHER, 'bad');
    return;
  }
  if (!again) {
    mine.customer = session.customerId;
    mine.ticket = placing.ticketOf([...legs.values()], session.currency, $('odds-change').value);
    placing.keep(mine, [...legs]);
  }
  await send(mine, again);
}

async function send(mine, again) {
  let status = 200;
  let content = {};
  let problem = '';
  try {
    content = await call('POST', '/tickets', mine.ticket, { 'idempotency-key': mine.key });
  } catch (error) {
    status = error.status;
    problem = error.message;
  }
  if (sent !== mine) return;
  const verdict = placing.verdict(status, content, again);
  if (verdict === 'ticket') {
    document.dispatchEvent(new CustomEvent('ticket', { detail: content }));
    say(content);
    if (sent === mine) await wait(mine, content.ticketId);
  } else if (verdict === 'refused') enter('open', problem, 'bad');
  else doubt(status, problem);
}

// What a refusal says helps her with the next try; what a failure says does not.
function doubt(status, problem) {
  enter('unknown', status >= 400 && status < 500 ? `${UNKNOWN} (${problem})` : UNKNOWN, 'bad');
}

function say(ticket) {
  const standing = placing.standing(ticket);
  if (standing === 'waiting') enter('waiting', 'Waiting for the bet delay…');
  else if (standing === 'placed') empty(`Accepted: ${ticket.totalStake} to return ${ticket.potentialPayout}.`, 'good');
  else enter('open', `Refused: ${(ticket.code ?? ticket.bets?.find((bet) => bet.code)?.code ?? 'no reason given').replaceAll('-', ' ')}.`, 'bad');
}

async function wait(mine, id) {
  for (let looks = 0; looks < LOOKS && loggedIn(); looks += 1) {
    await new Promise((resolve) => { setTimeout(resolve, BETWEEN_LOOKS); });
    if (sent !== mine) return;
    let ticket = null;
    try { ticket = await call('GET', `/tickets/${id}`); } catch { /* the next look may reach it */ }
    if (sent !== mine) return;
    if (ticket?.ticketId && placing.standing(ticket) !== 'waiting') {
      say(ticket);
      return;
    }
  }
  enter('unknown', SLOW, 'bad');
}
