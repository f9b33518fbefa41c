//! What rates decides, without I/O: state of events and lines, the offer made from it, results.

mod event;
mod offer;
mod results;

pub use event::{Change, EventState, LineState};
pub use offer::{Conditions, differs, offer};
pub use results::{Fact, fold};

/// The sequence of what is published next of an event, a line or a result: no lower than the time, ms since 1970 UTC. Readers keep the
/// highest, so it must not go back when the database comes back from a backup (ADR 0029).
pub fn next_sequence(previous: i64, now: i64) -> i64 {
    now.max(previous.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::next_sequence;

    #[test]
    fn sequences_rise_whatever_the_clock_and_the_backup_say() {
        assert_eq!(next_sequence(0, 1_774_958_400_000), 1_774_958_400_000);
        assert_eq!(next_sequence(1_774_958_400_000, 1_774_958_400_000), 1_774_958_400_001, "twice in a millisecond");
        assert_eq!(next_sequence(1_774_958_400_000, 1_774_958_300_000), 1_774_958_400_001, "a clock that was set back");
    }
}
