//! Calculations and settlement: ticket acceptance and payout.
