//! Account: customers, sessions and the ledger.
