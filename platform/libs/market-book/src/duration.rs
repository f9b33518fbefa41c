//! Go-style durations (`5s`, `1m30s`, `500ms`), as Kubernetes resources write them.

/// Milliseconds of a Go-style duration of hours, minutes, seconds and milliseconds; `"0"` needs no unit. `None` for
/// anything else, negative and fractional numbers included.
pub fn parse_duration(text: &str) -> Option<u32> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: u32 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|character: char| character.is_ascii_digit()).len();
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit = tail.len() - tail.trim_start_matches(|character: char| character.is_ascii_lowercase()).len();
        let (unit, tail) = tail.split_at_checked(unit)?;
        let factor: u32 = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u32>().ok()?.checked_mul(factor)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("5s", Some(5_000))]
    #[case("0s", Some(0))]
    #[case("0", Some(0))]
    #[case("1m30s", Some(90_000))]
    #[case("500ms", Some(500))]
    #[case("1h", Some(3_600_000))]
    #[case("", None)]
    #[case("5", None)]
    #[case("-5s", None)]
    #[case("1.5s", None)]
    #[case("s", None)]
    #[case("99999999999h", None)]
    fn reads(#[case] text: &str, #[case] milliseconds: Option<u32>) {
        assert_eq!(parse_duration(text), milliseconds);
    }
}
