//! Two-phase double-entry ledger: the pure model.
