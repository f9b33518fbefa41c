//! Why a ticket is refused.

use paddock_market_book::Refusal;

/// Stable codes of rejected tickets. Limits of three kinds exist: the market rule's (`stake-*`, `limit-exceeded`), account's for
/// responsible gambling (account's own codes) and customer risk limits, which do not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "kebab-case")]
pub enum Code {
    /// The line is shown but takes no bets, or did not during the delay.
    MarketSuspended,
    /// The line is over, withdrawn, or its rule is closed.
    MarketClosed,
    /// The price is not what was asked, and the policy does not take the present one.
    OddsChanged,
    /// Below the rule's lowest stake.
    StakeTooLow,
    /// Above the rule's highest stake.
    StakeTooHigh,
    /// The payout or the liability would pass the rule's limit.
    LimitExceeded,
    /// The rule has no limits in the currency.
    CurrencyNotOffered,
    /// The rule does not admit the country.
    CountryNotAllowed,
    /// A pre-match line of an event that has started.
    EventStarted,
    /// The copy of the offer is older than three seconds.
    OfferStale,
    /// No such event, line or outcome, or no rule offers it.
    UnknownSelection,
    /// Account gave no answer in time; nothing was taken.
    AccountUnavailable,
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::MarketSuspended => Self::MarketSuspended,
            Refusal::MarketClosed => Self::MarketClosed,
            Refusal::CountryNotAllowed => Self::CountryNotAllowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn the_books_refusals_have_the_same_codes_here() {
        for refusal in Refusal::iter() {
            assert_eq!(Code::from(refusal).to_string(), refusal.to_string());
        }
    }
}
