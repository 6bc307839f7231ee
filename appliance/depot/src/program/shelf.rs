//! `init`, `add`, `adopt`, `drop` and `list`: a depot folder and what its next release has.

use std::fs;
use std::path::{Path, PathBuf};

use bundle::verify::manifest_path;
use bundle::{FilePath, ItemId};
use depot::desk::{Added, DRAFT};
use depot::{Desk, NewItem, Role};
use workstation::{Failure, files, screen};

use crate::arguments::{Add, Adopt, Drop, Init, Written};
use crate::transcript::{self, Act};
use crate::{progress, told};

/// Bytes of a root.
const ROOT_BYTES_MAX: usize = 64 << 10;

/// Begins a depot folder.
pub fn init(arguments: &Init) -> Result<(), Failure> {
    let root = files::read(&arguments.root, ROOT_BYTES_MAX)?;
    let folder = &arguments.folder;
    let desk = Desk::create(folder, arguments.issuer, &root).map_err(told)?;
    screen::show(&format!(
        "{} is the {}'s. Boxes know it by the fingerprint of its root:\n  {}\n",
        folder.display(),
        desk.issuer(),
        bundle::digest::sha256(&root)
    ))?;
    let draft = folder.join(DRAFT);
    let act = Act { act: "init", inputs: &[&arguments.root], outputs: &[&draft], keys: &[] };
    transcript::append(&arguments.written, &act)
}

/// Adds an item.
pub fn add(arguments: &Add) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.depot).map_err(told)?;
    let mut files = Vec::new();
    for path in &arguments.files {
        gather(path, &mut files)?;
    }
    let mut bytes = 0;
    for (_, source) in &files {
        let failed = |error| Failure::new(format!("{}: {error}", source.display()));
        bytes += fs::metadata(source).map_err(failed)?.len();
    }
    let sites = (!arguments.site.is_empty()).then(|| arguments.site.clone());
    let new = NewItem {
        id: arguments.id.clone(),
        title: arguments.title.clone(),
        licence: arguments.licence.clone(),
        sites,
        files,
    };
    let bar = progress::bar("adding", bytes);
    let added = desk.add(&new, &mut |passed| bar.inc(passed));
    bar.finish_and_clear();
    let Added { manifest, model_signature } = added.map_err(told)?;
    let (count, bytes) = (manifest.files.len(), manifest.bytes());
    let mut text = format!("{}: {count} files, {bytes} bytes.\n", new.id);
    if let Some(signature) = model_signature {
        text.push_str(&format!("Its maker's own signature {signature}.\n"));
    }
    screen::show(&text)?;
    listed(&desk, &new.id, "add", &arguments.written)
}

/// A file by its name, or all files of a folder by their paths in it.
fn gather(path: &Path, files: &mut Vec<(FilePath, PathBuf)>) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", path.display()));
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_dir() {
        if !about.is_file() {
            return Err(not_plain(path));
        }
        let name = path.file_name().unwrap_or_default();
        return take(Path::new(name), path, files);
    }
    let mut folders = vec![path.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            match (kind.is_dir(), kind.is_file()) {
                (true, _) => folders.push(entry.path()),
                (_, true) => found.push(entry.path()),
                _ => return Err(not_plain(&entry.path())),
            }
        }
    }
    found.sort();
    for file in found {
        take(file.strip_prefix(path).unwrap_or(&file), &file, files)?;
    }
    Ok(())
}

fn not_plain(path: &Path) -> Failure {
    Failure::new(format!("{} is no plain file", path.display()))
        .hint("an item has plain files alone; copy what the link names")
}

fn take(name: &Path, source: &Path, files: &mut Vec<(FilePath, PathBuf)>) -> Result<(), Failure> {
    let text = name.to_string_lossy().into_owned();
    let name = FilePath::try_from(text)
        .map_err(|error| Failure::new(error).hint("rename the file, then add it"))?;
    files.push((name, source.to_owned()));
    Ok(())
}

/// Lists an item of another depot.
pub fn adopt(arguments: &Adopt) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.depot).map_err(told)?;
    let other = Desk::open(&arguments.from).map_err(told)?;
    let manifest = desk.adopt(&other, &arguments.id).map_err(told)?;
    let (id, title) = (&arguments.id, &manifest.title);
    screen::show(&format!("{id}: {title}. Its pieces stay in {}.\n", arguments.from.display()))?;
    listed(&desk, id, "adopt", &arguments.written)
}

fn listed(desk: &Desk, id: &ItemId, act: &str, written: &Written) -> Result<(), Failure> {
    let items = desk.items().map_err(told)?;
    let manifest = items.get(id).map(|sha256| desk.folder().join(manifest_path(id, sha256)));
    let draft = desk.folder().join(DRAFT);
    let mut outputs: Vec<&Path> = vec![&draft];
    outputs.extend(manifest.as_deref());
    transcript::append(written, &Act { act, inputs: &[], outputs: &outputs, keys: &[] })
}

/// Takes an item out of the next release.
pub fn drop(arguments: &Drop) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.depot).map_err(told)?;
    desk.remove(&arguments.id).map_err(told)?;
    let id = &arguments.id;
    screen::show(&format!("{id} is in no release after the next one is signed.\n"))?;
    listed(&desk, id, "drop", &arguments.written)
}

/// Shows what is released and what waits.
pub fn list(folder: &Path) -> Result<(), Failure> {
    let desk = Desk::open(folder).map_err(told)?;
    let mut text = format!("{} is the {}'s.\n", folder.display(), desk.issuer());
    for role in Role::ALL {
        let version = desk.latest(role).map_err(told)?.map(|(version, _)| version.to_string());
        let version = version.unwrap_or_else(|| "not signed yet".to_owned());
        text.push_str(&format!("  {:<10} {version}\n", role.as_str()));
    }
    let (items, released) = (desk.items().map_err(told)?, desk.released().map_err(told)?);
    for (id, sha256) in &items {
        let state = match released.get(id) {
            Some(signed) if signed == sha256 => "signed ",
            _ => "waiting",
        };
        let manifest = desk.manifest(id, sha256).map_err(told)?;
        text.push_str(&format!("{state} {id}  {} bytes  {}\n", manifest.bytes(), manifest.title));
    }
    for id in released.keys().filter(|id| !items.contains_key(id)) {
        text.push_str(&format!("dropped {id}  until the next release it is signed\n"));
    }
    screen::show(&text)
}
