//! The one configuration file: a dozen keys, unknown ones refused; what can be derived is not
//! configured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use server::{HttpLimits, Listen, TlsFiles};

use crate::failure::Failure;

/// All there is to configure.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Model files.
    pub models: Vec<PathBuf>,
    /// Address of the API.
    pub listen: SocketAddr,
    /// Where keys and other records are kept.
    pub state_dir: PathBuf,
    /// TLS: PEM file, the server's certificate first.
    tls_certificates: Option<PathBuf>,
    /// TLS: PEM file of its key.
    tls_key: Option<PathBuf>,
    /// mTLS: PEM file of the authorities whose clients are let in.
    tls_client_authorities: Option<PathBuf>,
    /// Positions per sequence; the model's own context bounds it.
    pub context_len: Option<usize>,
    /// Memory for keys and values, MiB.
    pub kv_cache_mib: usize,
    /// Sequences that run at once.
    pub running_max: usize,
    /// Requests that wait.
    pub queue_len_max: usize,
    /// Bytes of a request's body.
    body_bytes_max: usize,
    /// Seconds that running requests get when the server stops.
    drain_s: u64,
}

impl Default for Config {
    fn default() -> Config {
        let limits = HttpLimits::default();
        Config {
            models: Vec::new(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            state_dir: default_state_dir(),
            tls_certificates: None,
            tls_key: None,
            tls_client_authorities: None,
            context_len: None,
            kv_cache_mib: 2048,
            running_max: 32,
            queue_len_max: 256,
            body_bytes_max: limits.body_bytes_max,
            drain_s: limits.drain_timeout.as_secs(),
        }
    }
}

impl Config {
    /// Reads the file, or takes the defaults where none is given.
    pub fn load(path: Option<&Path>) -> Result<Config, Failure> {
        let Some(path) = path else { return Ok(Config::default()) };
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("the configuration {name} cannot be read: {error}"))
                .hint("leave out --config to use the defaults")
        })?;
        let config: Config = toml::from_str(&text)
            .map_err(|error| Failure::new(format!("the configuration {name}: {error}")))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Failure> {
        let counts = [
            ("running_max", self.running_max),
            ("kv_cache_mib", self.kv_cache_mib),
            ("body_bytes_max", self.body_bytes_max),
            ("context_len", self.context_len.unwrap_or(1)),
        ];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((key, _)) => Err(Failure::new(format!("'{key}' must be at least 1"))),
            None => Ok(()),
        }
    }

    /// The same with models from the command line, where there are any.
    pub fn with_models(self, models: Vec<PathBuf>) -> Config {
        if models.is_empty() { self } else { Config { models, ..self } }
    }

    /// The operator's socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.state_dir.join("admin.sock")
    }

    /// Bounds on connections and requests.
    pub fn limits(&self) -> HttpLimits {
        HttpLimits {
            body_bytes_max: self.body_bytes_max,
            drain_timeout: Duration::from_secs(self.drain_s),
            ..HttpLimits::default()
        }
    }

    /// Where to listen. Beyond loopback only with TLS.
    pub fn listen(&self) -> Result<Listen, Failure> {
        let tls = match (&self.tls_certificates, &self.tls_key, &self.tls_client_authorities) {
            (Some(certificates), Some(key), client_authorities) => Some(TlsFiles {
                certificates: certificates.clone(),
                key: key.clone(),
                client_authorities: client_authorities.clone(),
            }),
            (None, None, None) => None,
            _ => {
                return Err(Failure::new("TLS needs both 'tls_certificates' and 'tls_key'")
                    .hint("set both, or none of the tls_… keys"));
            }
        };
        if tls.is_none() && !self.listen.ip().is_loopback() {
            let error =
                format!("plain HTTP on {} would send keys and prompts in clear", self.listen);
            return Err(Failure::new(error)
                .hint("set 'tls_certificates' and 'tls_key', or listen on 127.0.0.1"));
        }
        Ok(Listen { address: self.listen, admin_socket: self.admin_socket(), tls })
    }
}

/// `/var/lib/redoubt` for root, the user's own state folder otherwise.
fn default_state_dir() -> PathBuf {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    match home {
        Some(home) if home != Path::new("/root") => home.join(".local/state/redoubt"),
        _ => PathBuf::from("/var/lib/redoubt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redoubt.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path))
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = parse("listne = '127.0.0.1:1'").unwrap_err().to_string();
        assert!(error.contains("listne") && error.contains("listen"), "{error}");
    }

    #[test]
    fn plain_http_stays_on_loopback() {
        let open = parse("listen = '0.0.0.0:8080'").unwrap().listen().unwrap_err().to_string();
        assert!(open.contains("tls_certificates"), "{open}");
        let tls = "listen = '0.0.0.0:8080'\ntls_certificates = 'a'\ntls_key = 'b'";
        assert!(parse(tls).unwrap().listen().unwrap().tls.is_some());
        assert!(parse("tls_key = 'b'").unwrap().listen().is_err());
    }

    #[test]
    fn zero_is_no_bound() {
        for key in ["running_max", "kv_cache_mib", "body_bytes_max", "context_len"] {
            assert!(parse(&format!("{key} = 0")).unwrap_err().to_string().contains(key));
        }
    }
}
