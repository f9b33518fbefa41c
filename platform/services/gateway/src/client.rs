//! Who is calling: address and country, believed only from configured proxies.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName};

/// A block of addresses, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    address: IpAddr,
    prefix: u8,
}

/// The text is no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no block of addresses: write it like 10.0.0.0/8 or fd00::/8")]
pub struct NotABlock(String);

impl Block {
    /// Whether an address is inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let shift = 32_u32.saturating_sub(self.prefix.into());
                same_prefix(block.to_bits().into(), address.to_bits().into(), shift)
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                same_prefix(block.to_bits(), address.to_bits(), 128_u32.saturating_sub(self.prefix.into()))
            }
            _ => false,
        }
    }
}

fn same_prefix(one: u128, other: u128, shift: u32) -> bool {
    (one ^ other).checked_shr(shift).unwrap_or(0) == 0
}

impl FromStr for Block {
    type Err = NotABlock;

    fn from_str(text: &str) -> Result<Self, NotABlock> {
        let fail = || NotABlock(text.to_owned());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| fail())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| fail())?;
        if prefix > longest { Err(fail()) } else { Ok(Self { address, prefix }) }
    }
}

/// What is believed about callers.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Proxies whose headers count.
    pub proxies: Vec<Block>,
    /// Header in which they write the caller's country.
    pub country_header: Option<HeaderName>,
}

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Address.
    pub ip: IpAddr,
    /// ISO 3166-1 alpha-2, upper case; empty = unknown.
    pub country: String,
}

impl Client {
    /// Whom limits count: the address, or of IPv6 the /64 that one subscriber has and may change within.
    pub fn network(&self) -> IpAddr {
        match self.ip {
            IpAddr::V4(_) => self.ip,
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
        }
    }
}

impl Trust {
    /// The caller behind a connection. Of `X-Forwarded-For` the last address that is no trusted proxy counts: what stands
    /// before it, the caller may have written. It is read from its end, and not beyond what is no address.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Client {
        let peer = peer.ip().to_canonical();
        if !self.is_proxy(peer) {
            return Client { ip: peer, country: String::new() };
        }
        let values = headers.get_all("x-forwarded-for").iter().rev();
        let hops = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        let mut known = hops.map_while(|hop| hop.trim().parse::<IpAddr>().ok()).map(|hop| hop.to_canonical());
        let ip = known.find(|hop| !self.is_proxy(*hop)).unwrap_or(peer);
        let country = self.country_header.as_ref().and_then(|name| headers.get(name)?.to_str().ok());
        let country = country.filter(|text| text.len() == 2 && text.bytes().all(|letter| letter.is_ascii_alphabetic()));
        Client { ip, country: country.map(str::to_ascii_uppercase).unwrap_or_default() }
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|block| block.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust() -> Trust {
        Trust {
            proxies: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            country_header: Some(HeaderName::from_static("x-country")),
        }
    }

    fn headers(forwarded: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded.parse().unwrap());
        headers.insert("x-country", "gb".parse().unwrap());
        headers
    }

    #[test]
    fn believes_only_trusted_proxies() {
        let stranger = trust().client("203.0.113.9:1".parse().unwrap(), &headers("1.2.3.4"));
        assert_eq!(stranger, Client { ip: "203.0.113.9".parse().unwrap(), country: String::new() });
        let behind = trust().client("10.1.2.3:1".parse().unwrap(), &headers("1.2.3.4"));
        assert_eq!(behind, Client { ip: "1.2.3.4".parse().unwrap(), country: "GB".to_owned() });
    }

    #[test]
    fn a_forged_first_hop_does_not_count() {
        let client = trust().client("[fd00::1]:1".parse().unwrap(), &headers("6.6.6.6, 1.2.3.4, 10.9.9.9"));
        assert_eq!(client.ip, "1.2.3.4".parse::<IpAddr>().unwrap());
        // Whatever the caller wrote before the hop that our proxy added, even what breaks the list.
        for forged in ["6.6.6.6, nonsense, 1.2.3.4", "nonsense, 1.2.3.4", ",, 1.2.3.4", "6.6.6.6:80, 1.2.3.4, 10.9.9.9"]
        {
            let client = trust().client("10.1.2.3:1".parse().unwrap(), &headers(forged));
            assert_eq!(client.ip, "1.2.3.4".parse::<IpAddr>().unwrap(), "{forged}");
        }
        let mut lines = headers("6.6.6.6, nonsense");
        lines.append("x-forwarded-for", "1.2.3.4".parse().unwrap());
        assert_eq!(trust().client("10.1.2.3:1".parse().unwrap(), &lines).ip, "1.2.3.4".parse::<IpAddr>().unwrap());
        let unreadable = trust().client("10.1.2.3:1".parse().unwrap(), &headers("6.6.6.6, nonsense"));
        assert_eq!(unreadable.ip, "10.1.2.3".parse::<IpAddr>().unwrap(), "never one from before it");
    }

    #[test]
    fn limits_count_an_address_or_the_subscribers_64() {
        let network = |ip: &str| Client { ip: ip.parse().unwrap(), country: String::new() }.network();
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("1.2.3.4"), network("1.2.3.5"));
    }

    #[test]
    fn blocks_end_where_their_prefix_says() {
        let block: Block = "192.168.4.0/22".parse().unwrap();
        assert!(block.contains("192.168.7.255".parse().unwrap()) && !block.contains("192.168.8.0".parse().unwrap()));
        assert!(block.contains("::ffff:192.168.4.1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Block>().unwrap().contains("8.8.8.8".parse().unwrap()));
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/x"] {
            assert!(text.parse::<Block>().is_err(), "{text}");
        }
    }
}
