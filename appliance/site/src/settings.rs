//! What an installer says of a site: its name, its address, and whose keys may become its first
//! operators. One file, `site.toml`, checked as a whole before any of it is used.
//!
//! Pure: it reads text and gives text. It knows nothing of keys' forms: whoever checks operators'
//! keys is told them as they stand.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// A file is no longer than this.
pub const SETTINGS_BYTES_MAX: usize = 64 << 10;
const FORMAT: u32 = 1;
const HOST_NAME_LEN_MAX: usize = 64;
const LABEL_LEN_MAX: usize = 63;
const NAMES_MAX: usize = 32;

/// Why a `site.toml` cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// It is no TOML of this form; the message has the line.
    #[error("{0}")]
    Form(String),
    /// A value cannot be used.
    #[error("'{key}' is {value}: {why}")]
    Value {
        /// Which.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        why: &'static str,
    },
}

/// How the box gets its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// From the network's DHCP server, IPv4.
    Dhcp,
    /// As given; nothing is sent to find out.
    Given {
        /// The box's own.
        address: IpAddr,
        /// Bits of the network's part.
        prefix: u8,
        /// Who leads to other networks.
        gateway: Option<IpAddr>,
    },
}

impl Address {
    /// The address that stands for all of the box's own of this kind.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Address::Given { address: IpAddr::V6(_), .. } => Ipv6Addr::UNSPECIFIED.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Dhcp => f.write_str("from DHCP"),
            Address::Given { address, prefix, gateway: None } => write!(f, "{address}/{prefix}"),
            Address::Given { address, prefix, gateway: Some(gateway) } => {
                write!(f, "{address}/{prefix}, gateway {gateway}")
            }
        }
    }
}

/// One of the first two operators.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstOperator {
    /// Who.
    pub name: String,
    /// The key, as `redoubt-operator key show` prints it.
    pub public_key: String,
}

/// A site's settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the box is called.
    pub host_name: String,
    /// How it is reached.
    pub address: Address,
    /// Which network card, by its MAC; every card where none is named.
    pub mac: Option<String>,
    /// Who may be enrolled with the pairing codes; everybody who has them, where nobody is named.
    pub operators: Vec<FirstOperator>,
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    host_name: String,
    address: String,
    gateway: Option<String>,
    mac: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    operators: Vec<FirstOperator>,
}

impl FromStr for Settings {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Settings, SettingsError> {
        let file: File = toml::from_str(text)
            .map_err(|error| SettingsError::Form(error.to_string().trim_end().to_owned()))?;
        if file.format != FORMAT {
            let why = "this program reads format 1; take a newer image for a newer format";
            return Err(wrong("format", file.format, why));
        }
        if file.host_name.len() > HOST_NAME_LEN_MAX || !is_host_name(&file.host_name) {
            let why = "a host name has letters, digits, '-' and '.', 64 characters at most";
            return Err(wrong("host_name", file.host_name, why));
        }
        let address = address(&file.address, file.gateway.as_deref())?;
        let mac = file.mac.map(|text| mac(&text)).transpose()?;
        let other = |name: &&String| name.parse::<IpAddr>().is_err() && !is_host_name(name);
        if let Some(bad) = file.names.iter().find(other) {
            return Err(wrong("names", bad, "host names and addresses, without ports"));
        }
        if file.names.len() > NAMES_MAX {
            return Err(wrong("names", file.names.len(), "32 at most"));
        }
        check_operators(&file.operators)?;
        let File { host_name, names, operators, .. } = file;
        Ok(Settings { host_name, address, mac, operators, names })
    }
}

impl Settings {
    /// The names that clients use, for the box's certificate: its own, its address, and others.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec![self.host_name.clone()];
        if let Address::Given { address, .. } = self.address {
            names.push(address.to_string());
        }
        for name in &self.names {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The file for systemd-networkd (systemd.network(5)) that says no more than these settings:
    /// nothing is asked of the network that they do not name.
    pub fn network_file(&self) -> String {
        let mut file = "[Match]\nType=ether\n".to_owned();
        if let Some(mac) = &self.mac {
            let _ = writeln!(file, "PermanentMACAddress={mac}");
        }
        let is_v6 = matches!(self.address, Address::Given { address: IpAddr::V6(_), .. });
        let local = if is_v6 { "ipv6" } else { "no" };
        file.push_str("\n[Link]\nRequiredForOnline=no\n\n[Network]\n");
        let _ = writeln!(file, "LinkLocalAddressing={local}");
        file.push_str(
            "IPv6AcceptRA=no\nLLDP=no\nEmitLLDP=no\nLLMNR=no\nMulticastDNS=no\n\
             IPv6SendRA=no\nDNSDefaultRoute=no\n",
        );
        match self.address {
            Address::Dhcp => file.push_str(
                "DHCP=ipv4\n\n[DHCPv4]\nClientIdentifier=mac\nUseDNS=no\nUseNTP=no\n\
                 UseDomains=no\nUseHostname=no\nSendHostname=no\nUseTimezone=no\n",
            ),
            Address::Given { address, prefix, gateway } => {
                // Nothing leaves by itself, not even the question whether somebody has it already.
                let _ = writeln!(
                    file,
                    "DHCP=no\nIPv6DuplicateAddressDetection=0\nAddress={address}/{prefix}"
                );
                if let Some(gateway) = gateway {
                    let _ = writeln!(file, "Gateway={gateway}");
                }
            }
        }
        file
    }
}

fn wrong(key: &'static str, value: impl ToString, why: &'static str) -> SettingsError {
    SettingsError::Value { key, value: format!("'{}'", value.to_string()), why }
}

/// RFC 1123, section 2.1, in lower or upper case.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        let known = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        !label.is_empty()
            && label.len() <= LABEL_LEN_MAX
            && label.bytes().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(label)
}

fn address(text: &str, gateway: Option<&str>) -> Result<Address, SettingsError> {
    if text == "dhcp" {
        return match gateway {
            None => Ok(Address::Dhcp),
            Some(given) => Err(wrong("gateway", given, "with 'dhcp' the network says it")),
        };
    }
    let form = "'dhcp', or an address with its network's bits, such as 192.0.2.7/24";
    let (own, bits) = text.split_once('/').ok_or_else(|| wrong("address", text, form))?;
    let own: IpAddr = own.parse().map_err(|_| wrong("address", text, form))?;
    let prefix: u8 = bits.parse().map_err(|_| wrong("address", text, form))?;
    let bits_max = if own.is_ipv4() { 32 } else { 128 };
    if prefix == 0 || prefix > bits_max {
        return Err(wrong("address", text, form));
    }
    if own.is_unspecified() || own.is_loopback() || own.is_multicast() {
        return Err(wrong("address", text, "no machine can have this address on a network"));
    }
    if let IpAddr::V4(v4) = own
        && prefix < 31
        && <[u32; 2]>::from(edges_v4(v4, prefix)).contains(&u32::from(v4))
    {
        return Err(wrong("address", text, "this is the network's own address, or its broadcast"));
    }
    let gateway = gateway.map(|given| leads_out(given, own, prefix)).transpose()?;
    Ok(Address::Given { address: own, prefix, gateway })
}

fn leads_out(text: &str, own: IpAddr, prefix: u8) -> Result<IpAddr, SettingsError> {
    let gateway: IpAddr =
        text.parse().map_err(|_| wrong("gateway", text, "an address, such as 192.0.2.1"))?;
    let is_near = match (own, gateway) {
        (IpAddr::V4(own), IpAddr::V4(other)) => edges_v4(own, prefix) == edges_v4(other, prefix),
        (IpAddr::V6(own), IpAddr::V6(other)) => {
            other.is_unicast_link_local() || part_v6(own, prefix) == part_v6(other, prefix)
        }
        _ => false,
    };
    match is_near && gateway != own {
        true => Ok(gateway),
        false => Err(wrong("gateway", text, "another machine of the network that 'address' is in")),
    }
}

/// The first and the last address of a network.
fn edges_v4(address: Ipv4Addr, prefix: u8) -> (u32, u32) {
    let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (u32::from(address) & !host, u32::from(address) | host)
}

fn part_v6(address: Ipv6Addr, prefix: u8) -> u128 {
    u128::from(address) & !u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

fn mac(text: &str) -> Result<String, SettingsError> {
    let pairs: Vec<&str> = text.split([':', '-']).collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
    match pairs.len() == 6 && pairs.iter().all(is_pair) {
        true => Ok(pairs.join(":").to_ascii_lowercase()),
        false => Err(wrong("mac", text, "six pairs, such as 52:54:00:12:34:56")),
    }
}

fn check_operators(operators: &[FirstOperator]) -> Result<(), SettingsError> {
    match operators {
        [] => Ok(()),
        [one, other] if one.name == other.name || one.public_key == other.public_key => {
            Err(wrong("operators", &one.name, "two people, with a key each"))
        }
        [_, _] => Ok(()),
        other => Err(wrong(
            "operators",
            other.len(),
            "the first two, or none: others are enrolled later",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(line: &str) -> Result<Settings, String> {
        let mut text = "format = 1\n".to_owned();
        for (key, usual) in [("host_name", "'box-7'"), ("address", "'192.0.2.7/24'")] {
            if !line.lines().any(|own| own.starts_with(key)) {
                text.push_str(&format!("{key} = {usual}\n"));
            }
        }
        format!("{text}{line}\n").parse().map_err(|error: SettingsError| error.to_string())
    }

    #[test]
    fn a_whole_file() {
        let text = "gateway = '192.0.2.1'\nmac = '52-54-00-AB-cd-EF'\n\
                    names = ['ai.example', '192.0.2.7', '10.1.2.3']\n\
                    [[operators]]\nname = 'anna'\npublic_key = 'a'\n\
                    [[operators]]\nname = 'ben'\npublic_key = 'b'";
        let settings = with(text).unwrap();
        assert_eq!(settings.names(), ["box-7", "192.0.2.7", "ai.example", "10.1.2.3"]);
        assert_eq!(settings.operators[1].name, "ben");
        assert_eq!(settings.address.to_string(), "192.0.2.7/24, gateway 192.0.2.1");
        let network = settings.network_file();
        for line in [
            "PermanentMACAddress=52:54:00:ab:cd:ef",
            "Address=192.0.2.7/24",
            "Gateway=192.0.2.1",
            "DHCP=no",
            "LinkLocalAddressing=no",
        ] {
            assert!(network.lines().any(|own| own == line), "{line} in {network}");
        }
    }

    #[test]
    fn dhcp_asks_for_an_address_alone() {
        let network = with("address = 'dhcp'").unwrap().network_file();
        for line in ["DHCP=ipv4", "UseDNS=no", "UseNTP=no", "SendHostname=no"] {
            assert!(network.lines().any(|own| own == line), "{line} in {network}");
        }
        let v6 = with("address = '2001:db8::7/64'\ngateway = 'fe80::1'").unwrap().network_file();
        assert!(v6.contains("IPv6DuplicateAddressDetection=0\n"), "{v6}");
        assert!(v6.contains("LinkLocalAddressing=ipv6\n") && v6.contains("Gateway=fe80::1\n"));
    }

    #[test]
    fn bad_values_are_named() {
        for (line, says) in [
            ("host_name = 'box_7'", "'host_name' is 'box_7'"),
            ("host_name = ''", "host_name"),
            ("host_name = '-box'", "host_name"),
            ("address = '192.0.2.7'", "such as 192.0.2.7/24"),
            ("address = '192.0.2.7/33'", "address"),
            ("address = '192.0.2.7/0'", "address"),
            ("address = '192.0.2.0/24'", "broadcast"),
            ("address = '192.0.2.255/24'", "broadcast"),
            ("address = '127.0.0.1/8'", "no machine"),
            ("address = '192.0.2.300/24'", "address"),
            ("address = 'DHCP'", "'dhcp', or"),
            ("address = 'dhcp'\ngateway = '192.0.2.1'", "the network says it"),
            ("gateway = '192.0.3.1'", "another machine of the network"),
            ("gateway = '192.0.2.7'", "another machine of the network"),
            ("gateway = '2001:db8::1'", "another machine of the network"),
            ("gateway = 'router'", "gateway"),
            ("mac = '52:54:00:12:34'", "six pairs"),
            ("mac = '52:54:00:12:34:5\u{e9}'", "six pairs"),
            ("names = ['https://box']", "without ports"),
            ("format = 2", "duplicate key"),
            ("dns = '192.0.2.1'", "dns"),
            ("[[operators]]\nname = 'anna'\npublic_key = 'a'", "the first two"),
            ("[[operators]]\nname = 'anna'", "public_key"),
        ] {
            let error = with(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
        let twice = "[[operators]]\nname = 'a'\npublic_key = 'k'\n";
        assert!(with(&twice.repeat(2)).unwrap_err().contains("two people"));
        let newer = "format = 2\nhost_name = 'b'\naddress = 'dhcp'".parse::<Settings>();
        assert!(newer.unwrap_err().to_string().contains("newer image"));
        assert!(with("address = '192.0.2.6/31'\ngateway = '192.0.2.7'").is_ok());
    }
}
