//! Readiness: named gates that must all be open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The gates of a pod. `/readyz` is 200 when all are open and the pod is not draining.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    missing: Arc<Mutex<BTreeMap<String, String>>>,
}

/// One condition of readiness; closed when made.
#[derive(Debug, Clone)]
pub struct Gate {
    name: String,
    readiness: Readiness,
}

impl Readiness {
    /// Adds a gate, closed, with the reason that `/readyz` shows.
    pub fn gate(&self, name: impl Into<String>, reason: impl Into<String>) -> Gate {
        let gate = Gate { name: name.into(), readiness: self.clone() };
        gate.close(reason);
        gate
    }

    /// What is missing: `name: reason`.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.iter().map(|(name, reason)| format!("{name}: {reason}")).collect()
    }
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        let was = self.readiness.missing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        if was.is_some() {
            tracing::info!(gate = self.name, "ready");
        }
    }

    /// The condition does not hold, for this reason.
    pub fn close(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let was = self
            .readiness
            .missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.name.clone(), reason.clone());
        if was.is_none() {
            tracing::warn!(gate = self.name, reason, "not ready");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_gates_count_and_each_names_its_reason() {
        let readiness = Readiness::default();
        let (bus, book) = (readiness.gate("bus", "no answer yet"), readiness.gate("market-book", "not loaded"));
        assert_eq!(readiness.missing(), ["bus: no answer yet", "market-book: not loaded"]);
        bus.open();
        book.open();
        assert!(readiness.missing().is_empty());
        bus.close("no answer for 3 s");
        assert_eq!(readiness.missing(), ["bus: no answer for 3 s"]);
    }
}
