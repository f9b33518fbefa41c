//! The chart of accounts and the registry of reason codes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};
use uuid::Uuid;

use crate::Limit;

/// Serde by `Display` and `FromStr`.
macro_rules! text_serde {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A kind of account. Player accounts exist per customer and currency, house accounts per currency; both in the ledger of one
/// environment. Players' balances are what the house owes them, so they rise by credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Display, EnumString, EnumIter, IntoStaticStr)]
pub enum AccountCode {
    /// A customer's money, free to bet or withdraw; never below zero.
    #[strum(serialize = "player:cash")]
    PlayerCash,
    /// What a customer owes after a rollback that cash could not cover; a receivable, rises by debit.
    #[strum(serialize = "player:debt")]
    PlayerDebt,
    /// Stakes of accepted bets until they settle (escrow); never below zero.
    #[strum(serialize = "house:bets")]
    HouseBets,
    /// Profit and loss of betting: takes lost stakes, pays winnings.
    #[strum(serialize = "house:pnl")]
    HousePnl,
    /// Money taken in or paid out by cashiers.
    #[strum(serialize = "house:cashier")]
    HouseCashier,
    /// Money on its way to and from payment providers.
    #[strum(serialize = "house:psp")]
    HousePsp,
    /// Withdrawals that are decided but not yet paid; never below zero.
    #[strum(serialize = "house:withdrawals")]
    HouseWithdrawals,
    /// What bonuses cost.
    #[strum(serialize = "house:bonus-cost")]
    HouseBonusCost,
    /// Taxes held for the authority; never below zero.
    #[strum(serialize = "house:tax")]
    HouseTax,
    /// Differences that a person has to look at.
    #[strum(serialize = "house:suspense")]
    HouseSuspense,
}

impl AccountCode {
    /// Whether it exists per customer.
    pub const fn is_player(self) -> bool {
        matches!(self, Self::PlayerCash | Self::PlayerDebt)
    }

    /// Which balance the account must keep.
    pub const fn limit(self) -> Limit {
        match self {
            Self::PlayerCash | Self::HouseBets | Self::HouseWithdrawals | Self::HouseTax => Limit::DebitsWithinCredits,
            Self::PlayerDebt => Limit::CreditsWithinDebits,
            Self::HousePnl | Self::HouseCashier | Self::HousePsp | Self::HouseBonusCost | Self::HouseSuspense => {
                Limit::None
            }
        }
    }

    /// The account of a customer; `None` for house codes.
    pub const fn of_player(self, customer: Uuid) -> Option<AccountId> {
        if self.is_player() { Some(AccountId { code: self, customer: Some(customer) }) } else { None }
    }

    /// The account of the house; `None` for player codes.
    pub const fn of_house(self) -> Option<AccountId> {
        if self.is_player() { None } else { Some(AccountId { code: self, customer: None }) }
    }
}

text_serde!(AccountCode);

/// One account: `player:<customer id>:cash` or `house:bets`. The currency is the ledger and stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId {
    code: AccountCode,
    customer: Option<Uuid>,
}

/// The text names no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no account: write player:<customer id>:cash, player:<customer id>:debt or a house account such as house:bets"
)]
pub struct AccountIdError(pub String);

impl AccountId {
    /// A customer's cash.
    pub const fn cash(customer: Uuid) -> Self {
        Self { code: AccountCode::PlayerCash, customer: Some(customer) }
    }

    /// A customer's debt.
    pub const fn debt(customer: Uuid) -> Self {
        Self { code: AccountCode::PlayerDebt, customer: Some(customer) }
    }

    /// The escrow of open bets.
    pub const HOUSE_BETS: Self = Self { code: AccountCode::HouseBets, customer: None };
    /// Profit and loss.
    pub const HOUSE_PNL: Self = Self { code: AccountCode::HousePnl, customer: None };
    /// Cashiers.
    pub const HOUSE_CASHIER: Self = Self { code: AccountCode::HouseCashier, customer: None };

    /// The kind of account.
    pub const fn code(self) -> AccountCode {
        self.code
    }

    /// The customer of a player account.
    pub const fn customer(self) -> Option<Uuid> {
        self.customer
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code: &'static str = self.code.into();
        match (self.customer, code.split_once(':')) {
            (Some(customer), Some((owner, purpose))) => write!(f, "{owner}:{customer}:{purpose}"),
            _ => f.write_str(code),
        }
    }
}

impl FromStr for AccountId {
    type Err = AccountIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let account = match parts.as_slice() {
            ["player", customer, purpose] => {
                let code = AccountCode::from_str(&format!("player:{purpose}")).ok();
                code.zip(Uuid::parse_str(customer).ok()).and_then(|(code, customer)| code.of_player(customer))
            }
            _ => AccountCode::from_str(text).ok().and_then(AccountCode::of_house),
        };
        account.ok_or_else(|| AccountIdError(text.to_owned()))
    }
}

text_serde!(AccountId);

/// Why money moves. Account knows nothing of bets but these codes; analytics groups by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Display, EnumString, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Reason {
    /// A cashier takes in money or corrects in the customer's favour: house:cashier → player:cash.
    CashierCredit,
    /// A cashier pays out: player:cash → house:cashier.
    CashierDebit,
    /// A deposit through a payment provider: house:psp → player:cash.
    Deposit,
    /// A withdrawal through a payment provider: player:cash → house:withdrawals.
    Withdrawal,
    /// The stake of a ticket, held until the decision and posted on acceptance: player:cash → house:bets.
    BetStake,
    /// A settled bet returns to the customer, from its stake: house:bets → player:cash.
    BetReturn,
    /// The part of a return that exceeds the stake: house:pnl → player:cash.
    BetWin,
    /// The part of a stake that the house keeps: house:bets → house:pnl.
    BetLoss,
    /// A cancelled or void bet gives its stake back: house:bets → player:cash.
    BetRefund,
    /// A cash-out is paid.
    CashOut,
    /// A settlement is undone.
    BetRollback,
    /// What a rollback could not take from cash: player:debt → house.
    Debt,
    /// Owed money is paid back: player:cash → player:debt.
    DebtRepayment,
    /// A bonus is granted: house:bonus-cost → player:cash.
    Bonus,
    /// A person corrects the books: through house:suspense.
    Correction,
}

impl Reason {
    /// Whether money may move this way for this reason: (debited, credited).
    pub const fn allows(self, debit: AccountCode, credit: AccountCode) -> bool {
        use AccountCode::{
            HouseBets, HouseBonusCost, HouseCashier, HousePnl, HousePsp, HouseSuspense, HouseWithdrawals, PlayerCash,
            PlayerDebt,
        };
        match self {
            Self::CashierCredit => matches!((debit, credit), (HouseCashier, PlayerCash)),
            Self::CashierDebit => matches!((debit, credit), (PlayerCash, HouseCashier)),
            Self::Deposit => matches!((debit, credit), (HousePsp, PlayerCash)),
            Self::Withdrawal => {
                matches!((debit, credit), (PlayerCash, HouseWithdrawals) | (HouseWithdrawals, HousePsp | PlayerCash))
            }
            Self::BetStake => matches!((debit, credit), (PlayerCash, HouseBets)),
            Self::BetReturn | Self::BetRefund => matches!((debit, credit), (HouseBets, PlayerCash)),
            Self::BetWin => matches!((debit, credit), (HousePnl, PlayerCash)),
            Self::BetLoss => matches!((debit, credit), (HouseBets, HousePnl)),
            Self::CashOut => matches!((debit, credit), (HouseBets | HousePnl, PlayerCash) | (HouseBets, HousePnl)),
            // The reverse of returns, wins and losses: the stake goes back into escrow, the win to the house.
            Self::BetRollback => {
                matches!((debit, credit), (PlayerCash, HouseBets | HousePnl) | (HousePnl, HouseBets))
            }
            Self::Debt => matches!((debit, credit), (PlayerDebt, HouseBets | HousePnl)),
            Self::DebtRepayment => matches!((debit, credit), (PlayerCash, PlayerDebt)),
            Self::Bonus => matches!((debit, credit), (HouseBonusCost, PlayerCash)),
            Self::Correction => matches!((debit, credit), (HouseSuspense, _) | (_, HouseSuspense)),
        }
    }
}

text_serde!(Reason);

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn accounts_round_trip_as_text() {
        let customer = Uuid::from_u128(7);
        for code in AccountCode::iter() {
            let account = code.of_player(customer).or(code.of_house()).unwrap();
            assert_eq!(account.to_string().parse(), Ok(account));
            assert_eq!(account.code(), code);
        }
        assert_eq!(AccountId::cash(customer).to_string(), format!("player:{customer}:cash"));
        assert_eq!(AccountId::HOUSE_BETS.to_string(), "house:bets");
    }

    #[test]
    fn nonsense_names_no_account() {
        for text in ["player:cash", "house:cash", "player:x:cash", "house", "", "house:bets:x", "player::cash"] {
            assert!(text.parse::<AccountId>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_reason_lets_a_customer_pay_another_or_himself() {
        for reason in Reason::iter() {
            assert!(!reason.allows(AccountCode::PlayerCash, AccountCode::PlayerCash), "{reason}");
            assert!(AccountCode::iter().any(|debit| AccountCode::iter().any(|credit| reason.allows(debit, credit))));
        }
    }
}
