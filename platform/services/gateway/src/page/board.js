// The matches, moving.

import { call } from './api.js';
import { $, legKey, make, marketName, teams } from './dom.js';
import * as slip from './slip.js';

const MOST = 60;
const OVER = new Set(['ended', 'closed', 'cancelled', 'abandoned', 'postponed']);
const LIVE = new Set(['live', 'suspended', 'interrupted']);

const matches = new Map();
let filter = 'all';
let stream;

export function start(live) {
  stream = live;
  for (const tab of document.querySelectorAll('[data-filter]')) {
    tab.addEventListener('click', () => {
      filter = tab.dataset.filter;
      for (const other of document.querySelectorAll('[data-filter]')) other.setAttribute('aria-pressed', String(other === tab));
      arrange();
    });
  }
  document.addEventListener('slip', () => { for (const match of matches.values()) mark(match); });
  refresh();
}

async function refresh() {
  try {
    const { events } = await call('GET', '/events?limit=100');
    const wanted = events.filter((event) => !OVER.has(event.status)).slice(0, MOST);
    for (const event of wanted) {
      const match = matches.get(event.eventId) ?? add(event);
      takeEvent(match, event);
    }
    const ids = new Set(wanted.map((event) => event.eventId));
    for (const [id, match] of matches) if (!ids.has(id)) drop(id, match);
    $('board-empty').textContent = 'No matches right now. New ones come up by themselves.';
  } catch (error) {
    if (matches.size === 0) $('board-empty').textContent = error.message;
  }
  arrange();
  setTimeout(refresh, 5000);
}

function add(event) {
  const root = make('article', 'event');
  const head = make('header');
  const badge = make('span', 'badge');
  const where = make('span', 'where');
  head.append(badge, where);
  const names = make('div', 'teams');
  const first = make('div', 'prices-first');
  const more = make('details', 'more');
  const summary = make('summary', '', 'More markets');
  const rest = make('div');
  more.append(summary, rest);
  more.hidden = true;
  root.append(head, names, first, more);
  const match = { event, root, badge, where, names, first, more, rest, summary, lines: new Map(), views: new Map() };
  matches.set(event.eventId, match);
  stream.follow(`event:${event.eventId}`, (frame) => take(match, frame));
  return match;
}

function drop(id, match) {
  stream.leave(`event:${id}`);
  match.root.remove();
  matches.delete(id);
}

function take(match, frame) {
  const { event, lines = [] } = frame.payload;
  if (frame.type === 'snapshot') match.lines.clear();
  if (event) takeEvent(match, event);
  for (const line of lines) {
    match.lines.set(`${line.marketId}|${line.specifiers ?? ''}`, line);
    for (const outcome of line.outcomes) slip.moved(legKey(line, outcome.id), price(line, outcome));
  }
  draw(match);
  arrange();
}

function takeEvent(match, event) {
  if (event.sequence < match.event.sequence) return;
  match.event = event;
  const live = LIVE.has(event.status);
  match.badge.className = live ? 'badge live' : 'badge';
  match.badge.textContent = live ? `LIVE ${event.minute ?? 0}'` : kickOff(event.startTime);
  match.where.textContent = [event.category?.name, event.tournament?.name].filter(Boolean).join(' · ');
  const goals = [event.score?.home ?? 0, event.score?.away ?? 0];
  match.names.replaceChildren(...event.competitors.flatMap((competitor, at) => [
    make('span', '', competitor.name),
    make('span', 'goals', live ? String(goals[at] ?? '') : ''),
  ]));
  match.root.setAttribute('aria-label', teams(event));
}

// The odds that can be bet on now; null = none, whatever is still shown.
function price(line, outcome) {
  return line.status === 'active' && outcome.active && outcome.odds ? outcome.odds : null;
}

function kickOff(ms) {
  const minutes = Math.round((ms - Date.now()) / 60000);
  if (minutes <= 0) return 'Starting';
  if (minutes < 60) return `in ${minutes} min`;
  return new Date(ms).toLocaleString([], { weekday: 'short', hour: '2-digit', minute: '2-digit' });
}

function draw(match) {
  const shown = [...match.lines.values()]
    .filter((line) => line.status === 'active' || line.status === 'suspended')
    .sort((one, other) => one.marketId - other.marketId || (one.specifiers ?? '').localeCompare(other.specifiers ?? '', undefined, { numeric: true }));
  const keep = new Set();
  shown.forEach((line, at) => {
    const key = `${line.marketId}|${line.specifiers ?? ''}`;
    keep.add(key);
    let view = match.views.get(key);
    if (!view) {
      view = { root: make('section', 'market'), state: make('span', 'state'), prices: new Map() };
      view.grid = make('div', 'prices');
      const head = make('h3', '', `${marketName(line)} `);
      head.append(view.state);
      view.root.append(head, view.grid);
      match.views.set(key, view);
    }
    drawLine(match, line, view);
    const place = at === 0 ? match.first : match.rest;
    if (view.root.parentElement !== place) place.append(view.root);
  });
  for (const [key, view] of match.views) {
    if (!keep.has(key)) {
      view.root.remove();
      match.views.delete(key);
    }
  }
  match.more.hidden = shown.length < 2;
  match.summary.textContent = `More markets (${Math.max(shown.length - 1, 0)})`;
}

function drawLine(match, line, view) {
  const suspended = line.status === 'suspended';
  view.root.classList.toggle('suspended', suspended);
  view.state.textContent = suspended ? 'Suspended' : '';
  for (const outcome of line.outcomes) {
    let button = view.prices.get(outcome.id);
    if (!button) {
      button = { root: make('button', 'price'), label: make('span', 'label'), odds: make('span', 'odds'), was: null, timer: 0 };
      button.root.type = 'button';
      button.root.append(button.label, button.odds);
      button.root.addEventListener('click', () => slip.toggle(match.event, button.line, button.outcome));
      view.prices.set(outcome.id, button);
      view.grid.append(button.root);
    }
    button.line = line;
    button.outcome = outcome;
    const odds = price(line, outcome);
    button.label.textContent = outcome.name;
    button.odds.textContent = odds ?? '–';
    button.root.disabled = odds === null;
    if (odds === null) button.root.classList.remove('up', 'down');
    else {
      if (button.was && button.was !== odds) {
        const way = Number(odds) > Number(button.was) ? 'up' : 'down';
        button.root.classList.remove('up', 'down');
        button.root.classList.add(way);
        clearTimeout(button.timer);
        button.timer = setTimeout(() => button.root.classList.remove('up', 'down'), 2500);
      }
      button.was = odds;
    }
  }
  mark(match);
}

function mark(match) {
  for (const view of match.views.values()) {
    for (const button of view.prices.values()) {
      button.root.setAttribute('aria-pressed', String(slip.has(legKey(button.line, button.outcome.id))));
    }
  }
}

function arrange() {
  const shown = [...matches.values()]
    .filter(({ event }) => !OVER.has(event.status))
    .filter(({ event }) => filter === 'all' || LIVE.has(event.status) === (filter === 'live'))
    .sort((one, other) => Number(LIVE.has(other.event.status)) - Number(LIVE.has(one.event.status))
      || one.event.startTime - other.event.startTime || one.event.eventId.localeCompare(other.event.eventId));
  const wanted = shown.map((match) => match.root);
  const present = [...$('events').children];
  // Moving nothing keeps focus and open details where they are.
  if (wanted.length !== present.length || wanted.some((root, at) => root !== present[at])) $('events').replaceChildren(...wanted);
  $('board-empty').hidden = wanted.length > 0;
}
