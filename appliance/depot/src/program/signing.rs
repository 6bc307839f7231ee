//! `sign` and `join`: one person's signature, and metadata out of enough of them.

use std::path::{Path, PathBuf};

use bundle::Digest;
use depot::roles::{self, Worth};
use depot::{Desk, Document, Role, Signature};
use serde::de::DeserializeOwned;
use workstation::{Failure, files, screen};

use crate::arguments::{Join, Sign};
use crate::transcript::{self, Act};
use crate::{keys, told, words};

/// Bytes of a document: targets of 4096 items.
const DOCUMENT_BYTES_MAX: usize = 8 << 20;

/// Shows a document, asks, and signs.
pub fn sign(arguments: &Sign) -> Result<(), Failure> {
    let document: Document = read(&arguments.document, "document")?;
    let desk = arguments.depot.as_deref().map(Desk::open).transpose().map_err(told)?;
    ask(&words::of(&document, desk.as_ref())?, arguments.yes)?;
    let (name, key) = keys::open(&arguments.key, arguments.passphrase_file.as_deref())?;
    let signature = document.sign(&key).map_err(Failure::new)?;
    check_listed(&document, desk.as_ref(), &signature.keyid)?;
    let json = serde_json::to_vec_pretty(&signature).expect("it is written to memory");
    files::create(&arguments.out, &json)?;
    screen::show(&format!("{}: signed by {name}.\n", arguments.out.display()))?;
    let (inputs, outputs) = ([&*arguments.document], [&*arguments.out]);
    let act = Act { act: "sign", inputs: &inputs, outputs: &outputs, keys: &[signature.keyid] };
    transcript::append(&arguments.written, &act)
}

/// Shows what is to be signed, and goes on after a yes that is typed out.
pub fn ask(shown: &str, is_agreed: bool) -> Result<(), Failure> {
    screen::show(shown)?;
    match is_agreed || screen::typed_yes("Type yes to sign it:")? {
        true => Ok(()),
        false => Err(Failure::new("nothing was signed")),
    }
}

/// Refuses a key that counts for nothing: a ceremony should not end to find that out.
fn check_listed(document: &Document, desk: Option<&Desk>, id: &Digest) -> Result<(), Failure> {
    let mut roots = Vec::new();
    if let Some(desk) = desk {
        roots.extend(desk.latest(Role::Root).map_err(told)?.map(|(_, root)| root));
    }
    let version = document.signed["version"].as_u64();
    if document.role == Role::Root {
        // Of a later root the keys of the one before count, too, which may not be here.
        if version != Some(1) && roots.is_empty() {
            return Ok(());
        }
        roots.push(document.join(&[]).map_err(Failure::new)?);
    }
    for root in &roots {
        let required = roles::required(document.role, root).map_err(Failure::new)?;
        if required.keys.contains(id) {
            return Ok(());
        }
    }
    match roots.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(format!("the key {id} does not count for this document"))
            .hint("the roles' keys are those that the root lists; is it the right key?")),
    }
}

/// Reads a JSON file of the ceremony.
fn read<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, Failure> {
    let bytes = files::read(path, DOCUMENT_BYTES_MAX)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(format!("{} is no {what}: {error}", path.display())))
}

/// Joins signatures, if they are enough.
pub fn join(arguments: &Join) -> Result<(), Failure> {
    let document: Document = read(&arguments.document, "document")?;
    let mut signatures: Vec<Signature> = Vec::new();
    for path in &arguments.signatures {
        let signature: Signature = read(path, "signature")?;
        if signature.document != document.digest() {
            let (path, document) = (path.display(), arguments.document.display());
            let error = format!("{path} is of another document than {document} is now");
            return Err(Failure::new(error).hint("one was changed: compare the digests, sign anew"));
        }
        signatures.push(signature);
    }
    let metadata = document.join(&signatures).map_err(Failure::new)?;
    check(&document, &accepting(arguments, &document)?, &metadata)?;
    files::create(&arguments.out, &metadata)?;
    let fingerprint = bundle::digest::sha256(&metadata);
    screen::show(&format!(
        "{}: the {}'s {}, signed by {}.\nFingerprint of the file:\n  {}\n",
        arguments.out.display(),
        document.issuer,
        document.role.as_str(),
        signatures.len(),
        words::aloud(&fingerprint)
    ))?;
    let mut inputs: Vec<&Path> = vec![&arguments.document];
    inputs.extend(arguments.signatures.iter().map(PathBuf::as_path));
    let ids: Vec<Digest> = signatures.iter().map(|signature| signature.keyid).collect();
    let act = Act { act: "join", inputs: &inputs, outputs: &[&arguments.out], keys: &ids };
    transcript::append(&arguments.written, &act)
}

/// The root that is to accept the document; a first root has none but itself.
fn accepting(arguments: &Join, document: &Document) -> Result<Option<Vec<u8>>, Failure> {
    let root = match (&arguments.depot, &arguments.root) {
        (Some(depot), _) => {
            let desk = Desk::open(depot).map_err(told)?;
            desk.latest(Role::Root).map_err(told)?.map(|(_, root)| root)
        }
        (None, Some(root)) => Some(files::read(root, DOCUMENT_BYTES_MAX)?),
        (None, None) => None,
    };
    let is_first = document.role == Role::Root && document.signed["version"].as_u64() == Some(1);
    match root.is_none() && !is_first {
        true => Err(Failure::new("which root is to accept it?").hint("pass --depot or --root")),
        false => Ok(root),
    }
}

/// Says what the signatures are worth, and fails where they are too few.
fn check(document: &Document, root: &Option<Vec<u8>>, metadata: &[u8]) -> Result<(), Failure> {
    let mut roots: Vec<(&str, &[u8])> = Vec::new();
    roots.extend(root.as_deref().map(|root| ("the root in force", root)));
    if document.role == Role::Root {
        roots.push(("the new root itself", metadata));
    }
    let mut counted = Vec::new();
    let mut short = Vec::new();
    let mut listed = Vec::new();
    for (name, root) in &roots {
        let standing = roles::standing(document.role, root, metadata).map_err(Failure::new)?;
        for (id, worth) in &standing.signatures {
            match worth {
                Worth::Counts => counted.push(*id),
                Worth::NotListed => {}
                Worth::Wrong => {
                    let error = format!("the signature of the key {id} is not of this document");
                    return Err(Failure::new(error).hint("have its holder sign again"));
                }
            }
        }
        let missing = standing.missing();
        if missing > 0 {
            let others = standing.keys.iter().filter(|id| !standing.signatures.contains_key(id));
            let others: Vec<String> = others.map(|id| format!("\n  {id}")).collect();
            short.push(format!("for {name} {missing} more must sign, of{}", others.concat()));
        }
        listed.extend(standing.signatures.into_keys());
    }
    if let Some(id) = listed.iter().find(|id| !counted.contains(id)) {
        return Err(Failure::new(format!("the key {id} does not count for this document"))
            .hint("leave its signature out"));
    }
    match short.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(short.join("\n")).hint("join again with their signatures")),
    }
}
