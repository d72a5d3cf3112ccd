//! Which addresses are of the public internet. A user's provider may be nowhere else: from where the worker stands, other
//! addresses are its own machine, its neighbours, and the service that gives machines of a cloud their keys.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::WireError;
use crate::backends::llm::Addresses;

/// Resolves names, and leaves out the addresses that may not be connected to. The connection is made to what is given
/// here, so there is no moment for a name to mean something else.
pub(super) struct Resolver(pub(super) Addresses);

/// A name stands only for addresses that may not be connected to.
#[derive(Debug)]
pub(super) struct NotPublic;

impl Error for NotPublic {}

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address of the public internet")
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.0;
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            allowed(found, addresses)
        })
    }
}

fn allowed(found: Vec<SocketAddr>, addresses: Addresses) -> Result<Addrs, Box<dyn Error + Send + Sync>> {
    if found.is_empty() {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    }
    let left: Vec<_> = match addresses {
        Addresses::Any => found,
        Addresses::Public => found.into_iter().filter(|address| is_public(address.ip())).collect(),
    };
    if left.is_empty() { Err(NotPublic.into()) } else { Ok(Box::new(left.into_iter())) }
}

/// Checks what of an address needs no resolving. Numbers in place of a name do not go through the resolver.
pub(super) fn check(url: &Url, addresses: Addresses) -> Result<(), WireError> {
    if addresses == Addresses::Any {
        return Ok(());
    }
    let host = url.host_str().unwrap_or_default();
    let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if url.scheme() != "https" || host.is_empty() || number.is_ok_and(|number| !is_public(number)) {
        return Err(WireError::Forbidden);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(WireError::Forbidden);
    }
    Ok(())
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        // "This network", the machine itself, and what is kept for later, broadcasts included.
        [0 | 127 | 240..=255, ..] => false,
        // Private networks.
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => false,
        // Networks of providers of internet access.
        [100, 64..=127, ..] => false,
        // Link-local, where clouds serve their machines' keys.
        [169, 254, ..] => false,
        // Protocol assignments, what once led into IPv6, and sinks for reverse lookups.
        [192, 0, 0, _] | [192, 88, 99, _] | [192, 31, 196, _] | [192, 52, 193, _] | [192, 175, 48, _] => false,
        // Documentation and benchmarks.
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18..=19, ..] => false,
        // Multicast.
        [224..=239, ..] => false,
        // Where Azure's machines ask for their configuration; it looks public.
        [168, 63, 129, 16] => false,
        _ => true,
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // Translation of IPv4 at its well-known prefix.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(inner_v4(high, low)),
        // 6to4.
        [0x2002, high, low, ..] => is_public_v4(inner_v4(high, low)),
        // Protocol assignments, tunnels of Teredo among them.
        [0x2001, 0..=0x1ff, ..] => false,
        // Documentation.
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // The sink for reverse lookups.
        [0x2620, 0x4f, 0x8000, ..] => false,
        // Only this is given out as global: the rest is local, link-local, multicast, a form of IPv4, or kept for later.
        [0x2000..=0x3fff, ..] => true,
        // An IPv4 address in IPv6 clothes: the kernel connects to what is within.
        [0, 0, 0, 0, 0, 0xffff, high, low] => is_public_v4(inner_v4(high, low)),
        _ => false,
    }
}

fn inner_v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    const NOT_PUBLIC: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::7f00:1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:0:0",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::10.1.2.3",
        "64:ff9b:1::1",
        "64:ff9b:1:2:3:4:8.8.8.8",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2002:a9fe:a9fe::1",
        "2002:c0a8:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff::1",
        "fe80::1",
        "fe80::a9fe:a9fe",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ];

    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "104.18.7.192",
        "126.255.255.255",
        "128.0.0.1",
        "168.63.129.17",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.1",
        "191.255.255.255",
        "192.0.1.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.1",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2606:4700::6812:7c0",
        "2a00:1450:4001:800::200a",
        "2002:808:808::1",
        "64:ff9b::8.8.8.8",
        "::ffff:8.8.8.8",
    ];

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for (texts, expected) in [(NOT_PUBLIC, false), (PUBLIC, true)] {
            for text in texts {
                assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
            }
        }
    }

    #[test]
    fn numbers_in_place_of_a_name_are_checked() {
        let refused = |url: &str| check(&url.parse().unwrap(), Addresses::Public).is_err();
        for text in NOT_PUBLIC {
            let host = if text.contains(':') { format!("[{text}]") } else { String::from(*text) };
            assert!(refused(&format!("https://{host}/v1")), "{text}");
            assert!(refused(&format!("https://{host}:8443/v1")), "{text}");
        }
        // Other ways to write them.
        for host in ["127.1", "0x7f.1", "2130706433", "017700000001", "0", "0xa9fea9fe", "[::FFFF:127.1.2.3]"] {
            assert!(refused(&format!("https://{host}/")), "{host}");
        }
        for url in ["http://example.com/v1", "https://me@example.com/", "https://me:key@example.com/", "ftp://8.8.8.8/"]
        {
            assert!(refused(url), "{url}");
        }
        for url in ["https://example.com/v1", "https://8.8.8.8/", "https://[2001:4860:4860::8888]:8443/"] {
            assert!(!refused(url), "{url}");
        }
        assert!(check(&"http://127.0.0.1:11434/v1".parse().unwrap(), Addresses::Any).is_ok());
    }

    #[test]
    fn of_a_name_only_public_addresses_are_left() {
        let found = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = found(&["127.0.0.1:0", "8.8.8.8:0", "[fd00::1]:0", "[2606:4700::1]:0"]);
        let left: Vec<_> = allowed(mixed.clone(), Addresses::Public).ok().unwrap().collect();
        assert_eq!(left, found(&["8.8.8.8:0", "[2606:4700::1]:0"]));
        assert_eq!(allowed(mixed.clone(), Addresses::Any).ok().unwrap().collect::<Vec<_>>(), mixed);
        let none = allowed(found(&["10.0.0.1:0"]), Addresses::Public).err().unwrap();
        assert!(none.is::<NotPublic>());
        assert!(!allowed(Vec::new(), Addresses::Public).err().unwrap().is::<NotPublic>(), "it is not found");
    }
}
