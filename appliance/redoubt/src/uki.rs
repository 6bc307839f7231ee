//! What a UKI says of itself, by what its signature covers and not by what it is called: the
//! version of its image, and what PCR 11 holds once it has booted as far as to the data. Whoever
//! lets an image open the data believes this alone, not a value that came beside it.

use std::fs;
use std::path::Path;

use object::read::pe::PeFile64;
use object::{Object, ObjectSection};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// Sections that systemd-stub measures into PCR 11, in its order (systemd-measure(1)).
const MEASURED: [&str; 10] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey",
];
/// Sections that are there and are not measured.
const UNMEASURED: [&str; 9] =
    [".text", ".rodata", ".data", ".sdmagic", ".reloc", ".dynamic", ".rela", ".dynsym", ".pcrsig"];
/// What systemd-pcrphase(8) measures before the root's first program runs.
const PHASES: [&str; 2] = ["enter-initrd", "leave-initrd"];

/// The version that os-release(5) has of an image.
pub fn version_of(os_release: &str) -> Option<u64> {
    let mut lines = os_release.lines();
    let value = lines.find_map(|line| line.strip_prefix("IMAGE_VERSION="))?;
    value.trim_matches('"').parse().ok()
}

/// The version that a UKI says it is of.
///
/// # Errors
/// For what is no UKI of an image.
pub fn version(uki: &Path) -> Result<u64, Failure> {
    let bytes = read(uki)?;
    let file = parse(uki, &bytes)?;
    let text = section(&file, ".osrel").map_err(|error| no_uki(uki, error))?;
    let text = text.ok_or_else(|| no_uki(uki, "it has no .osrel"))?;
    let version = version_of(String::from_utf8_lossy(text).trim_end_matches('\0'));
    version.ok_or_else(|| no_uki(uki, "its .osrel names no version of an image"))
}

/// What PCR 11 (SHA-256, hexadecimal) holds when this UKI has opened the data and its root has run
/// nothing yet.
///
/// # Errors
/// For a UKI with a section of which nobody here knows whether it is measured, too.
pub fn pcr_11(uki: &Path) -> Result<String, Failure> {
    let bytes = read(uki)?;
    let file = parse(uki, &bytes)?;
    for section in file.sections() {
        let name = section.name().map_err(|error| no_uki(uki, error))?;
        if !MEASURED.contains(&name) && !UNMEASURED.contains(&name) {
            let hint = "an image in between, which knows this kind, must be installed first";
            return Err(no_uki(uki, format!("its section {name} is of no known kind")).hint(hint));
        }
    }
    let mut register = [0; 32];
    let mut extend = |measured: &[u8]| {
        register = Sha256::new()
            .chain_update(register)
            .chain_update(Sha256::digest(measured))
            .finalize()
            .into();
    };
    for name in MEASURED {
        if let Some(data) = section(&file, name).map_err(|error| no_uki(uki, error))? {
            extend(format!("{name}\0").as_bytes());
            extend(data);
        }
    }
    PHASES.iter().for_each(|phase| extend(phase.as_bytes()));
    Ok(register.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read(uki: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(uki).map_err(|error| Failure::new(format!("{}: {error}", uki.display())))
}

fn parse<'a>(uki: &Path, bytes: &'a [u8]) -> Result<PeFile64<'a>, Failure> {
    PeFile64::parse(bytes).map_err(|error| no_uki(uki, error))
}

fn section<'a>(file: &PeFile64<'a>, name: &str) -> object::Result<Option<&'a [u8]>> {
    file.section_by_name(name).map(|section| section.data()).transpose()
}

fn no_uki(uki: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{} is no UKI: {error}", uki.display()))
}

#[cfg(test)]
/// A program of the UEFI with these sections.
pub fn made(sections: &[(&[u8; 8], &[u8])]) -> Vec<u8> {
    const HEADER: usize = 64;
    const OPTIONAL: usize = 240;
    const SECTION: usize = 40;
    let table = HEADER + 24 + OPTIONAL;
    let mut bytes = vec![0; table + sections.len() * SECTION];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(60, &(HEADER as u32).to_le_bytes());
    put(HEADER, b"PE\0\0");
    put(HEADER + 4, &0x8664_u16.to_le_bytes());
    put(HEADER + 6, &(sections.len() as u16).to_le_bytes());
    put(HEADER + 20, &(OPTIONAL as u16).to_le_bytes());
    put(HEADER + 24, &0x20b_u16.to_le_bytes());
    // So many data directories.
    put(HEADER + 24 + 108, &16_u32.to_le_bytes());
    for (index, (name, data)) in sections.iter().enumerate() {
        let at = (bytes.len() as u32).to_le_bytes();
        let len = (data.len() as u32).to_le_bytes();
        let place = 4096 * (1 + index as u32);
        let entry = [name.as_slice(), &len, &place.to_le_bytes(), &len, &at].concat();
        let start = table + index * SECTION;
        bytes[start..start + entry.len()].copy_from_slice(&entry);
        bytes.extend_from_slice(data);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uki_is_of_the_version_that_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uki.efi");
        let said = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            version(&path)
        };
        let refused = |bytes: &[u8]| said(bytes).unwrap_err().to_string();
        assert_eq!(said(&made(&[(b".osrel\0\0", b"ID=x\nIMAGE_VERSION=\"7\"\n\0\0")])).unwrap(), 7);
        assert!(refused(&made(&[(b".osrel\0\0", b"ID=x\n")])).contains("names no version"));
        assert!(refused(&made(&[(b".linux\0\0", b"IMAGE_VERSION=7\n")])).contains("no .osrel"));
        assert!(refused(b"MZ and nothing").contains("is no UKI"));
        let whole = made(&[(b".osrel\0\0", b"IMAGE_VERSION=7\n")]);
        for len in 0..whole.len() - 16 {
            assert!(said(&whole[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn the_register_is_what_systemd_measures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uki.efi");
        let of = |sections: &[(&[u8; 8], &[u8])]| {
            fs::write(&path, made(sections)).unwrap();
            pcr_11(&path)
        };
        let linux: (&[u8; 8], &[u8]) = (b".linux\0\0", b"kernel");
        let osrel: (&[u8; 8], &[u8]) = (b".osrel\0\0", b"IMAGE_VERSION=7\n");
        let signature: (&[u8; 8], &[u8]) = (b".pcrsig\0", b"{}");
        // systemd-measure calculate --linux=FILE [--osrel=FILE] --phase=enter-initrd:leave-initrd
        let alone = "d3a4e5c6bd273cc23e3f0077a8108e4403112a53b0757735a211848efc288400";
        assert_eq!(of(&[linux]).unwrap(), alone);
        let both = "a6501b5f3e19f0d1fa7700a43a1a8a3f1e6e3c02a67ebe77cb58d92c0c0f8b60";
        assert_eq!(of(&[osrel, signature, linux]).unwrap(), both);
        let error = of(&[linux, (b".strange", b"?")]).unwrap_err().to_string();
        assert!(error.contains(".strange") && error.contains("in between"), "{error}");
    }
}
