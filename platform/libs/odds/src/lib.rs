//! Odds: exact rationals, market types, margins, price ladder.
