// What becomes of a ticket that is sent. Nothing here touches the document.

// What the answer to sending it says: `ticket`, here it is; `refused`, it was never made; `unknown`, it may have been.
export function verdict(status, content, again) {
  if (status >= 200 && status < 300) return content.ticketId ? 'ticket' : 'unknown';
  // 401, 403, 404 come before anybody looks for the key: they say nothing of the time before.
  if (again) return status === 422 ? 'refused' : 'unknown';
  return status >= 400 && status < 500 && status !== 408 && status !== 429 ? 'refused' : 'unknown';
}

// Where a ticket that exists stands.
export function standing(ticket) {
  if (ticket.status === 'pending') return 'waiting';
  return ticket.status === 'rejected' ? 'rejected' : 'placed';
}

// The button of the slip. Nothing new is placed while a ticket is under way; what is unknown can be repeated.
export function button(phase, legs) {
  if (phase === 'unknown') return { text: 'Try again', disabled: false };
  return { text: 'Place bet', disabled: phase !== 'open' || legs.some((leg) => leg.now === null) };
}

export function ticketOf(legs, currency, oddsChange) {
  return {
    currency,
    funds: 'cash',
    oddsChange,
    bets: legs.map((leg) => ({
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
  };
}

// A ticket under way outlives a reload of the page in this tab.
const KEY = 'paddock.ticket';

export function keep(sent, legs) {
  const shown = legs.map(([key, { event, line, outcome, odds, now, stake }]) => [key, { event, line, outcome, odds, now, stake }]);
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ sent, legs: shown }));
  } catch { /* full: then it lives as long as the page */ }
}

export function kept() {
  try {
    const { sent, legs } = JSON.parse(sessionStorage.getItem(KEY));
    return sent.key && sent.ticket && sent.customer && legs.length > 0 ? { sent, legs } : null;
  } catch {
    return null;
  }
}

export const forget = () => sessionStorage.removeItem(KEY);
