//! Why a ticket is refused.

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
