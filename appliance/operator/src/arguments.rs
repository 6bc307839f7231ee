//! The command line: what may be said. It does nothing.

use std::path::PathBuf;

use access::{KeyKind, PairingCode, Verb};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::boxes::{self, Address, Fingerprint};
use crate::request::{Reach, Signing};

const EXAMPLES: &str = "Examples:
  redoubt-operator key create anna --out anna.key
  redoubt-operator enrol --key anna.key --server https://box --fingerprint FINGERPRINT
  redoubt-operator status --key anna.key
  redoubt-operator activate --key anna.key BUNDLE        propose
  redoubt-operator proposals confirm --key boris.key ID  the second person signs the same
  redoubt-operator sign activate --key anna.key --site ID --body body.json --out request.json";

/// An operator's workstation: makes keys, signs requests with them, and sends these to a Redoubt
/// box over HTTPS or writes them for a stick.
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
    /// Become one of the first two operators, with a pairing code off the box's screen.
    Enrol {
        /// The key's file; its private half is not needed.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The pairing code; asked for without one, so that it is in no list of processes.
        #[arg(long)]
        code: Option<PairingCode>,
        #[command(flatten)]
        to: EnrolTo,
    },
    /// Sign a request into a file for a stick.
    Sign {
        /// What is asked for.
        verb: Verb,
        /// For which site, as the box's screen shows it.
        #[arg(long, value_name = "ID")]
        site: String,
        /// What time it is at the box, as its status shows it; this machine's clock without it.
        #[arg(long, value_name = "TIME", value_parser = time)]
        now: Option<u64>,
        /// What is said with it (JSON); {} without one.
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
        /// The file to write; nothing is overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        signing: SigningArguments,
    },
    /// Approve content that is in quarantine.
    Approve {
        /// Its name.
        bundle: String,
        #[command(flatten)]
        of: AtBox,
    },
    /// Have content used from now on.
    Activate {
        /// Its name.
        bundle: String,
        #[command(flatten)]
        of: AtBox,
    },
    /// Put a policy of the authority's in force; two operators must agree.
    Policy {
        /// Its name.
        bundle: String,
        #[command(flatten)]
        of: AtBox,
    },
    /// Put a map of who must sign what in force; two operators must agree.
    Map {
        /// Its name.
        bundle: String,
        #[command(flatten)]
        of: AtBox,
    },
    /// Have the box trust an authority, and a vendor beside it, by their first roots, compared by
    /// people before; two operators must agree.
    Trust {
        /// The authority's root.json.
        #[arg(required_unless_present = "vendor")]
        authority: Option<PathBuf>,
        /// The vendor's root.json.
        #[arg(long, value_name = "FILE")]
        vendor: Option<PathBuf>,
        #[command(flatten)]
        of: AtBox,
    },
    /// Say what time it is at least, where the box's time is wrong or a statement is too far ahead
    /// of it; two operators must agree.
    Time {
        /// Like 2026-11-30T12:00:00Z.
        #[arg(value_parser = time)]
        time: u64,
        #[command(flatten)]
        of: AtBox,
    },
    /// The certificate that clients see: the box's own, or one of the owner's authority over the
    /// box's key, which never leaves it.
    #[command(subcommand)]
    Certificate(Certificate),
    /// Destroy the key of all data of a box, which begins anew then; two operators must agree.
    FactoryReset {
        /// The site, as the box's screen shows it: type it, so that no other box is meant.
        site: String,
        #[command(flatten)]
        of: AtBox,
    },
    /// Check the record that a box has signed of its factory reset. Nothing is asked of any box.
    CheckReset {
        /// The record's file.
        record: PathBuf,
        #[command(flatten)]
        site: KnownSite,
    },
    /// Take content out of the store that is not in use.
    Remove {
        /// Its name.
        bundle: String,
        #[command(flatten)]
        of: AtBox,
    },
    /// Go back to the version of a model that was active before.
    Rollback {
        /// The model's name.
        model: String,
        #[command(flatten)]
        of: AtBox,
    },
    /// Make, list and revoke API keys.
    #[command(subcommand)]
    Keys(Keys),
    /// List, enrol and revoke operators.
    #[command(subcommand)]
    Operators(Operators),
    /// What waits for a second person.
    #[command(subcommand)]
    Proposals(Proposals),
    /// Fetch the audit log.
    Audit {
        /// The first entry; a part says in `next` where the one after it begins.
        #[arg(long, default_value_t = 0, value_name = "N")]
        from: u64,
        /// The file to write; nothing is overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        of: AtBox,
    },
    /// Show what runs.
    Status {
        #[command(flatten)]
        of: AtBox,
    },
}

#[derive(Subcommand)]
pub enum Certificate {
    /// Write a request (PKCS#10) for the owner's authority, made with the box's key.
    Request {
        /// The file to write; nothing is overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        of: AtBox,
    },
    /// Have the box serve a certificate of the owner's authority.
    Use {
        /// PEM: the box's certificate, then its issuer's, and so on.
        chain: PathBuf,
        #[command(flatten)]
        of: AtBox,
    },
    /// Have the box serve its own certificate again.
    Own {
        #[command(flatten)]
        of: AtBox,
    },
}

/// How a site is known.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct KnownSite {
    /// By its name, as the box's screen showed it.
    #[arg(long, value_name = "ID")]
    pub site: Option<String>,
    /// By its public key: a file with the Base64 of it, or PEM.
    #[arg(long, value_name = "FILE")]
    pub site_key: Option<PathBuf>,
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
        /// File whose first line is the passphrase; it is asked for without one.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Show whose key a file holds, and what to hand to others.
    Show {
        /// The key's file.
        file: PathBuf,
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
pub enum Keys {
    /// Make a key; its secret is shown this once.
    Create {
        /// Whose key it is: letters, digits, '.', '_' and '-'.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        label: String,
        #[command(flatten)]
        of: AtBox,
    },
    /// List all keys, without their secrets.
    List {
        #[command(flatten)]
        of: AtBox,
    },
    /// Revoke a key, at once.
    Revoke {
        /// The key's id, as `keys list` shows it.
        id: String,
        #[command(flatten)]
        of: AtBox,
    },
}

#[derive(Subcommand)]
pub enum Operators {
    /// Who is an operator, and who was.
    List {
        #[command(flatten)]
        of: AtBox,
    },
    /// Enrol an operator, or give one another key.
    Enrol {
        /// Whose key it is.
        name: String,
        /// The public key, as `key show` shows it.
        public_key: String,
        #[command(flatten)]
        of: AtBox,
    },
    /// Revoke an operator.
    Revoke {
        /// Whose key is revoked.
        name: String,
        #[command(flatten)]
        of: AtBox,
    },
}

#[derive(Subcommand)]
pub enum Proposals {
    /// Show what waits, and what is authorised but not done.
    List {
        #[command(flatten)]
        of: AtBox,
    },
    /// Show a proposal, and sign the same as the second person.
    Confirm {
        /// The proposal's id.
        id: String,
        /// Sign without asking here.
        #[arg(long)]
        yes: bool,
        /// Where the record of a factory reset goes, if it is one; SITE.reset in this folder
        /// without it.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        #[command(flatten)]
        of: AtBox,
    },
    /// Take a proposal back.
    Withdraw {
        /// The proposal's id.
        id: String,
        #[command(flatten)]
        of: AtBox,
    },
}

fn time(text: &str) -> Result<u64, String> {
    ledger::parse_iso_8601(text).ok_or_else(|| "a time is written 2026-11-30T12:00:00Z".to_owned())
}

/// Which box, and how it is known.
#[derive(Args)]
pub struct ReachArguments {
    /// The box: https://HOST:PORT. The only one that is known without one.
    #[arg(long, value_name = "URL")]
    server: Option<Address>,
    /// SHA-256 of the box's certificate, off its screen; remembered once it has held.
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<Fingerprint>,
    /// File with the boxes that are known; ~/.config/redoubt-operator/boxes.json without one.
    #[arg(long, value_name = "FILE")]
    boxes: Option<PathBuf>,
}

impl From<ReachArguments> for Reach {
    fn from(arguments: ReachArguments) -> Reach {
        let boxes = arguments.boxes.unwrap_or_else(boxes::default_file);
        Reach { server: arguments.server, fingerprint: arguments.fingerprint, boxes }
    }
}

/// With which key.
#[derive(Args)]
pub struct SigningArguments {
    /// The key's file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File whose first line is the passphrase; it is asked for without one.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// How long the request counts, and a proposal waits for its second person; a day over HTTPS, a
    /// week on a stick if nothing is said.
    #[arg(long)]
    hours: Option<u64>,
}

impl From<SigningArguments> for Signing {
    fn from(arguments: SigningArguments) -> Signing {
        let SigningArguments { key, passphrase_file, hours } = arguments;
        Signing { key, passphrase_file, hours }
    }
}

/// A box that is asked with a key.
#[derive(Args)]
pub struct AtBox {
    #[command(flatten)]
    reach: ReachArguments,
    #[command(flatten)]
    signing: SigningArguments,
}

impl AtBox {
    pub fn parts(self) -> (Reach, Signing) {
        (self.reach.into(), self.signing.into())
    }
}

/// Where an enrolment goes: to a box, or into a file for a stick.
#[derive(Args)]
pub struct EnrolTo {
    #[command(flatten)]
    pub reach: ReachArguments,
    /// The file to write; nothing is overwritten. Needs --site.
    #[arg(long, value_name = "FILE", requires = "site", conflicts_with = "server")]
    pub out: Option<PathBuf>,
    /// For which site, as the box's screen shows it. Needs --out.
    #[arg(long, value_name = "ID", requires = "out")]
    pub site: Option<String>,
}
