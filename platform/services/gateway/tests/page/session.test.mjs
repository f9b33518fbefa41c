// Who is logged in, and what the stream tells her.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Brand, line, logIn, prices, show } from './brand.mjs';
import { open, settled } from './browser.mjs';

const inside = (page) => [page.$('me-in').hidden, page.$('me-out').hidden, page.$('entries-card').hidden];

test('the page is the brand\'s, and a page without an answer is a page', async () => {
  const page = await open(new Brand());
  const currency = (of) => of.$('join-form').querySelector('[name=currency]').value;
  assert.equal(page.document.title, 'Acme Bet');
  assert.deepEqual(page.document.querySelectorAll('[data-brand]').map((place) => place.textContent), ['Acme Bet']);
  assert.equal(page.$('licence').textContent, 'Licence mga-1 (MT).');
  assert.deepEqual(page.$('currencies').children.map(({ value }) => value), ['SEK', 'EUR']);
  assert.equal(currency(page), 'SEK');

  const brand = new Brand();
  brand.refuses.set('GET /brand', 503);
  const without = await open(brand);
  assert.equal(currency(without), '');
  await logIn(without, 'ann@example.com');
  assert.deepEqual(inside(without), [false, true, false]);
});

test('logging in, wallet and bets, logging out', async () => {
  const page = await open(new Brand());
  assert.deepEqual(inside(page), [true, false, true]);
  page.socket().accept();
  assert.ok(!page.socket().sent.some(({ type }) => type === 'authenticate'));

  await page.press(page.document.querySelectorAll('[data-open]')[0]);
  assert.ok(page.$('login').open);
  await logIn(page, 'ann@example.com', 'guess');
  assert.equal(page.$('login').querySelector('.problem').textContent, 'The password is wrong.');
  assert.ok(page.$('login').open);
  await logIn(page, 'ann@example.com');
  assert.ok(!page.$('login').open);
  assert.deepEqual(inside(page), [false, true, false]);

  const socket = page.socket();
  socket.accept();
  const [first, ...others] = socket.sent;
  assert.deepEqual(first, { type: 'authenticate', token: 'token-1' });
  assert.deepEqual(others.map(({ channel }) => channel).sort(), ['event:sr:match:1', 'tickets', 'wallet']);
  socket.say({ type: 'snapshot', channel: 'wallet', payload: { wallets: [{ currency: 'EUR', available: '12.00', held: '5.00', atStake: '0.00' }] } });
  assert.equal(page.$('m-available').textContent, '12.00 EUR');
  const ticket = { ticketId: 't1', sequence: 2, status: 'accepted', totalStake: '5.00', currency: 'EUR', bets: [] };
  socket.say({ type: 'snapshot', channel: 'tickets', payload: { tickets: [ticket] } });
  socket.say({ type: 'delta', channel: 'tickets', payload: { tickets: [{ ...ticket, sequence: 1, status: 'pending' }] } });
  assert.match(page.$('bets').textContent, /5.00 EUR.*Accepted/, 'older news change nothing');

  const again = await page.reload();
  assert.deepEqual(inside(again), [false, true, false], 'a reload keeps the session');
  await again.press('logout');
  assert.deepEqual(inside(again), [true, false, true]);
  assert.equal(again.brand.sessions.size, 0);
  assert.deepEqual([...again.storage.content], []);
  assert.deepEqual([again.$('m-available').textContent, again.$('bets').children.length], ['–', 0]);
});

test('logging out works without an answer', async () => {
  const page = await open(new Brand());
  await logIn(page, 'ann@example.com');
  page.brand.refuses.set('DELETE /sessions/current', 503);
  await page.press('logout');
  assert.deepEqual(inside(page), [true, false, true]);
});

test('joining logs in', async () => {
  const page = await open(new Brand());
  const form = page.$('join-form');
  form.querySelector('[type=email]').value = 'eve@example.com';
  form.querySelector('[type=password]').value = 'secret';
  await page.press(form.querySelector('[type=submit]'));
  assert.deepEqual(inside(page), [false, true, false]);
});

test('who is not logged in is asked to before a bet is sent', async () => {
  const page = await open(new Brand());
  await show(page, line('2.10'));
  await page.press(prices(page)[0]);
  await page.press('slip-place');
  assert.ok(page.$('login').open);
  assert.equal(page.brand.posts.length, 0);
});

test('a session that is over ends here too', async () => {
  const page = await open(new Brand());
  await logIn(page, 'ann@example.com');
  page.socket().accept();
  page.socket().end(4401);
  assert.deepEqual(inside(page), [true, false, true]);
  await logIn(page, 'ann@example.com');
  await show(page, line('2.10'));
  await page.press(prices(page)[0]);
  page.brand.sessions.clear();
  await page.press('slip-place');
  assert.deepEqual(inside(page), [true, false, true]);
  assert.equal(page.$('slip-note').textContent, 'Log in again.');
});

test('the stream comes back by itself, with all its channels', async () => {
  const page = await open(new Brand());
  page.socket().accept();
  assert.equal(page.$('pulse').dataset.state, 'on');
  page.socket().end(1006);
  assert.equal(page.$('pulse').dataset.state, 'off');
  await page.pass(1000);
  assert.equal(page.sockets.length, 2);
  page.socket().accept();
  page.socket().say({ type: 'reconnect' });
  await settled();
  assert.equal(page.sockets.length, 3);
  page.socket().accept();
  assert.deepEqual(page.socket().sent, [{ type: 'subscribe', channel: 'event:sr:match:1' }]);
});
