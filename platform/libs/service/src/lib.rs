//! What every betting service shares: HTTP, configuration, bindings, telemetry, outbox, drain.
