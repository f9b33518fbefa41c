//! Durations as Go writes them: `500ms`, `5s`, `1h30m`.

use std::time::Duration;

/// Schema pattern of a duration field.
pub const PATTERN: &str = "^([0-9]{1,6}(ms|s|m|h))+$";

/// Reads a Go-style duration without sign; `None` if it does not match [`PATTERN`].
///
/// ```
/// use std::time::Duration;
/// assert_eq!(paddock_crds::duration::parse("1m30s"), Some(Duration::from_secs(90)));
/// assert_eq!(paddock_crds::duration::parse("soon"), None);
/// ```
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let value: u64 = number.parse().ok()?;
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(end)?;
        let millis = match unit {
            "ms" => value,
            "s" => value.checked_mul(1_000)?,
            "m" => value.checked_mul(60_000)?,
            "h" => value.checked_mul(3_600_000)?,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(millis))?;
        rest = next;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, millis) in [("0s", 0), ("500ms", 500), ("5s", 5_000), ("1h30m", 5_400_000), ("1h0m0s", 3_600_000)] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-5s", "1.5h", "5 s", "5d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
