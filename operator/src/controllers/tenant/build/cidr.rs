//! Ranges of addresses: what lies in what.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses at which clouds tell the credentials of a node to whoever runs on it: link-local ones, and those that AWS (IPv6), Alibaba
/// and Azure use beside them.
pub const METADATA: [&str; 5] =
    ["169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32"];

/// A range of addresses, with its host bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Reads `address/bits`; host bits are cleared. IPv4 addresses written as IPv6 are IPv4: network plugins take them so.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let mut bits: u8 = bits.parse().ok()?;
        let mut address: IpAddr = address.parse().ok()?;
        if let (IpAddr::V6(six), 96..=128) = (address, bits)
            && let Some(four) = six.to_ipv4_mapped()
        {
            (address, bits) = (IpAddr::V4(four), bits - 96);
        }
        let first = match address {
            IpAddr::V4(address) if bits <= 32 => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask32(bits))),
            IpAddr::V6(address) if bits <= 128 => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask128(bits))),
            _ => return None,
        };
        Some(Self { first, bits })
    }

    /// Whether all of `other` lies in this range.
    pub fn contains(&self, other: &Self) -> bool {
        self.bits <= other.bits
            && match (self.first, other.first) {
                (IpAddr::V4(mine), IpAddr::V4(theirs)) => mine.to_bits() == theirs.to_bits() & mask32(self.bits),
                (IpAddr::V6(mine), IpAddr::V6(theirs)) => mine.to_bits() == theirs.to_bits() & mask128(self.bits),
                _ => false,
            }
    }
}

fn mask32(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

fn mask128(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Cidr {
        Cidr::parse(text).expect(text)
    }

    #[test]
    fn only_ranges_are_read() {
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "300.0.0.0/8", "::/129", "a/8"] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
        assert_eq!(range("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(range("::ffff:a9fe:a9fe/128").to_string(), "169.254.169.254/32");
        assert_eq!(range("::ffff:0:0/96").to_string(), "0.0.0.0/0");
        assert_eq!(range("::/0").to_string(), "::/0");
    }

    #[test]
    fn a_range_contains_its_parts() {
        for (outer, inner, contains) in [
            ("0.0.0.0/0", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.255.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "11.0.0.0/8", false),
            ("10.0.0.0/8", "0.0.0.0/0", false),
            ("::/0", "10.0.0.0/8", false),
            ("fe80::/10", "fe80::1/128", true),
            ("203.0.113.7/32", "203.0.113.7/32", true),
        ] {
            assert_eq!(range(outer).contains(&range(inner)), contains, "{outer} {inner}");
        }
    }
}
