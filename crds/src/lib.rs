//! The kinds of paddock.bet: types, validation rules, no client.
