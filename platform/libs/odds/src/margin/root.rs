//! Roots of rising functions, by integer arithmetic.

use super::{MarginError, ROUNDING};
use crate::Fixed;

/// A root is found when the function is this close to zero.
const CLOSE: Fixed = Fixed::from_raw(200);
const MOST_STEPS: usize = 200;

/// The root of a rising function at or above `low`, looked for up to a million times `low`.
pub(super) fn rising(low: Fixed, f: impl Fn(Fixed) -> Fixed) -> Result<Fixed, MarginError> {
    let mut high = low + low;
    for _ in 0..20 {
        if f(high) >= Fixed::ZERO {
            return between(low, high, f);
        }
        high = high + high;
    }
    Err(MarginError::Unreachable)
}

/// The root of a rising function in an interval: regula falsi in the Illinois form, bisection where that is slow.
pub(super) fn between(mut low: Fixed, mut high: Fixed, f: impl Fn(Fixed) -> Fixed) -> Result<Fixed, MarginError> {
    let (mut at_low, mut at_high) = (f(low), f(high));
    if at_low.abs() <= CLOSE || at_low > Fixed::ZERO && at_low <= ROUNDING {
        return Ok(low);
    }
    if at_high.abs() <= CLOSE {
        return Ok(high);
    }
    if at_low > Fixed::ZERO || at_high < Fixed::ZERO {
        return Err(MarginError::Unreachable);
    }
    let mut kept = 0_i8;
    for step in 0..MOST_STEPS {
        let width = high - low;
        if width.raw() <= 1 {
            break;
        }
        let secant = high - at_high * (width / (at_high - at_low));
        let inside = secant > low && secant < high;
        let middle = if inside && step % 8 != 7 { secant } else { low + width.over(2) };
        let value = f(middle);
        if value.abs() <= CLOSE {
            return Ok(middle);
        }
        if value < Fixed::ZERO {
            (low, at_low) = (middle, value);
            if kept == 1 {
                at_high = at_high.over(2);
            }
            kept = 1;
        } else {
            (high, at_high) = (middle, value);
            if kept == -1 {
                at_low = at_low.over(2);
            }
            kept = -1;
        }
    }
    Ok(low)
}
