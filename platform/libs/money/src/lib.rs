//! Money: integer minor units by ISO 4217 exponent.
