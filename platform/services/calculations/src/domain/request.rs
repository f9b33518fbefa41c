//! A ticket as it is asked for, and as it is understood.

use paddock_events::{Context, LineKey};
use paddock_market_book::Refusal;
use paddock_money::{Currency, Money};
use paddock_odds::{MarketType, Odds, Specifiers};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Most bets of a ticket.
const MOST_BETS: usize = 20;
/// Longest id of an event or outcome.
const LONGEST_NAME: usize = 128;

/// Which price is taken if it is not the asked one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, strum::Display, strum::EnumString,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum OddsChange {
    /// None: any other price refuses.
    #[default]
    None,
    /// A better one is taken, a worse one refuses.
    Higher,
    /// The present one, whatever it is.
    Any,
}

/// `POST /internal/v1/tickets`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceTicket {
    /// Customer, as the session says.
    pub customer_id: Uuid,
    /// Currency of the session.
    pub currency: Currency,
    /// ISO 3166-1 alpha-2; empty = unknown.
    #[serde(default)]
    pub country: String,
    /// The customer's key.
    pub idempotency_key: String,
    /// Where the request came from.
    #[serde(default)]
    pub context: Context,
    /// The ticket as the public API takes it.
    pub ticket: TicketRequest,
    /// What the caller's market book says of it.
    #[serde(default)]
    pub book: Option<CallersBook>,
}

/// A ticket under the market book of the gateway, which may be newer than this replica's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallersBook {
    /// Which book.
    pub generation: u64,
    /// Why it refuses each bet, in their order.
    pub refused: Vec<Option<Refusal>>,
}

/// A ticket of the public API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TicketRequest {
    /// ISO 4217.
    pub currency: Currency,
    /// `cash`.
    #[serde(default = "cash")]
    pub funds: String,
    /// Policy for other prices.
    #[serde(default)]
    pub odds_change: OddsChange,
    /// Bets.
    pub bets: Vec<BetRequest>,
}

fn cash() -> String {
    "cash".to_owned()
}

/// A bet of the public API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BetRequest {
    /// `single`, `accumulator`, `system`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Sizes of a system.
    #[serde(default)]
    pub system_sizes: Vec<u32>,
    /// Win and place.
    #[serde(default)]
    pub each_way: bool,
    /// Decimal amount.
    pub stake: String,
    /// `bet` or `line`; the same for a single.
    #[serde(default)]
    pub stake_per: Option<String>,
    /// Legs.
    pub selections: Vec<SelectionRequest>,
}

/// A leg of the public API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelectionRequest {
    /// Event URN.
    pub event_id: String,
    /// Market id as in the feed: a number, also as text.
    pub market_id: MarketId,
    /// Canonical specifiers.
    #[serde(default)]
    pub specifiers: Specifiers,
    /// Outcome id.
    pub outcome_id: String,
    /// The price that the customer saw.
    pub odds: Odds,
    /// Stands in every line of a system.
    #[serde(default)]
    pub banker: bool,
}

/// A market id that may be written as a number or as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "u32")]
pub struct MarketId(pub u32);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u32),
    Text(String),
}

impl TryFrom<NumberOrText> for MarketId {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        match value {
            NumberOrText::Number(number) => Ok(Self(number)),
            NumberOrText::Text(text) => {
                text.parse().map(Self).map_err(|_| format!("{text:?} is no market id: take it from the offer"))
            }
        }
    }
}

impl From<MarketId> for u32 {
    fn from(id: MarketId) -> Self {
        id.0
    }
}

/// A single bet that makes sense; whether it is accepted is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Single {
    /// Stake.
    pub stake: Money,
    /// Line.
    pub line: LineKey,
    /// Market type of the line.
    pub market: MarketType,
    /// Outcome id.
    pub outcome_id: String,
    /// Asked price.
    pub odds: Odds,
}

/// A ticket that can never be accepted as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No bets, or too many.
    #[error("a ticket has 1 to {MOST_BETS} bets")]
    Bets,
    /// Only singles.
    #[error("only bets of type \"single\" with one selection are offered; send each selection as a bet of its own")]
    BetType,
    /// Only cash.
    #[error("only funds \"cash\" are offered")]
    Funds,
    /// Stake unreadable or zero.
    #[error("the stake is no amount above zero in the ticket's currency; write it as \"5.00\"")]
    Stake,
    /// `stakePer` is neither.
    #[error("stakePer is \"bet\" or \"line\"")]
    StakePer,
    /// The session has another currency.
    #[error("the ticket's currency is not the customer's; use the currency of the wallet")]
    Currency,
    /// No such market, or names that nothing has.
    #[error("the event, market, specifiers or outcome do not exist; take them from the offer")]
    Market,
    /// The sum does not fit.
    #[error("the sum of the stakes is too large; lower the stakes")]
    TooLarge,
}

impl Malformed {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Bets => "bets-invalid",
            Self::BetType => "bet-type-not-offered",
            Self::Funds => "funds-not-offered",
            Self::Stake | Self::TooLarge => "stake-invalid",
            Self::StakePer => "stake-per-invalid",
            Self::Currency => "currency-not-offered",
            Self::Market => "unknown-selection",
        }
    }
}

impl TicketRequest {
    /// The bets of the ticket and the sum of their stakes.
    pub fn understand(&self, wallet: Currency) -> Result<(Vec<Single>, Money), Malformed> {
        if self.currency != wallet {
            return Err(Malformed::Currency);
        }
        if self.funds != "cash" {
            return Err(Malformed::Funds);
        }
        if self.bets.is_empty() || self.bets.len() > MOST_BETS {
            return Err(Malformed::Bets);
        }
        let singles = self.bets.iter().map(|bet| bet.understand(wallet)).collect::<Result<Vec<_>, _>>()?;
        let total =
            Money::checked_sum(wallet, singles.iter().map(|single| single.stake)).map_err(|_| Malformed::TooLarge)?;
        Ok((singles, total))
    }
}

impl BetRequest {
    fn understand(&self, currency: Currency) -> Result<Single, Malformed> {
        let [selection] = self.selections.as_slice() else { return Err(Malformed::BetType) };
        if self.kind != "single" || self.each_way || selection.banker || !self.system_sizes.is_empty() {
            return Err(Malformed::BetType);
        }
        if self.stake_per.as_deref().is_some_and(|per| per != "bet" && per != "line") {
            return Err(Malformed::StakePer);
        }
        let stake = Money::parse(&self.stake, currency).map_err(|_| Malformed::Stake)?;
        if !stake.is_positive() {
            return Err(Malformed::Stake);
        }
        if !is_name(&selection.event_id) || !is_name(&selection.outcome_id) {
            return Err(Malformed::Market);
        }
        let market = MarketType::of_feed_id(selection.market_id.0).ok_or(Malformed::Market)?;
        market.line(&selection.specifiers).map_err(|_| Malformed::Market)?;
        Ok(Single {
            stake,
            line: LineKey::new(&selection.event_id, selection.market_id.0, selection.specifiers.clone()),
            market,
            outcome_id: selection.outcome_id.clone(),
            odds: selection.odds,
        })
    }
}

/// What events and outcomes may be called: it becomes part of keys, in which `|` divides, and of rows.
fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|')
}
