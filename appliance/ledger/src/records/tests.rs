use std::fs;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::audit::AuditLog;
use crate::audit::tests::{TestSigner, record};
use crate::signature::Signer;

const SIZE: u64 = 300;

/// Records of a site with a log of 300 entries, from an entry on.
struct Left {
    folder: TempDir,
    signer: Arc<TestSigner>,
    manifest: Manifest,
}

impl Left {
    fn from(from: u64) -> Left {
        let signer = Arc::new(TestSigner::new());
        let state = tempfile::tempdir().unwrap();
        let disk = Disk::faulty(state.path(), crate::disk::Plan::none());
        let mut log =
            AuditLog::open(&disk, &state.path().join("audit"), signer.clone(), None).unwrap();
        (0..SIZE).for_each(|number| assert_eq!(log.append(record(number)).unwrap(), number));
        let mut entries = Vec::new();
        let mut next = from;
        while next < SIZE {
            for entry in log.entries(next).unwrap() {
                serde_json::to_writer(&mut entries, &entry).unwrap();
                entries.push(b'\n');
                next += 1;
            }
        }
        let before = serde_json::to_vec(&log.before(from).unwrap()).unwrap();
        let checkpoint = log.checkpoint().note().as_bytes().to_vec();
        let files: [(&str, Vec<u8>); 4] = [
            (CHECKPOINT, checkpoint),
            (ENTRIES, entries),
            (BEFORE, before),
            (STATUS, b"{}".to_vec()),
        ];
        let folder = tempfile::tempdir().unwrap();
        let mut sums = BTreeMap::new();
        for (name, bytes) in files {
            sums.insert(name.to_owned(), FileSum::of(&bytes));
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            site: signer.public_key().site_id(),
            label: "field-7".to_owned(),
            time_unix_seconds: 1_795_532_645,
            entries: Some(Part { from, to: SIZE }),
            files: sums,
        };
        let left = Left { folder, signer, manifest };
        left.sign(&left.manifest, Domain::Export);
        left
    }

    fn sign(&self, manifest: &Manifest, domain: Domain) {
        let bytes = manifest_bytes(manifest);
        let signature = self.signer.sign(domain, &bytes).unwrap();
        fs::write(self.path(MANIFEST), bytes).unwrap();
        fs::write(self.path(SIGNATURE), BASE64_STANDARD.encode(signature)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn verify(&self) -> Result<VerifiedRecords, RecordsError> {
        verify(&Disk::real(), self.folder.path(), self.signer.public_key(), &[])
    }

    #[track_caller]
    fn fails(&self, word: &str) {
        let error = self.verify().unwrap_err().to_string();
        assert!(error.contains(word), "'{word}': {error}");
    }
}

#[test]
fn records_that_are_whole_hold() {
    for from in [0, 1, 256, 299, 300] {
        let left = Left::from(from);
        let verified = left.verify().unwrap();
        assert_eq!(verified.manifest, left.manifest);
        assert_eq!((verified.checkpoint.size(), verified.strays.len()), (SIZE, 0));
        fs::write(left.path("holiday.jpg"), "").unwrap();
        assert_eq!(left.verify().unwrap().strays, [PathBuf::from("holiday.jpg")]);
        assert!(are_in(&Disk::real(), left.folder.path()).unwrap());
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let left = Left::from(298);
    for name in [MANIFEST, SIGNATURE, CHECKPOINT, ENTRIES, BEFORE, STATUS] {
        let bytes = fs::read(left.path(name)).unwrap();
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1;
            fs::write(left.path(name), &flipped).unwrap();
            assert!(left.verify().is_err(), "byte {index} of {name}");
        }
        fs::write(left.path(name), &bytes[..bytes.len() - 1]).unwrap();
        assert!(left.verify().is_err(), "{name} is cut");
        fs::write(left.path(name), [&bytes[..], b"1"].concat()).unwrap();
        assert!(left.verify().is_err(), "{name} is longer");
        fs::remove_file(left.path(name)).unwrap();
        assert!(left.verify().is_err(), "{name} is gone");
        std::os::unix::fs::symlink("/etc/passwd", left.path(name)).unwrap();
        assert!(left.verify().is_err(), "{name} is a link");
        fs::remove_file(left.path(name)).unwrap();
        fs::write(left.path(name), &bytes).unwrap();
    }
    left.verify().unwrap();
}

/// What the site's key signed, and is wrong all the same.
#[test]
fn a_manifest_that_was_signed_must_be_right_too() {
    let left = Left::from(298);
    left.sign(&left.manifest, Domain::Receipt);
    left.fails("not signed by this site's key");
    let signed = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = left.manifest.clone();
        change(&mut manifest);
        left.sign(&manifest, Domain::Export);
    };
    signed(&|manifest| manifest.format = "redoubt-records-2".to_owned());
    left.fails("newer one");
    signed(&|manifest| manifest.site = "site-0".to_owned());
    left.fails("another site's");
    signed(&|manifest| manifest.entries = Some(Part { from: 0, to: SIZE }));
    left.fails("that they are others");
    signed(&|manifest| _ = manifest.files.remove(CHECKPOINT));
    left.fails("does not list it");
    let sum = FileSum::of(b"");
    signed(&|manifest| _ = manifest.files.insert("../x".to_owned(), sum));
    left.fails("cannot have");
    // Another site's log, with the right digests.
    let other = Left::from(298);
    fs::write(left.path(CHECKPOINT), fs::read(other.path(CHECKPOINT)).unwrap()).unwrap();
    let bytes = fs::read(left.path(CHECKPOINT)).unwrap();
    let sum = FileSum::of(&bytes);
    signed(&|manifest| _ = manifest.files.insert(CHECKPOINT.to_owned(), sum));
    left.fails("not signed by this site's key");
}
