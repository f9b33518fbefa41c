// Prices that move, and lines that close.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Brand, EVENT, bettor, event, line, prices, show } from './brand.mjs';
import { open } from './browser.mjs';

test('a price that moves says which way, also on the slip', async () => {
  const page = await bettor(open);
  const [reds] = prices(page);
  assert.equal(reds.getAttribute('aria-pressed'), 'true');
  for (const [odds, way, other, back] of [['2.40', 'up', 'down', '12.00'], ['1.95', 'down', 'up', '9.75']]) {
    await show(page, line(odds));
    assert.match(reds.textContent, new RegExp(odds));
    assert.deepEqual([reds.classList.contains(way), reds.classList.contains(other)], [true, false]);
    assert.match(page.$('slip-legs').textContent, new RegExp(`Reds @ ${odds}`));
    assert.equal(page.$('slip-return').textContent, back);
  }
  await page.pass(2500);
  assert.ok(!reds.classList.contains('down'), 'old news');
  await page.press('slip-place');
  assert.equal(page.brand.posts[0].body.bets[0].selections[0].odds, '1.95');
});

test('a suspended line cannot be bet on', async () => {
  const page = await bettor(open);
  const states = [
    line('2.10', { status: 'suspended' }),
    line('2.10', { outcomes: [{ id: '1', name: 'Reds', active: false, odds: '2.10' }] }),
    line(null),
  ];
  for (const state of states) {
    await show(page, state);
    assert.ok(prices(page)[0].disabled);
    assert.match(page.$('slip-legs').textContent, /Reds @ suspended/);
    assert.ok(page.$('slip-place').disabled);
    await page.press('slip-place');
    page.$('slip-form').dispatchEvent(new Event('submit', { cancelable: true }));
    await page.pass(0);
    assert.equal(page.brand.posts.length, 0);
    await show(page, line('2.20'));
    assert.ok(!prices(page)[0].disabled && !page.$('slip-place').disabled);
  }
  await page.press('slip-place');
  assert.equal(page.brand.posts[0].body.bets[0].selections[0].odds, '2.20');
});

test('a price is taken off the slip by the board and by the slip', async () => {
  const page = await bettor(open);
  const [reds, blues] = prices(page);
  await page.press(blues);
  assert.equal(page.$('slip-count').textContent, '2');
  await page.press(reds);
  assert.deepEqual([reds.getAttribute('aria-pressed'), page.$('slip-count').textContent], ['false', '1']);
  const stake = page.$('slip-legs').querySelector('input');
  stake.write('7.50');
  assert.deepEqual([page.$('slip-total').textContent, page.$('slip-return').textContent], ['7.50', '22.50']);
  await page.press(page.$('slip-legs').querySelector('button.remove'));
  assert.deepEqual([blues.getAttribute('aria-pressed'), page.$('slip-form').hidden], ['false', true]);
});

test('the list of matches follows the brand', async () => {
  const brand = new Brand();
  const page = await open(brand);
  page.socket().accept();
  const shown = () => page.$('events').children.map((match) => match.getAttribute('aria-label'));
  assert.deepEqual(shown(), ['Reds – Blues']);
  const soon = event({ eventId: 'sr:match:2', status: 'not_started', startTime: Date.now() + 600_000, competitors: [{ name: 'Greens' }] });
  brand.events = [soon, event()];
  await page.pass(5000);
  assert.deepEqual(shown(), ['Reds – Blues', 'Greens'], 'live ones first');
  const [all, live] = page.document.querySelectorAll('[data-filter]');
  await page.press(live);
  assert.deepEqual([shown(), all.getAttribute('aria-pressed')], [['Reds – Blues'], 'false']);
  brand.events = [event({ status: 'ended' })];
  await page.pass(5000);
  assert.deepEqual([shown(), page.$('board-empty').hidden], [[], false]);
  assert.deepEqual(page.socket().sent.filter(({ type }) => type === 'unsubscribe').map(({ channel }) => channel).sort(), [`event:${EVENT}`, 'event:sr:match:2']);
});
