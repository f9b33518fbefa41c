//! How often somebody may try to log in: by address with IP, in bounded memory.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;
use sha2::{Digest, Sha256};

/// Pairs that are remembered; the least used go first.
const REMEMBERED: u64 = 100_000;
/// After this long without a try a pair has its whole burst again anyway.
const IDLE: Duration = Duration::from_mins(15);

/// Limits log-ins per (address, IP).
#[derive(Clone)]
pub struct LoginLimiter {
    quota: Quota,
    pairs: Cache<[u8; 32], Arc<DefaultDirectRateLimiter>>,
}

impl LoginLimiter {
    /// Some tries at once, and as many again per minute.
    pub fn per_minute(tries: NonZeroU32) -> Self {
        Self {
            quota: Quota::per_minute(tries),
            pairs: Cache::builder().max_capacity(REMEMBERED).time_to_idle(IDLE).build(),
        }
    }

    /// Counts a try; `false` = refuse it.
    pub fn allows(&self, email: &str, ip: &str) -> bool {
        let mut hash = Sha256::new();
        hash.update(email.trim().to_lowercase());
        hash.update([0]);
        hash.update(network(ip));
        let pair = self.pairs.get_with(hash.finalize().into(), || Arc::new(RateLimiter::direct(self.quota)));
        pair.check().is_ok()
    }
}

/// The address, or of IPv6 the /64 that one subscriber has and may change within.
fn network(ip: &str) -> String {
    match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V6(ip)) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).to_string(),
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Err(_) => ip.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_a_pair_whatever_the_case_of_its_address() {
        let limiter = LoginLimiter::per_minute(NonZeroU32::new(2).unwrap());
        assert!(limiter.allows("ann@example.com", "10.0.0.1"));
        assert!(limiter.allows("Ann@Example.com ", "10.0.0.1"));
        assert!(!limiter.allows("ANN@example.com", "10.0.0.1"));
        assert!(limiter.allows("ann@example.com", "10.0.0.2"));
        assert!(limiter.allows("bob@example.com", "10.0.0.1"));
        let from = |last: &str| limiter.allows("eve@example.com", &format!("2001:db8:1:2::{last}"));
        assert!(from("1") && from("2") && !from("3"), "one subscriber, many addresses");
        assert!(limiter.allows("eve@example.com", "2001:db8:1:3::1"), "the neighbour");
        assert!(
            limiter.allows("eve@example.com", "::ffff:10.0.0.3")
                && limiter.allows("eve@example.com", "::ffff:10.0.0.4")
        );
    }
}
