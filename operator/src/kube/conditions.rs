//! Conditions of a status: times change only when a condition flips, order is fixed, progress conditions exist only while True.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use paddock_crds::condition::{RECONCILING, STALLED};
use std::collections::BTreeMap;

/// Longest message that `metav1.Condition` takes, in bytes.
const MESSAGE_LIMIT: usize = 32_768;

/// Value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
pub enum Value {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known.
    Unknown,
}

impl From<bool> for Value {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Builder of the conditions of one status, from those before.
///
/// `Reconciling` and `Stalled` are kept only if they are set to True in this pass; other types stay until [`Conditions::remove`].
#[derive(Clone, Debug)]
pub struct Conditions {
    old: BTreeMap<String, Condition>,
    new: BTreeMap<String, Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl Conditions {
    /// Starts from the conditions of the live status; `generation` is the object's `metadata.generation`.
    pub fn from(old: &[Condition], generation: Option<i64>) -> Self {
        Self::at(old, generation, Timestamp::now())
    }

    /// As [`Conditions::from`], at a given time.
    pub fn at(old: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        let old: BTreeMap<_, _> = old.iter().map(|condition| (condition.type_.clone(), condition.clone())).collect();
        let new = old
            .iter()
            .filter(|(type_, _)| *type_ != RECONCILING && *type_ != STALLED)
            .map(|(k, v)| (k.clone(), v.clone()));
        Self { new: new.collect(), old, generation, now }
    }

    /// Sets a condition. `reason` is a stable CamelCase word, `message` for people; both may be built of the spec, never of a Secret.
    #[must_use]
    pub fn set(mut self, type_: &str, value: impl Into<Value>, reason: &str, message: impl Into<String>) -> Self {
        let value = value.into();
        if value != Value::True && (type_ == RECONCILING || type_ == STALLED) {
            return self.remove(type_);
        }
        let status: &'static str = value.into();
        let since = match self.old.get(type_) {
            Some(old) if old.status == status => old.last_transition_time.clone(),
            _ => Time(self.now),
        };
        let mut message = message.into();
        crate::fault::truncate(&mut message, MESSAGE_LIMIT);
        self.new.insert(
            type_.to_owned(),
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                observed_generation: self.generation,
                last_transition_time: since,
            },
        );
        self
    }

    /// Drops a condition.
    #[must_use]
    pub fn remove(mut self, type_: &str) -> Self {
        self.new.remove(type_);
        self
    }

    /// The conditions, in order of type.
    pub fn build(self) -> Vec<Condition> {
        self.new.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn time_changes_only_when_a_condition_flips() {
        let first = Conditions::at(&[], Some(1), at(100)).set("Ready", false, "Waiting", "0/2").build();
        let second = Conditions::at(&first, Some(2), at(200)).set("Ready", false, "Waiting", "1/2").build();
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((second[0].message.as_str(), second[0].observed_generation), ("1/2", Some(2)));
        let third = Conditions::at(&second, Some(2), at(300)).set("Ready", true, "Available", "").build();
        assert_eq!(third[0].last_transition_time, Time(at(300)));
        let fourth = Conditions::at(&third, Some(2), at(400)).set("Ready", Value::Unknown, "Lost", "").build();
        assert_eq!((fourth[0].status.as_str(), &fourth[0].last_transition_time), ("Unknown", &Time(at(400))));
    }

    #[test]
    fn progress_conditions_are_there_only_while_true() {
        let conditions =
            Conditions::at(&[], None, at(1)).set(STALLED, true, "NotOurs", "x").set(RECONCILING, true, "R", "");
        let types = |conditions: &[Condition]| conditions.iter().map(|c| c.type_.clone()).collect::<Vec<_>>();
        let first = conditions.set("Bound", true, "Bound", "").build();
        assert_eq!(types(&first), ["Bound", RECONCILING, STALLED], "in order");
        let second = Conditions::at(&first, None, at(2)).set(STALLED, false, "Fine", "").build();
        assert_eq!(types(&second), ["Bound"]);
        assert_eq!(types(&Conditions::at(&second, None, at(3)).remove("Bound").build()), Vec::<String>::new());
    }
}
