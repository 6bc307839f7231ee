//! `label`: what a box may write to a stick, as a document to be signed, or signed by keys at hand.

use std::collections::BTreeSet;

use bundle::{Digest, Issuer, Records, ReturnLabel};
use depot::{Desk, Document, Role, roles};
use workstation::{Failure, files, screen};

use crate::arguments::Label;
use crate::transcript::{self, Act};
use crate::{release, roots, signing, told, words};

/// Makes one, and signs it where keys are given.
pub fn label(arguments: &Label) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.depot).map_err(told)?;
    if desk.issuer() != Issuer::Authority {
        return Err(Failure::new("only the authority says what leaves a box")
            .hint("name the authority's depot folder"));
    }
    let document = document(arguments)?;
    if arguments.key.is_empty() {
        roots::write_document(&document, &arguments.out)?;
        let act = Act { act: "label", inputs: &[], outputs: &[&arguments.out], keys: &[] };
        return transcript::append(&arguments.written, &act);
    }
    signing::ask(&words::of(&document, Some(&desk))?, arguments.yes)?;
    let keys = release::open_all(&arguments.key, &arguments.passphrase_file)?;
    let root = desk.latest(Role::Root).map_err(told)?.map(|(_, root)| root);
    let root = root.ok_or_else(|| Failure::new("the depot has no root"))?;
    let signers = release::enough(Role::ReturnLabel, &root, &keys)?;
    let signed = signers.iter().map(|key| document.sign(key)).collect::<Result<Vec<_>, _>>();
    let signed = document.join(&signed.map_err(Failure::new)?).map_err(Failure::new)?;
    files::create(&arguments.out, &signed)?;
    screen::show(&format!(
        "{}: signed. Copy it to the top folder of a stick with FAT or exFAT, as {}.\n",
        arguments.out.display(),
        bundle::label::LABEL_FILE
    ))?;
    let ids: Vec<Digest> = keys.iter().map(|(id, _)| *id).collect();
    let act = Act { act: "label", inputs: &[], outputs: &[&arguments.out], keys: &ids };
    transcript::append(&arguments.written, &act)
}

fn document(arguments: &Label) -> Result<Document, Failure> {
    let records: BTreeSet<Records> = match arguments.records.as_slice() {
        [] => Records::ALL.into(),
        some => some.iter().map(|kind| Records::from(*kind)).collect(),
    };
    let expires = roots::expiry(arguments.expires_days)?;
    let label = ReturnLabel::new(&arguments.name, records, arguments.from_entry, expires);
    let label = match &arguments.site {
        Some(site) => label.and_then(|label| label.for_site(site)),
        None => label,
    };
    Ok(roles::return_label(&label.map_err(Failure::new)?))
}
