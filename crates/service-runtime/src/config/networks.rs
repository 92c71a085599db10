//! Networks that the configuration names.

use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Networks of proxies. The default trusts nobody.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Given")]
pub struct TrustedProxies(Vec<Network>);

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

/// As a file says it, or a variable of the environment.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    List(Vec<String>),
    Words(String),
}

impl TryFrom<Given> for TrustedProxies {
    type Error = String;

    fn try_from(given: Given) -> Result<Self, String> {
        let texts = match given {
            Given::List(texts) => texts,
            Given::Words(words) => words.split(',').map(|word| word.trim().to_owned()).collect(),
        };
        let texts = texts.iter().filter(|text| !text.is_empty());
        let network = |text: &String| {
            Network::parse(text)
                .ok_or_else(|| format!("expected an address or a network such as 10.0.0.0/8, got {text:?}"))
        };
        texts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        Given::Words(words.to_owned()).try_into()
    }
}

/// An address, or a network as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(longest), |prefix| prefix.parse().ok())?;
        (prefix <= longest).then_some(Self { address, prefix })
    }

    fn contains(self, address: IpAddr) -> bool {
        let same = |own: u128, other: u128, bits: u32| {
            let rest = bits - u32::from(self.prefix);
            rest == 128 || own >> rest == other >> rest
        };
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same(u32::from(own).into(), u32::from(other).into(), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.into(), other.into(), 128),
            _ => false,
        }
    }
}

impl TrustedProxies {
    /// Those of these addresses and networks.
    #[cfg(test)]
    pub(crate) fn of(texts: &[&str]) -> Result<Self, String> {
        Given::List(texts.iter().map(ToString::to_string).collect()).try_into()
    }

    /// The network of all addresses, if it is one of them.
    pub fn everybody(&self) -> Option<String> {
        self.0.iter().find(|network| network.prefix == 0).map(ToString::to_string)
    }

    /// Whether nobody is trusted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this address is in one of them.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> TrustedProxies {
        TrustedProxies::of(texts).unwrap()
    }

    #[test]
    fn networks_are_read_or_refused() {
        let read = |given| TrustedProxies::try_from(given);
        assert_eq!(read(Given::Words("10.0.0.0/8, 192.0.2.7".to_owned())), Ok(networks(&["10.0.0.0/8", "192.0.2.7"])));
        assert_eq!(read(Given::Words(String::new())), Ok(TrustedProxies::default()));
        assert_eq!(read(Given::List(vec!["::/0".to_owned()])), Ok(networks(&["::/0"])));
        assert!(read(Given::List(vec!["proxy".to_owned()])).unwrap_err().contains("proxy"));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "localhost", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
        let whole = Network::parse("::/0").unwrap();
        assert!(whole.contains("2001:db8::1".parse().unwrap()) && !whole.contains("10.0.0.1".parse().unwrap()));
    }
}
