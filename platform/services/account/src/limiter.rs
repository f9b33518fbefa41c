//! How often somebody may try to log in or to register: each try costs a password's hash. In bounded memory.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;
use sha2::{Digest, Sha256};

/// Keys that are remembered; the least used go first.
const REMEMBERED: u64 = 100_000;
/// After this long without a try a key has its whole burst again anyway.
const IDLE: Duration = Duration::from_mins(15);

/// Limits log-ins per (email address, network), and per network log-ins and registrations: whoever tries very many email
/// addresses must not keep the hashing threads from others.
#[derive(Clone)]
pub struct Limiter {
    pairs: Quotas<[u8; 32]>,
    log_ins: Quotas<String>,
    registrations: Quotas<String>,
}

impl Limiter {
    /// Some tries at once, and as many again per minute: of a pair, and of a network.
    pub fn per_minute(pair: NonZeroU32, network: NonZeroU32) -> Self {
        Self {
            pairs: Quotas::per_minute(pair),
            log_ins: Quotas::per_minute(network),
            registrations: Quotas::per_minute(network),
        }
    }

    /// Counts a log-in; an error says after how long to try again. A caller without address is limited by the email alone.
    pub fn log_in(&self, email: &str, ip: &str) -> Result<(), Duration> {
        let network = network(ip);
        let mut hash = Sha256::new();
        hash.update(email.trim().to_lowercase());
        hash.update([0]);
        hash.update(&network);
        if !network.is_empty() {
            self.log_ins.count(network)?;
        }
        self.pairs.count(hash.finalize().into())
    }

    /// Counts a registration likewise.
    pub fn registration(&self, ip: &str) -> Result<(), Duration> {
        let network = network(ip);
        if network.is_empty() { Ok(()) } else { self.registrations.count(network) }
    }
}

#[derive(Clone)]
struct Quotas<K> {
    quota: Quota,
    known: Cache<K, Arc<DefaultDirectRateLimiter>>,
}

impl<K: Hash + Eq + Send + Sync + 'static> Quotas<K> {
    fn per_minute(tries: NonZeroU32) -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).time_to_idle(IDLE).build();
        Self { quota: Quota::per_minute(tries), known }
    }

    fn count(&self, key: K) -> Result<(), Duration> {
        let limiter = self.known.get_with(key, || Arc::new(RateLimiter::direct(self.quota)));
        limiter.check().map_err(|until| until.wait_time_from(DefaultClock::default().now()))
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

    fn limiter(pair: u32, network: u32) -> Limiter {
        let [pair, network] = [pair, network].map(|tries| NonZeroU32::new(tries).unwrap());
        Limiter::per_minute(pair, network)
    }

    #[test]
    fn limits_a_pair_whatever_the_case_of_its_address() {
        let limiter = limiter(2, 100);
        let allows = |email: &str, ip: &str| limiter.log_in(email, ip).is_ok();
        assert!(allows("ann@example.com", "10.0.0.1"));
        assert!(allows("Ann@Example.com ", "10.0.0.1"));
        let wait = limiter.log_in("ANN@example.com", "10.0.0.1").unwrap_err();
        assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(30), "{wait:?}");
        assert!(allows("ann@example.com", "10.0.0.2"));
        assert!(allows("bob@example.com", "10.0.0.1"));
        let from = |last: &str| allows("eve@example.com", &format!("2001:db8:1:2::{last}"));
        assert!(from("1") && from("2") && !from("3"), "one subscriber, many addresses");
        assert!(allows("eve@example.com", "2001:db8:1:3::1"), "the neighbour");
        assert!(allows("eve@example.com", "::ffff:10.0.0.3") && allows("eve@example.com", "::ffff:10.0.0.4"));
    }

    #[test]
    fn limits_a_network_whatever_it_tries() {
        let limiter = limiter(100, 3);
        let log_ins = |ip: &str| (0..9).filter(|n| limiter.log_in(&format!("{n}@example.com"), ip).is_ok()).count();
        assert_eq!((log_ins("10.0.0.1"), log_ins("10.0.0.2"), log_ins("2001:db8:1:2::1")), (3, 3, 3));
        assert_eq!(log_ins("2001:db8:1:2::2"), 0);
        assert_eq!(log_ins(""), 9, "the caller does not say from where");
        let registrations = |ip: &str| (0..9).filter(|_| limiter.registration(ip).is_ok()).count();
        assert_eq!((registrations("10.0.0.1"), registrations("10.0.0.1"), registrations("10.0.0.2")), (3, 0, 3));
    }
}
