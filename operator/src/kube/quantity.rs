//! Quantities such as `500m`, `1Gi` or `1e3`: equal when they are the same amount, however written.

/// An amount as an exact decimal: `digits × 10^exponent`, without trailing zeros in `digits`.
#[derive(Debug, PartialEq, Eq)]
struct Amount {
    digits: i128,
    exponent: i32,
}

/// Whether both texts are quantities of one amount.
pub fn same(left: &str, right: &str) -> bool {
    match (parse(left), parse(right)) {
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

fn parse(text: &str) -> Option<Amount> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.chars().any(|c| !c.is_ascii_digit()) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mut digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mut exponent = -i32::try_from(fraction.len()).ok()?;
    match suffix {
        "" => {}
        "n" => exponent -= 9,
        "u" => exponent -= 6,
        "m" => exponent -= 3,
        "k" => exponent += 3,
        "M" => exponent += 6,
        "G" => exponent += 9,
        "T" => exponent += 12,
        "P" => exponent += 15,
        "E" => exponent += 18,
        "Ki" => digits = digits.checked_mul(1 << 10)?,
        "Mi" => digits = digits.checked_mul(1 << 20)?,
        "Gi" => digits = digits.checked_mul(1 << 30)?,
        "Ti" => digits = digits.checked_mul(1 << 40)?,
        "Pi" => digits = digits.checked_mul(1 << 50)?,
        "Ei" => digits = digits.checked_mul(1 << 60)?,
        _ => exponent += suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?,
    }
    if digits == 0 {
        return Some(Amount { digits: 0, exponent: 0 });
    }
    while digits % 10 == 0 {
        digits /= 10;
        exponent += 1;
    }
    Some(Amount { digits, exponent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_is_equal_however_written() {
        for (left, right) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1Gi", "1024Mi"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            ("0", "0m"),
            ("1.5Gi", "1536Mi"),
            ("2E", "2000000000000000000"),
        ] {
            assert!(same(left, right), "{left} {right}");
        }
        for (left, right) in
            [("1", "2"), ("1G", "1Gi"), ("1m", "1M"), ("", ""), ("x", "x"), ("1.", "1x"), ("1Gi", "1GiB")]
        {
            assert!(!same(left, right), "{left} {right}");
        }
    }
}
