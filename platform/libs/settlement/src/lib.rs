//! Settlement of bets on exact rationals.
