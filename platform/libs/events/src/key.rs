//! Record keys and partitions.

use std::fmt;
use std::str::FromStr;

use paddock_odds::Specifiers;

/// A line: `event|market|specifiers`, the record key of topics `feed`, `offer` and `results`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineKey {
    /// Event URN.
    pub event_id: String,
    /// Market id as in the feed.
    pub market_id: u32,
    /// Canonical specifiers.
    pub specifiers: Specifiers,
}

/// The text is no line key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no line key: write it as \"event|market|specifiers\", the specifiers empty if there are none")]
pub struct NotALineKey(String);

impl LineKey {
    /// The key of a line.
    pub fn new(event_id: impl Into<String>, market_id: u32, specifiers: Specifiers) -> Self {
        Self { event_id: event_id.into(), market_id, specifiers }
    }
}

impl fmt::Display for LineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}|{}", self.event_id, self.market_id, self.specifiers)
    }
}

impl FromStr for LineKey {
    type Err = NotALineKey;

    fn from_str(text: &str) -> Result<Self, NotALineKey> {
        let fail = || NotALineKey(text.chars().take(128).collect());
        let mut parts = text.splitn(3, '|');
        let (Some(event_id), Some(market_id), Some(specifiers)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(fail());
        };
        if event_id.is_empty() {
            return Err(fail());
        }
        Ok(Self {
            event_id: event_id.to_owned(),
            market_id: market_id.parse().map_err(|_| fail())?,
            specifiers: Specifiers::parse(specifiers).map_err(|_| fail())?,
        })
    }
}

/// The partition of a partition key (an event URN, a customer id) among `partitions`: FNV-1a with the finaliser of
/// `MurmurHash3`, the same in every service and version, because lines of one event must stay in one partition. 0 if there are
/// no partitions.
pub fn partition_of(partition_key: &str, partitions: u32) -> u32 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let fnv = partition_key.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    // FNV alone mixes the last bytes too little: keys that end in a number would share a few partitions.
    let hash = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    u32::try_from((hash ^ (hash >> 33)) % u64::from(partitions.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_keys_round_trip() {
        for text in ["sr:match:1|1|", "sr:match:1|18|total=2.5", "sim:match:3|16|hcp=-0.5|score=0:0"] {
            assert_eq!(text.parse::<LineKey>().unwrap().to_string(), text);
        }
        for text in ["", "sr:match:1", "sr:match:1|1", "|1|", "sr:match:1|x|", "sr:match:1|1|total"] {
            assert!(text.parse::<LineKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn partitions_never_move_and_spread() {
        assert_eq!(partition_of("sr:match:1", 6), 3);
        assert_eq!(partition_of("sr:match:2", 6), 4);
        let mut counts = [0_u32; 6];
        for number in 0..6000 {
            counts[partition_of(&format!("sr:match:{number}"), 6) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
