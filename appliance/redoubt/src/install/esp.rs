//! What goes to the first partition of a disk (ESP): the files of the stick's, without what makes
//! it an installer. The boot loader renames an image's file to count its tries; a disk begins anew.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A site's settings.
pub const SITE: &str = "site.toml";
/// The image's files, in folders of their own.
const FOLDERS: [&str; 2] = ["EFI", "loader"];
const UKIS: &str = "EFI/Linux";
/// What makes a boot an installer's, and the seed of one machine's random numbers.
const LEFT_OUT: [&str; 2] = ["loader/addons", "loader/random-seed"];
/// As many as an update has: the file `30-uki.transfer` of systemd-sysupdate says so, too.
const TRIES: u32 = 3;
const DEPTH_MAX: usize = 8;
const FILES_MAX: usize = 1000;
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Copies what belongs on a disk from the stick's ESP into an empty folder.
///
/// # Errors
/// Where the stick's is not that of the image that runs.
pub fn stage(stick: &Path, version: u64, to: &Path) -> Result<(), Failure> {
    let mut ukis = 0;
    let mut wanted = vec![PathBuf::from(SITE)];
    for folder in FOLDERS {
        wanted.extend(files(stick, Path::new(folder))?);
    }
    for path in wanted.iter().filter(|path| !LEFT_OUT.iter().any(|out| path.starts_with(out))) {
        let mut name = path.clone();
        if path.starts_with(UKIS) {
            ukis += 1;
            name = PathBuf::from(UKIS).join(fresh(path, version)?);
        }
        let (from, to) = (stick.join(path), to.join(name));
        let failed = |error| Failure::new(format!("copying {}: {error}", path.display()));
        fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(failed)?;
        fs::copy(from, to).map_err(failed)?;
    }
    match ukis {
        1 => Ok(()),
        _ => Err(Failure::new(format!("the stick has {ukis} images in {UKIS}, not one"))
            .hint("write the image to the stick anew")),
    }
}

/// An image's name with all its tries.
fn fresh(uki: &Path, version: u64) -> Result<String, Failure> {
    let name = uki.file_name().unwrap_or_default().to_string_lossy();
    let (begin, end) = (format!("redoubt_{version}"), ".efi");
    let tries = name.strip_prefix(&begin).and_then(|rest| rest.strip_suffix(end));
    match tries {
        Some(tries) if tries.is_empty() || tries.starts_with('+') => {
            Ok(format!("{begin}+{TRIES}{end}"))
        }
        _ => Err(Failure::new(format!("the stick has the image {name}, and {begin} runs"))
            .hint("write the image to the stick anew")),
    }
}

/// Compares every file of two folders.
///
/// # Errors
/// Names the first file that is missing on either side, or is another.
pub fn compare(wanted: &Path, found: &Path) -> Result<(), Failure> {
    let wrong = |path: &Path, what: &str| {
        Err(Failure::new(format!("the first partition: {} {what}", path.display())))
    };
    let (mut names, mut others) = (files(wanted, Path::new(""))?, files(found, Path::new(""))?);
    names.sort();
    others.sort();
    for path in &names {
        if !others.contains(path) {
            return wrong(path, "is not there");
        }
        let read = |root: &Path| fs::read(root.join(path)).map_err(Failure::new);
        if read(wanted)? != read(found)? {
            return wrong(path, "is not what was written");
        }
    }
    match others.iter().find(|path| !names.contains(path)) {
        Some(path) => wrong(path, "should not be there"),
        None => Ok(()),
    }
}

/// The files below a folder, with their paths from the root.
fn files(root: &Path, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let failed = |error| Failure::new(format!("{}: {error}", folder.display()));
        for entry in fs::read_dir(root.join(&folder)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = folder.join(entry.file_name());
            let meta = entry.metadata().map_err(failed)?;
            let is_bounded = depth < DEPTH_MAX
                && found.len() < FILES_MAX
                && (meta.is_dir() || meta.len() <= FILE_BYTES_MAX);
            match meta.is_dir() {
                _ if !is_bounded => {
                    let error = format!("{} is more than a first partition has", path.display());
                    return Err(Failure::new(error).hint("write the image to the stick anew"));
                }
                true => folders.push((path, depth + 1)),
                false => found.push(path),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    const STICK: [(&str, &str); 8] = [
        ("EFI/BOOT/BOOTX64.EFI", "loader"),
        ("EFI/Linux/redoubt_3+1-2.efi", "image"),
        ("loader/loader.conf", ""),
        ("loader/random-seed", "seed"),
        ("loader/addons/redoubt-install.addon.efi", "addon"),
        ("System Volume Information/x", "x"),
        ("site.toml", "format = 1"),
        ("notes.txt", "x"),
    ];

    #[test]
    fn a_disk_gets_the_image_and_all_its_tries() {
        let (stick, out) = (folder(&STICK), tempfile::tempdir().unwrap());
        stage(stick.path(), 3, out.path()).unwrap();
        let mut staged = files(out.path(), Path::new("")).unwrap();
        staged.sort();
        let names: Vec<&str> = staged.iter().map(|path| path.to_str().unwrap()).collect();
        let wanted = [
            "EFI/BOOT/BOOTX64.EFI",
            "EFI/Linux/redoubt_3+3.efi",
            "loader/loader.conf",
            "site.toml",
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn a_stick_of_another_image_is_refused() {
        let out = tempfile::tempdir().unwrap();
        let refused = |stick: &tempfile::TempDir, version| {
            stage(stick.path(), version, out.path()).unwrap_err().to_string()
        };
        let stick = folder(&STICK);
        assert!(refused(&stick, 2).contains("redoubt_2 runs"));
        assert!(refused(&folder(&STICK[2..]), 3).contains("EFI"));
        fs::write(stick.path().join("EFI/Linux/redoubt_3.efi"), "").unwrap();
        assert!(refused(&stick, 3).contains("2 images"));
        fs::write(stick.path().join("EFI/Linux/redoubt_31.efi"), "").unwrap();
        assert!(refused(&stick, 3).contains("redoubt_31.efi"));
        fs::create_dir_all(stick.path().join(format!("loader/{}", "d/".repeat(9)))).unwrap();
        fs::write(stick.path().join(format!("loader/{}x", "d/".repeat(9))), "").unwrap();
        assert!(refused(&stick, 3).contains("more than"));
    }

    #[test]
    fn every_difference_is_found() {
        let wanted = folder(&[("a/b", "1"), ("c", "2")]);
        let found = |files: &[(&str, &str)]| {
            compare(wanted.path(), folder(files).path()).map_err(|failure| failure.to_string())
        };
        found(&[("c", "2"), ("a/b", "1")]).unwrap();
        assert!(found(&[("c", "2")]).unwrap_err().contains("a/b is not there"));
        assert!(found(&[("c", "3"), ("a/b", "1")]).unwrap_err().contains("c is not what"));
        let more = [("c", "2"), ("a/b", "1"), ("d", "")];
        assert!(found(&more).unwrap_err().contains("d should not"));
    }
}
