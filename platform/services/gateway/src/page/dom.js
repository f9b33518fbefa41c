// Small words for the document. Text only: nothing that a service sends is ever read as HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export const legKey = (line, outcomeId) => `${line.eventId}|${line.marketId}|${line.specifiers ?? ''}|${outcomeId}`;

export const title = (text) => text.replace(/[-_]/g, ' ').replace(/^./, (first) => first.toUpperCase());

export function marketName(line) {
  const specifiers = line.specifiers ? ` (${line.specifiers.replaceAll('|', ', ')})` : '';
  return title(line.marketType) + specifiers;
}

export const teams = (event) => event.competitors.map((competitor) => competitor.name).join(' – ') || event.eventId;
