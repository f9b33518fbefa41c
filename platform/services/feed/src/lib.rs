//! Feed: source of events, prices and results; simulator and producer states.
