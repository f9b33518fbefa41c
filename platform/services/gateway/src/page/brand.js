// Whose page this is. Without an answer the page works all the same.

import { call } from './api.js';
import { $, make } from './dom.js';

export async function start() {
  let brand;
  try { brand = await call('GET', '/brand'); } catch { return; }
  document.title = brand.name;
  for (const place of document.querySelectorAll('[data-brand]')) place.textContent = brand.name;
  $('licence').textContent = `Licence ${brand.licence.name} (${brand.licence.jurisdiction}).`;
  $('currencies').replaceChildren(...brand.currencies.map((code) => {
    const option = make('option');
    option.value = code;
    return option;
  }));
  $('join-form').querySelector('[name=currency]').setAttribute('value', brand.currencies[0] ?? '');
}
