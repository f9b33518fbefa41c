// One press, one bet, whatever happens on the way.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Brand, bettor, line, logIn, prices, show } from './brand.mjs';
import { open, settled } from './browser.mjs';

const noted = (page, what) => assert.match(page.$('slip-note').textContent, what);
const canPress = (page, text) => assert.deepEqual([page.$('slip-place').textContent, page.$('slip-place').disabled], [text, false]);

// Both requests were for the same ticket, and there is one.
function same(brand) {
  const [first, ...others] = brand.posts;
  assert.ok(others.length > 0, 'it was tried again');
  for (const other of others) assert.deepEqual(other, first);
  assert.equal(brand.tickets.size, 1);
}

test('a bet is placed once and the slip is empty', async () => {
  const page = await bettor(open);
  await page.press('slip-place');
  const [{ key, body }] = page.brand.posts;
  assert.ok(key.length >= 16);
  assert.deepEqual(body, {
    currency: 'EUR',
    funds: 'cash',
    oddsChange: 'higher',
    bets: [{ type: 'single', stake: '5.00', selections: [{ eventId: 'sr:match:1', marketId: 1, specifiers: '', outcomeId: '1', odds: '2.10' }] }],
  });
  noted(page, /^Accepted: 5.00 to return 10.50/);
  assert.equal(page.$('slip-legs').children.length, 0);
  assert.equal(page.storage.getItem('paddock.ticket'), null);

  await page.press(prices(page)[0]);
  await page.press('slip-place');
  assert.notEqual(page.brand.posts[1].key, key, 'another bet');
  assert.equal(page.brand.tickets.size, 2);
});

for (const status of [0, 408, 429, 500, 502, 503, 504]) {
  test(`${status}: nobody knows, so the same ticket is sent again, whatever the price does`, async () => {
    const page = await bettor(open);
    page.brand.troubles = [{ status, body: status === 502 ? '<html>Bad gateway</html>' : undefined }];
    await page.press('slip-place');
    noted(page, /not known whether your bet was placed/);
    await show(page, line('2.40'));
    canPress(page, 'Try again');
    await page.press('slip-place');
    same(page.brand);
    noted(page, /^Accepted/);
  });
}

test('an answer that is no ticket says nothing', async () => {
  for (const trouble of [{ status: 200, body: '<html>Welcome to the hotel</html>' }, { cut: true }]) {
    const page = await bettor(open);
    page.brand.troubles = [trouble];
    await page.press('slip-place');
    noted(page, /not known/);
    await show(page, line('2.40'));
    await page.press('slip-place');
    same(page.brand);
  }
});

test('the price moves while the ticket is on its way', async () => {
  const page = await bettor(open);
  let answer;
  page.brand.troubles = [{ status: 503, until: new Promise((resolve) => { answer = resolve; }) }];
  await page.press('slip-place');
  assert.ok(page.$('slip-place').disabled, 'sent');
  await show(page, line('2.40'));
  assert.ok(page.$('slip-place').disabled, 'a price is no reason to send another');
  answer();
  await settled();
  await page.press('slip-place');
  same(page.brand);
});

test('while a ticket waits for its decision nothing else can be sent', async () => {
  const page = await bettor(open);
  page.brand.status = 'pending';
  await page.press('slip-place');
  noted(page, /bet delay/);
  await show(page, line('2.40'));
  assert.ok(page.$('slip-place').disabled);
  page.$('slip-form').dispatchEvent(new Event('submit', { cancelable: true }));
  await page.pass(500);
  assert.equal(page.brand.posts.length, 1);
  page.brand.refuses.set('GET /tickets/t1', 503);
  await page.pass(1000);
  noted(page, /bet delay/);
  page.brand.refuses.clear();
  page.brand.decide('accepted');
  await page.pass(500);
  noted(page, /^Accepted/);
  assert.equal(page.brand.tickets.size, 1);
});

test('a decision that takes too long is asked for with the same ticket', async () => {
  const page = await bettor(open);
  page.brand.status = 'pending';
  await page.press('slip-place');
  await page.pass(30_000);
  noted(page, /not decided yet/);
  await show(page, line('2.40'));
  canPress(page, 'Try again');
  page.brand.decide('accepted');
  await page.press('slip-place');
  same(page.brand);
  noted(page, /^Accepted/);
});

test('a slip that is under way cannot be changed', async () => {
  const page = await bettor(open);
  page.brand.troubles = [{ status: 503 }];
  await page.press('slip-place');
  const [stake] = page.$('slip-legs').querySelectorAll('input');
  const [remove] = page.$('slip-legs').querySelectorAll('button.remove');
  assert.deepEqual([stake.disabled, remove.disabled, page.$('odds-change').disabled], [true, true, true]);
  await page.press(prices(page)[1]);
  await show(page, line('2.40'));
  assert.match(page.$('slip-legs').textContent, /Reds @ 2.10/);
  assert.equal(page.$('slip-legs').children.length, 1);
  await page.press('slip-place');
  same(page.brand);
});

test('what is refused is over: the next press is another bet at the price of now', async () => {
  const page = await bettor(open);
  page.brand.troubles = [{ status: 422, lost: true, body: { detail: 'The stake is too high.' } }];
  await page.press('slip-place');
  noted(page, /^The stake is too high/);
  await show(page, line('2.40'));
  canPress(page, 'Place bet');
  assert.equal(page.$('slip-return').textContent, '12.00');
  page.brand.status = 'rejected';
  await page.press('slip-place');
  noted(page, /^Refused: no reason given/);
  page.brand.status = 'accepted';
  await page.press('slip-place');
  const [one, two, three] = page.brand.posts;
  assert.equal(new Set([one.key, two.key, three.key]).size, 3);
  assert.deepEqual([one, two, three].map(({ body }) => body.bets[0].selections[0].odds), ['2.10', '2.40', '2.40']);
  noted(page, /^Accepted/);
});

test('a refusal of the second try that says nothing of the first keeps the ticket', async () => {
  for (const status of [401, 403, 404]) {
    const page = await bettor(open);
    page.brand.troubles = [{ status: 503 }, { status, lost: true }];
    await page.press('slip-place');
    await page.press('slip-place');
    noted(page, /not known/);
    if (status === 401) await logIn(page, 'ann@example.com');
    await show(page, line('2.40'));
    await page.press('slip-place');
    same(page.brand);
  }
  const page = await bettor(open);
  page.brand.troubles = [{ status: 503, lost: true }, { status: 422, lost: true, body: { detail: 'The event is over.' } }];
  await page.press('slip-place');
  await page.press('slip-place');
  noted(page, /^The event is over/);
  canPress(page, 'Place bet');
});

test('two presses are one', async () => {
  const page = await bettor(open);
  page.$('slip-place').click();
  page.$('slip-form').dispatchEvent(new Event('submit', { cancelable: true }));
  await settled();
  assert.equal(page.brand.posts.length, 1);
});

test('a session that cannot be read sends nothing and leaves the slip open', async () => {
  const page = await bettor(open);
  page.brand.refuses.set('GET /sessions/current', 503);
  await page.press('slip-place');
  assert.equal(page.brand.posts.length, 0);
  canPress(page, 'Place bet');
  page.brand.refuses.clear();
  page.brand.troubles = [{ status: 503 }];
  await page.press('slip-place');
  page.brand.refuses.set('GET /sessions/current', 503);
  await page.press('slip-place');
  page.brand.refuses.clear();
  await show(page, line('2.40'));
  canPress(page, 'Try again');
  await page.press('slip-place');
  same(page.brand);
});

test('a reload keeps the ticket that is under way', async () => {
  const page = await bettor(open);
  page.brand.troubles = [{ status: 503 }];
  await page.press('slip-place');
  const again = await page.reload();
  noted(again, /before the page was loaded/);
  assert.match(again.$('slip-legs').textContent, /Reds @ 2.10.*Reds – Blues/);
  await show(again, line('2.40'));
  canPress(again, 'Try again');
  await again.press('slip-place');
  same(page.brand);
  noted(again, /^Accepted/);
  const third = await again.reload();
  assert.equal(third.$('slip-legs').children.length, 0);
  assert.equal(third.$('slip-note').textContent, '');
});

test('what the tab kept and nobody can read is nothing', async () => {
  for (const kept of ['', 'null', '{}', '{"sent":{"key":"k"},"legs":[]}']) {
    const page = await open(new Brand(), new Map([['paddock.ticket', kept]]));
    assert.equal(page.$('slip-legs').children.length, 0);
    assert.equal(page.$('slip-note').textContent, '');
  }
});

test('who logs out leaves no ticket behind', async () => {
  const page = await bettor(open);
  page.brand.troubles = [{ status: 503 }];
  await page.press('slip-place');
  await page.press('logout');
  noted(page, /You left before/);
  assert.equal(page.$('slip-legs').children.length, 0);
  assert.deepEqual([...page.storage.content], []);
});

test('an answer that comes after she logged out changes nothing', async () => {
  const page = await bettor(open);
  let answer;
  page.brand.troubles = [{ until: new Promise((resolve) => { answer = resolve; }) }];
  await page.press('slip-place');
  await page.press('logout');
  answer();
  await settled();
  noted(page, /You left before/);
});

test('nobody places the bet of another customer', async () => {
  const page = await bettor(open);
  page.brand.troubles = [{ status: 503, lost: true }];
  await page.press('slip-place');
  page.brand.sessions.clear();
  await page.press('slip-place');
  assert.equal(page.$('me-in').hidden, true, 'her session is over');
  await logIn(page, 'bob@example.com');
  await page.press('slip-place');
  noted(page, /somebody else/);
  assert.equal(page.$('slip-legs').children.length, 0);
  assert.deepEqual([page.brand.posts.length, page.brand.tickets.size], [1, 0]);
});
