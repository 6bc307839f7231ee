//! The one configuration file: a dozen keys, unknown ones refused; what can be derived is not
//! configured.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use access::FirstOperator;
use compute::cpu::{KvType, Settings};
use serde::Deserialize;
use server::{HttpLimits, Images, Listen, MediumSockets, TlsFiles};

use crate::failure::Failure;
use crate::first_key::quoted;
use crate::load::Source;
use crate::own_certificate;

/// The drill model among `models`.
pub const DRILL: &str = "drill";

/// Element types of keys and values, by GGUF's names.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KvCacheType {
    F16,
    Q8_0,
}

/// Images of the operating system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageKeys {
    /// Version of the one that runs.
    running: u64,
    /// Version of one that did not come up.
    failed: Option<u64>,
    /// File with why one could not be written.
    told: Option<PathBuf>,
}

/// Where sticks are read and written by users of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MediumKeys {
    /// Where what is imported is staged.
    staging: PathBuf,
    /// The importer's socket.
    import_socket: PathBuf,
    /// The socket of whoever writes records.
    records_socket: PathBuf,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A GPU where there is one that can, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU; no start without one.
    Cuda,
}

/// All there is to configure.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Model files; `drill` is the drill model, which is served where none is named.
    models: Vec<PathBuf>,
    /// Address of the API.
    pub listen: SocketAddr,
    /// Where keys and other records are kept.
    pub state_dir: PathBuf,
    /// TLS: PEM file, the server's certificate first.
    tls_certificates: Option<PathBuf>,
    /// TLS: PEM file of its key.
    tls_key: Option<PathBuf>,
    /// TLS with a certificate of the box's own, for these host names and addresses; instead of the
    /// two files.
    tls_names: Option<Vec<String>>,
    /// Whom the pairing codes of the first start are for; whoever has them, if nobody is named.
    first_operators: Vec<::site::settings::FirstOperator>,
    /// What the machine below says of its images, where it was started from one.
    image: Option<ImageKeys>,
    /// Sockets and a folder for those users; whoever runs the server does it all, if not set.
    medium: Option<MediumKeys>,
    /// Socket of whoever draws the screen; the operator's, if not set.
    console_socket: Option<PathBuf>,
    /// mTLS: PEM file of the authorities whose clients are let in.
    tls_client_authorities: Option<PathBuf>,
    /// Positions per sequence; the model's own context bounds it.
    pub context_len: Option<usize>,
    /// Memory for weights, keys and values of all models, MiB; most of what there is, if not set.
    memory_mib: Option<usize>,
    /// Memory for each model's keys and values, MiB at most.
    pub kv_cache_mib: usize,
    /// How keys and values are kept.
    kv_cache_type: KvCacheType,
    /// What computes: a GPU where there is one, if not set.
    pub device: DeviceChoice,
    /// Threads that compute; as many as there are cores, if not set.
    threads: Option<usize>,
    /// Sequences that run at once.
    pub running_max: usize,
    /// Requests that wait.
    pub queue_len_max: usize,
    /// Bytes of a request's body.
    body_bytes_max: usize,
    /// Seconds that an answer may take, from the request to its end.
    answer_s_max: u64,
    /// Seconds after which a model that nobody uses is unloaded; never, if not set.
    unload_idle_s: Option<u64>,
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
            tls_names: None,
            first_operators: Vec::new(),
            image: None,
            medium: None,
            console_socket: None,
            tls_client_authorities: None,
            context_len: None,
            memory_mib: None,
            kv_cache_mib: 2048,
            kv_cache_type: KvCacheType::F16,
            device: DeviceChoice::default(),
            threads: None,
            running_max: 32,
            queue_len_max: 256,
            body_bytes_max: limits.body_bytes_max,
            answer_s_max: limits.answer_timeout.as_secs(),
            unload_idle_s: None,
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
        let seconds = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let numbers = [
            ("running_max", self.running_max, 1..=4096),
            ("queue_len_max", self.queue_len_max, 1..=1 << 20),
            ("kv_cache_mib", self.kv_cache_mib, 1..=1 << 24),
            ("threads", self.threads.unwrap_or(1), 1..=1024),
            ("memory_mib", self.memory_mib.unwrap_or(1), 1..=1 << 24),
            ("unload_idle_s", seconds(self.unload_idle_s.unwrap_or(1)), 1..=31_536_000),
            ("body_bytes_max", self.body_bytes_max, 1024..=1 << 30),
            ("context_len", self.context_len.unwrap_or(1), 1..=1 << 24),
            ("answer_s_max", seconds(self.answer_s_max), 1..=604_800),
            ("drain_s", seconds(self.drain_s), 0..=3600),
        ];
        if self.tls_names.as_ref().is_some_and(Vec::is_empty) {
            let hint = "name the hosts and addresses that clients use";
            return Err(Failure::new("'tls_names' is empty").hint(hint));
        }
        match numbers.into_iter().find(|(_, number, range)| !range.contains(number)) {
            Some((key, number, range)) => Err(Failure::new(format!(
                "'{key}' is {number}, it must be {} to {}",
                range.start(),
                range.end()
            ))),
            None => Ok(()),
        }
    }

    /// Bytes for weights, keys and values of all models together.
    pub fn memory_bytes(&self) -> u64 {
        // The rest is for the system, requests and what steps compute.
        self.memory_limit_bytes().unwrap_or_else(|| compute::device::memory_bytes() / 10 * 8)
    }

    /// The same where it is configured.
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        self.memory_mib.map(|mib| (mib as u64) << 20)
    }

    /// How models are computed.
    pub fn compute_settings(&self) -> Settings {
        let kv = match self.kv_cache_type {
            KvCacheType::F16 => KvType::F16,
            KvCacheType::Q8_0 => KvType::Q8_0,
        };
        Settings { threads: self.threads, kv, ..Settings::default() }
    }

    /// What to serve.
    pub fn sources(&self) -> Vec<Source> {
        match self.models.as_slice() {
            [] => vec![Source::Drill],
            files => files.iter().map(|file| source(file)).collect(),
        }
    }

    /// The same with models from the command line, where there are any.
    pub fn with_models(self, models: Vec<PathBuf>) -> Config {
        if models.is_empty() { self } else { Config { models, ..self } }
    }

    /// What curl needs to be told where the server's certificate is the site's own.
    pub fn certificate_arguments(&self) -> String {
        let own = self.own_certificate().map(|files| files.certificates);
        let Some(certificate) = self.tls_certificates.clone().or(own) else {
            return String::new();
        };
        let client = match self.tls_client_authorities {
            None => "",
            Some(_) => "--cert CLIENT.pem --key CLIENT.key ",
        };
        format!("--cacert {} {client}", quoted(&certificate.to_string_lossy()))
    }

    /// The names for which the box makes a certificate of its own; none where it has another, or
    /// none at all.
    pub fn own_names(&self) -> Option<&[String]> {
        self.tls_names.as_deref()
    }

    fn own_certificate(&self) -> Option<TlsFiles> {
        let names = self.tls_names.as_ref()?;
        let authorities = self.tls_client_authorities.clone();
        Some(own_certificate::files(&self.state_dir, names, authorities))
    }

    /// Whom the box was set up for.
    pub fn first_operators(&self) -> Result<Vec<FirstOperator>, Failure> {
        let known = |one: &::site::settings::FirstOperator| {
            FirstOperator::new(&one.name, &one.public_key).map_err(|refusal| {
                Failure::new(format!("'first_operators', '{}': {refusal}", one.name))
                    .hint("'redoubt-operator key show' prints a name and its public key")
            })
        };
        self.first_operators.iter().map(known).collect()
    }

    /// What the machine below says of its images.
    pub fn images(&self) -> Option<Images> {
        let ImageKeys { running, failed, told } = self.image.clone()?;
        Some(Images { running, failed, told })
    }

    /// Where signed content is kept.
    pub fn store_dir(&self) -> PathBuf {
        self.state_dir.join("store")
    }

    /// The operator's socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.state_dir.join("admin.sock")
    }

    /// The socket that takes what came on a stick.
    pub fn import_socket(&self) -> PathBuf {
        let own = self.medium.as_ref().map(|medium| medium.import_socket.clone());
        own.unwrap_or_else(|| self.admin_socket())
    }

    /// The socket that tells what may leave on a stick.
    pub fn records_socket(&self) -> PathBuf {
        let own = self.medium.as_ref().map(|medium| medium.records_socket.clone());
        own.unwrap_or_else(|| self.admin_socket())
    }

    /// The socket that tells what stands on the screen.
    pub fn console_socket(&self) -> PathBuf {
        self.console_socket.clone().unwrap_or_else(|| self.admin_socket())
    }

    /// Where an importer stages that is another user than the server.
    pub fn staging_of_another(&self) -> Option<&Path> {
        self.medium.as_ref().map(|medium| medium.staging.as_path())
    }

    /// Bounds on connections and requests.
    pub fn limits(&self) -> HttpLimits {
        HttpLimits {
            body_bytes_max: self.body_bytes_max,
            answer_timeout: Duration::from_secs(self.answer_s_max),
            drain_timeout: Duration::from_secs(self.drain_s),
            model_idle_timeout: self.unload_idle_s.map(Duration::from_secs),
            ..HttpLimits::default()
        }
    }

    /// The certificate and its key; plain HTTP without.
    pub fn tls(&self) -> Result<Option<TlsFiles>, Failure> {
        let given = (&self.tls_certificates, &self.tls_key, &self.tls_client_authorities);
        let tls = match given {
            (None, None, _) if self.tls_names.is_some() => self.own_certificate(),
            (Some(_), Some(_), _) if self.tls_names.is_some() => {
                return Err(Failure::new("'tls_names' is for a box without 'tls_certificates'")
                    .hint("leave out one of them"));
            }
            (Some(certificates), Some(key), client_authorities) => Some(TlsFiles {
                certificates: certificates.clone(),
                key: key.clone(),
                client_authorities: client_authorities.clone(),
                own: None,
            }),
            (None, None, None) => None,
            _ => {
                return Err(Failure::new("TLS needs both 'tls_certificates' and 'tls_key'")
                    .hint("set both, or none of the tls_… keys"));
            }
        };
        if let Some(key) = &self.tls_key {
            check_private(key)?;
        }
        Ok(tls)
    }

    /// Where to listen. Beyond loopback only with TLS.
    pub fn listen(&self) -> Result<Listen, Failure> {
        if self.tls()?.is_none() && !self.listen.ip().is_loopback() {
            let error =
                format!("plain HTTP on {} would send keys and prompts in clear", self.listen);
            return Err(Failure::new(error).hint(
                "set 'tls_names' to the names that clients use, or 'tls_certificates' and \
                     'tls_key'; or listen on 127.0.0.1",
            ));
        }
        let medium = self.medium.as_ref().map(|medium| MediumSockets {
            import: medium.import_socket.clone(),
            records: medium.records_socket.clone(),
        });
        Ok(Listen {
            address: self.listen,
            admin_socket: self.admin_socket(),
            medium,
            console: self.console_socket.clone(),
        })
    }
}

fn source(file: &Path) -> Source {
    match file == Path::new(DRILL) {
        true => Source::Drill,
        false => Source::File(file.to_owned()),
    }
}

/// A private key that everybody may read is none.
fn check_private(path: &Path) -> Result<(), Failure> {
    let name = path.display();
    let file = std::fs::metadata(path)
        .map_err(|error| Failure::new(format!("'tls_key': {name}: {error}")))?;
    if file.permissions().mode() & 0o007 != 0 {
        let error = format!("everybody may read the key {name}");
        return Err(Failure::new(error).hint(format!("run: chmod o-rwx {name}")));
    }
    Ok(())
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
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        std::fs::write(&key, "").unwrap();
        let tls = format!(
            "listen = '0.0.0.0:8080'\ntls_certificates = 'a'\ntls_key = '{}'",
            key.display()
        );
        let mode = |mode| std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o640);
        let given = parse(&tls).unwrap();
        assert!(given.listen().is_ok() && given.tls().unwrap().unwrap().own.is_none());
        mode(0o644);
        assert!(parse(&tls).unwrap().listen().unwrap_err().to_string().contains("chmod"));
        assert!(parse("tls_key = 'b'").unwrap().listen().is_err());
        let own = "listen = '0.0.0.0:8080'\ntls_names = ['box']";
        let own = parse(own).unwrap();
        assert!(own.listen().is_ok() && own.tls().unwrap().unwrap().own.is_some());
        let both = parse(&format!("{tls}\ntls_names = ['box']")).unwrap().listen().unwrap_err();
        assert!(both.to_string().contains("tls_names"), "{both}");
        let none = parse("listen = '0.0.0.0:8080'\ntls_names = []").unwrap_err();
        assert!(none.to_string().contains("tls_names"), "{none}");
    }

    #[test]
    fn zero_is_no_bound() {
        for key in ["running_max", "queue_len_max", "kv_cache_mib", "body_bytes_max", "context_len"]
        {
            assert!(parse(&format!("{key} = 0")).unwrap_err().to_string().contains(key));
            let huge = format!("{key} = {}", i64::MAX);
            assert!(parse(&huge).unwrap_err().to_string().contains(key));
        }
    }
}
