//! How tough reads metadata: from untrusted media, by the few names that a repository has, each
//! with a cap of its own; what was read is kept, for what is verified must be what is kept.
//!
//! A signed length overrides tough's own limits, and an error on a root's name ends its chain in
//! silence: so the caps are here, and faults are remembered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

use crate::media::Media;
use crate::names::Issuer;

/// Where tough believes that it reads.
pub(crate) const BASE: &str = "media:///";
const ROOT_BYTES_MAX: u64 = 64 << 10;
const TIMESTAMP_BYTES_MAX: u64 = 16 << 10;
const SNAPSHOT_BYTES_MAX: u64 = 64 << 10;
const TARGETS_BYTES_MAX: u64 = 2 << 20;

/// Bytes that a metadata file of this name may have; none where no metadata has such a name.
pub(crate) fn bytes_max(file: &str) -> Option<u64> {
    if file == "timestamp.json" {
        return Some(TIMESTAMP_BYTES_MAX);
    }
    let (version, role) = file.split_once('.')?;
    // As versions are written: no sign, no leading zero.
    if version.parse::<u64>().ok()?.to_string() != version {
        return None;
    }
    match role {
        "root.json" => Some(ROOT_BYTES_MAX),
        "snapshot.json" => Some(SNAPSHOT_BYTES_MAX),
        "targets.json" => Some(TARGETS_BYTES_MAX),
        _ => None,
    }
}

/// Where a metadata file lies in a bundle.
pub fn metadata_path(issuer: Issuer, file: &str) -> String {
    format!("metadata/{issuer}/{file}")
}

/// What was read, and what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub files: BTreeMap<String, Bytes>,
    pub fault: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct MediaTransport {
    issuer: Issuer,
    media: Arc<Media>,
    seen: Arc<Mutex<Seen>>,
}

impl MediaTransport {
    pub fn new(issuer: Issuer, media: Arc<Media>) -> MediaTransport {
        MediaTransport { issuer, media, seen: Arc::default() }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of this lock panics")
    }

    fn read(&self, file: &str) -> Result<Option<Bytes>, String> {
        let Some(bytes_max) = bytes_max(file) else {
            return Err(format!("{file:?} is no name of metadata"));
        };
        let path = metadata_path(self.issuer, file);
        let read = self.media.read(&path, bytes_max).map_err(|error| error.to_string())?;
        Ok(read.map(Bytes::from))
    }
}

#[async_trait]
impl Transport for MediaTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let file = url.as_str().strip_prefix(BASE).unwrap_or(url.as_str()).to_owned();
        let failed = |kind, what: String| TransportError::new_with_cause(kind, &file, what);
        match self.read(&file) {
            Ok(Some(bytes)) => {
                self.seen().files.insert(file, bytes.clone());
                Ok(Box::pin(stream::once(std::future::ready(Ok(bytes)))))
            }
            Ok(None) => {
                let what = "there is no such file on the medium".to_owned();
                Err(failed(TransportErrorKind::FileNotFound, what))
            }
            Err(fault) => {
                self.seen().fault.get_or_insert(fault.clone());
                Err(failed(TransportErrorKind::Other, fault))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes_max;

    #[test]
    fn only_names_of_metadata_are_read() {
        for name in ["timestamp.json", "1.root.json", "42.snapshot.json", "7.targets.json"] {
            assert!(bytes_max(name).is_some(), "{name}");
        }
        for name in [
            "",
            "root.json",
            "targets.json",
            "01.root.json",
            "-1.root.json",
            "+1.root.json",
            "1.timestamp.json",
            "1.role.json",
            "../1.root.json",
            "1.root.json/..",
            "%31.root.json",
            "1.root.jso",
            "18446744073709551616.root.json",
        ] {
            assert!(bytes_max(name).is_none(), "{name}");
        }
    }
}
