//! Money: integer minor units by ISO 4217 exponent (rule B6).
//!
//! An amount is an [`i64`] count of minor units plus a [`Currency`]; every operation is checked, none uses a float.
//! Exact results that are no whole number of minor units live in a [`BigRational`] and become [`Money`] once, by a
//! named [`Rounding`].

mod amount;
mod currency;
mod rounding;

pub use amount::{Money, MoneyError};
pub use currency::{Currency, UnknownCurrency};
pub use num_bigint::BigInt;
pub use num_rational::BigRational;
pub use rounding::Rounding;
