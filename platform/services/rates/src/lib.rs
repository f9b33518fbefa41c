//! Rates: catalogue, margins, offer, results.
