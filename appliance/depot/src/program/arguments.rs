//! The command line: what may be said. It does nothing.

use std::path::PathBuf;

use bundle::{Issuer, ItemId, NameError, Records};
use clap::{Args, Parser, Subcommand, ValueEnum};
use depot::{KeyKind, Role};

const EXAMPLES: &str = "A ceremony, each person on a machine of their own:
  redoubt-depot key create anna --out anna.key --public anna.json
  redoubt-depot root new --issuer authority --key anna.json --key boris.json --key clara.json \\
      --threshold 2 --expires-days 1825 --out root.unsigned.json
  redoubt-depot sign root.unsigned.json --key anna.key --out root.anna.json
  redoubt-depot join root.unsigned.json root.anna.json root.boris.json --out 1.root.json
Content:
  redoubt-depot init authority --issuer authority --root 1.root.json
  redoubt-depot add --depot authority authority/model/NAME/1 --title T --licence MIT FILES
  redoubt-depot release --depot authority --expires-days 90 --key anna.key --key boris.key
  redoubt-depot seal --from vendor --from authority --out STICK";

/// The authority's workstation: ceremonies that make the roots, content that they sign, bundles for
/// sticks.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a key, or show whose key a file holds.
    #[command(subcommand)]
    Key(Key),
    /// Make the document of a first root, or of the next one.
    #[command(subcommand)]
    Root(Root),
    /// Show what a document says, and sign it.
    Sign(Sign),
    /// Join signatures to their document, if they are enough.
    Join(Join),
    /// Begin a depot folder with a signed first root.
    Init(Init),
    /// Add an item: its files are hashed and cut into pieces.
    Add(Add),
    /// List an item of another depot, so that both sign the same.
    Adopt(Adopt),
    /// Take an item out of what the next release lists.
    Drop(Drop),
    /// What is released, and what waits for the next release.
    List {
        /// The depot folder.
        #[arg(long, value_name = "FOLDER")]
        depot: PathBuf,
    },
    /// Make a document to be signed; or, with keys, sign and take all that a release needs.
    Release(Release),
    /// Take signed metadata into a depot folder.
    Put(Put),
    /// Make a return label: with it in its top folder, a stick gets records of a box.
    #[command(after_help = "Example:
  redoubt-depot label field-7 --depot authority --site site-ID --expires-days 30 \\
      --key anna.key --key boris.key --out return-label.json")]
    Label(Label),
    /// Make a bundle of what depot folders have released.
    Seal {
        /// A depot folder or a bundle; may be given several times.
        #[arg(long, value_name = "FOLDER", required = true)]
        from: Vec<PathBuf>,
        #[command(flatten)]
        to: SealTo,
    },
    /// Split a bundle, or its volumes, into volumes of another size. Nobody signs anew.
    Split {
        /// The bundle's folder, or the folders of all its volumes.
        #[arg(value_name = "BUNDLE", required = true)]
        from: Vec<PathBuf>,
        /// Bytes that a volume may have.
        #[arg(long, value_name = "N")]
        volume_bytes: u64,
        /// The folder to write to: 1, 2 and so on below it.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Verify a bundle, or its volumes, and say what is in it.
    Inspect(Inspect),
    /// Check that a depot folder is whole, and write an index of digests beside what is served.
    Publish {
        /// The depot folder, which any web server can serve as it is.
        #[arg(long, value_name = "FOLDER")]
        depot: PathBuf,
    },
    /// What ceremonies have written down.
    #[command(subcommand)]
    Transcript(Transcript),
}

/// Where an act is written down.
#[derive(Args)]
pub struct Written {
    /// File to which a line about this is added, for witnesses to check.
    #[arg(long, value_name = "FILE")]
    pub transcript: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Key {
    /// Make a key, encrypted with a passphrase.
    Create {
        /// Whose: a to z, 0 to 9, '.', '_' and '-'.
        name: String,
        /// Which kind.
        #[arg(long = "type", value_enum, default_value = "ed25519")]
        kind: Kind,
        /// The file to write; nothing is overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// File for the public key, which goes to the ceremony.
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
        /// File whose first line is the passphrase; it is asked for without one.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        written: Written,
    },
    /// Show whose key a file holds, and its public key.
    Show {
        /// The key's file, or pkcs11:token=LABEL;object=LABEL?module-path=FILE.
        #[arg(value_name = "FILE|URI")]
        file: PathBuf,
        /// File for the public key, which goes to the ceremony.
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256.
    P256,
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> KeyKind {
        match kind {
            Kind::Ed25519 => KeyKind::Ed25519,
            Kind::P256 => KeyKind::P256,
        }
    }
}

#[derive(Subcommand)]
pub enum Root {
    /// The first root of a repository.
    New {
        /// Whose repository it is.
        #[arg(long, value_parser = issuer)]
        issuer: Issuer,
        #[command(flatten)]
        keys: RootKeys,
    },
    /// The root after the one that a depot has: to add keys, or to revoke one by leaving it out.
    Next {
        /// The depot folder.
        #[arg(long, value_name = "FOLDER")]
        depot: PathBuf,
        #[command(flatten)]
        keys: RootKeys,
    },
}

/// Whose keys a root lists.
#[derive(Args)]
pub struct RootKeys {
    /// A public key of those who sign roots, and what no other option says; once for each.
    #[arg(long, value_name = "PUBLIC", required = true)]
    pub key: Vec<PathBuf>,
    /// How many of them must sign.
    #[arg(long, value_name = "N")]
    pub threshold: u64,
    /// A public key of those who sign targets.
    #[arg(long, value_name = "PUBLIC", requires = "targets_threshold")]
    pub targets_key: Vec<PathBuf>,
    /// How many of them must sign.
    #[arg(long, value_name = "N", requires = "targets_key")]
    pub targets_threshold: Option<u64>,
    /// A public key of those who sign snapshots and timestamps.
    #[arg(long, value_name = "PUBLIC", requires = "release_threshold")]
    pub release_key: Vec<PathBuf>,
    /// How many of them must sign.
    #[arg(long, value_name = "N", requires = "release_key")]
    pub release_threshold: Option<u64>,
    /// Days until it expires.
    #[arg(long, value_name = "N")]
    pub expires_days: u64,
    /// The document to write; nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Args)]
pub struct Sign {
    /// What is signed.
    pub document: PathBuf,
    /// The key's file, or pkcs11:token=LABEL;object=LABEL?module-path=FILE.
    #[arg(long, value_name = "FILE|URI")]
    pub key: PathBuf,
    /// File whose first line is the passphrase or PIN; it is asked for without one.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// The signature to write; nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The depot folder that it is for: shows what changes.
    #[arg(long, value_name = "FOLDER")]
    pub depot: Option<PathBuf>,
    /// Sign without asking here.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Args)]
pub struct Join {
    /// What was signed.
    pub document: PathBuf,
    /// The signatures.
    #[arg(required = true, value_name = "SIGNATURE")]
    pub signatures: Vec<PathBuf>,
    /// The metadata to write; nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The depot folder whose root is to accept it.
    #[arg(long, value_name = "FOLDER", conflicts_with = "root")]
    pub depot: Option<PathBuf>,
    /// The signed root that is to accept it; a first root needs none.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Args)]
pub struct Init {
    /// The folder to begin.
    pub folder: PathBuf,
    /// Whose repository it is.
    #[arg(long, value_parser = issuer)]
    pub issuer: Issuer,
    /// The signed first root.
    #[arg(long, value_name = "FILE")]
    pub root: PathBuf,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Args)]
pub struct Add {
    /// The depot folder.
    #[arg(long, value_name = "FOLDER")]
    pub depot: PathBuf,
    /// ISSUER/KIND/NAME/VERSION. Kinds: model, adapter, policy, revocation, map, image, document.
    #[arg(value_parser = item)]
    pub id: ItemId,
    /// Its files; of a folder all that is in it, by relative paths.
    #[arg(required = true, value_name = "FILE|FOLDER")]
    pub files: Vec<PathBuf>,
    /// A line for people.
    #[arg(long)]
    pub title: String,
    /// Under what it may be used: an SPDX expression.
    #[arg(long)]
    pub licence: String,
    /// A site that may use it; any site without one. May be given several times.
    #[arg(long, value_name = "ID")]
    pub site: Vec<String>,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Args)]
pub struct Adopt {
    /// The depot folder that is to list it.
    #[arg(long, value_name = "FOLDER")]
    pub depot: PathBuf,
    /// The depot folder that has it.
    #[arg(long, value_name = "FOLDER")]
    pub from: PathBuf,
    /// ISSUER/KIND/NAME/VERSION.
    #[arg(value_parser = item)]
    pub id: ItemId,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Args)]
pub struct Drop {
    /// The depot folder.
    #[arg(long, value_name = "FOLDER")]
    pub depot: PathBuf,
    /// ISSUER/KIND/NAME/VERSION.
    #[arg(value_parser = item)]
    pub id: ItemId,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Args)]
pub struct Release {
    /// The depot folder.
    #[arg(long, value_name = "FOLDER")]
    pub depot: PathBuf,
    /// Make this document alone; then `sign`, `join` and `put` it.
    #[arg(long, value_parser = role, requires = "out", conflicts_with = "key")]
    pub role: Option<Role>,
    /// Days until what is signed expires.
    #[arg(long, value_name = "N")]
    pub expires_days: u64,
    /// The document to write; nothing is overwritten.
    #[arg(long, value_name = "FILE", requires = "role")]
    pub out: Option<PathBuf>,
    /// A key's file or URI: with enough of them targets, snapshot and timestamp are signed here.
    #[arg(long, value_name = "FILE|URI", required_unless_present = "role")]
    pub key: Vec<PathBuf>,
    /// File whose first line is the passphrase: one for all keys, or one for each in their order.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Vec<PathBuf>,
    /// Sign without asking here.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Args)]
pub struct Put {
    /// The depot folder.
    #[arg(long, value_name = "FOLDER")]
    pub depot: PathBuf,
    /// The signed metadata.
    pub signed: PathBuf,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Args)]
pub struct Label {
    /// What people call it: it stands in the box's audit log.
    pub name: String,
    /// The authority's depot folder.
    #[arg(long, value_name = "FOLDER")]
    pub depot: PathBuf,
    /// The box; every box that trusts this authority without one.
    #[arg(long, value_name = "ID")]
    pub site: Option<String>,
    /// What may leave; all of it without one.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_enum)]
    pub records: Vec<RecordKind>,
    /// Of the audit log: entries from this one on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub from_entry: u64,
    /// Days until it expires.
    #[arg(long, value_name = "N")]
    pub expires_days: u64,
    /// What to write: with keys the label, which a stick has as return-label.json; without, the
    /// document to `sign` and `join`. Nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// A key's file or URI: with enough of them it is signed here.
    #[arg(long, value_name = "FILE|URI")]
    pub key: Vec<PathBuf>,
    /// File whose first line is the passphrase: one for all keys, or one for each in their order.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Vec<PathBuf>,
    /// Sign without asking here.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub written: Written,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum RecordKind {
    /// The audit log, with its checkpoint.
    Audit,
    /// Every item that the box has, and what became of it.
    Items,
    /// How the box stands.
    Status,
}

impl From<RecordKind> for Records {
    fn from(kind: RecordKind) -> Records {
        match kind {
            RecordKind::Audit => Records::Audit,
            RecordKind::Items => Records::Items,
            RecordKind::Status => Records::Status,
        }
    }
}

#[derive(Args)]
pub struct SealTo {
    /// Bytes that a volume may have; one folder without it.
    #[arg(long, value_name = "N")]
    pub volume_bytes: Option<u64>,
    /// The folder to write to; volumes lie as 1, 2 and so on below it.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct Inspect {
    /// The bundle's folder, or the folders of its volumes.
    #[arg(required = true, value_name = "BUNDLE")]
    pub bundles: Vec<PathBuf>,
    /// The vendor's root: its file, or its fingerprint.
    #[arg(long, value_name = "FILE|SHA256")]
    pub vendor_root: Option<String>,
    /// The authority's root: its file, or its fingerprint.
    #[arg(long, value_name = "FILE|SHA256")]
    pub authority_root: Option<String>,
    /// Look at it as this site.
    #[arg(long, value_name = "ID")]
    pub site: Option<String>,
    /// Only see whether pieces are there, do not read them.
    #[arg(long)]
    pub quick: bool,
}

#[derive(Subcommand)]
pub enum Transcript {
    /// Compute all digests and fingerprints again from the files that it names.
    Check {
        /// The transcript.
        file: PathBuf,
    },
}

fn issuer(text: &str) -> Result<Issuer, String> {
    let found = Issuer::ALL.into_iter().find(|issuer| issuer.as_str() == text);
    found.ok_or_else(|| "it is vendor or authority".to_owned())
}

fn role(text: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.as_str() == text && *role != Role::Root);
    found.ok_or_else(|| "it is targets, snapshot or timestamp; roots have 'root next'".to_owned())
}

fn item(text: &str) -> Result<ItemId, NameError> {
    match text.ends_with(".json") {
        true => text.parse(),
        false => format!("{text}.json").parse(),
    }
}
