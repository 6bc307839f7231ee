//! The TPM's registers that a key slot is bound to: which ones, what they hold, and how
//! systemd-cryptenroll is told. Which ones the owner says (`firmware-config/pcrs`, part of the
//! image's root), among those that an update does not change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Secure Boot: without it whoever starts a program of their own can bring all others to any value.
const POLICY: u8 = 7;
/// The UKI, and how far the boot has come: without it any image of the owner's would open the data.
const IMAGE: u8 = 11;
/// What somebody gives the UKI beside it, and extensions of it: without them a stranger's would do.
const TOLD: [u8; 2] = [12, 13];
/// Firmware: its code, its settings, its option ROMs and their settings. Others hold another value
/// with every image, or change during a boot: no image on trial would open the data.
const FIRMWARE: [u8; 4] = [0, 1, 2, 3];
/// Instead of the register's number.
const WITHOUT_POLICY: &str = "without 7";

/// What registers hold, SHA-256 in hexadecimal, by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers(BTreeMap<u8, String>);

impl Registers {
    /// Of the TPM whose registers are files in the folder `tpm`, those of a list.
    ///
    /// # Errors
    /// For a list that cannot be used, too.
    pub fn read(list: &Path, tpm: &Path) -> Result<Registers, Failure> {
        let value = |number: u8| {
            let path = tpm.join(number.to_string());
            let read = fs::read_to_string(&path);
            let text = read.map_err(|error| Failure::new(format!("{}: {error}", path.display())));
            Ok((number, text?.trim().to_ascii_lowercase()))
        };
        listed(list)?.into_iter().map(value).collect::<Result<_, _>>().map(Registers)
    }

    /// The same for another image.
    pub fn with_image(&self, value: &str) -> Registers {
        let mut values = self.0.clone();
        values.insert(IMAGE, value.to_owned());
        Registers(values)
    }

    /// Whether they are those of this image.
    pub fn are_of_image(&self, value: &str) -> bool {
        self.0.get(&IMAGE).is_some_and(|own| own == value)
    }

    /// As systemd-cryptenroll is told it.
    pub fn argument(&self) -> String {
        let values: Vec<String> =
            self.0.iter().map(|(number, value)| format!("{number}:sha256={value}")).collect();
        format!("--tpm2-pcrs={}", values.join("+"))
    }
}

/// The registers of a list: one a line, beside comments (`#`).
///
/// # Errors
/// For registers that would lock a box after its next update, and for a list without those that
/// keep other programs off.
pub fn listed(list: &Path) -> Result<BTreeSet<u8>, Failure> {
    let text = fs::read_to_string(list)
        .map_err(|error| Failure::new(format!("{}: {error}", list.display())))?;
    let bad = |why: String| {
        let hint = "firmware-config/pcrs says which registers there are, and what for";
        Failure::new(format!("{}: {why}", list.display())).hint(hint)
    };
    let (mut numbers, mut is_without) = (BTreeSet::new(), false);
    for line in text.lines().map(str::trim) {
        match line.parse::<u8>() {
            _ if line.is_empty() || line.starts_with('#') => {}
            _ if line == WITHOUT_POLICY => is_without = true,
            Ok(number) if [&[POLICY, IMAGE][..], &TOLD, &FIRMWARE].concat().contains(&number) => {
                numbers.insert(number);
            }
            _ => return Err(bad(format!("'{line}' is no register that data can be bound to"))),
        }
    }
    let needed = [IMAGE, TOLD[0], TOLD[1]];
    if let Some(number) = needed.into_iter().find(|number| !numbers.contains(number)) {
        return Err(bad(format!("register {number} is missing, and must be there")));
    }
    if is_without == numbers.contains(&POLICY) {
        return Err(bad(format!("it must have one of '{POLICY}' and '{WITHOUT_POLICY}'")));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Result<Registers, Failure> {
        let folder = tempfile::tempdir().unwrap();
        for number in [0, 7, 11, 12, 13] {
            fs::write(folder.path().join(number.to_string()), format!("AB{number}\n")).unwrap();
        }
        let file = folder.path().join("pcrs");
        fs::write(&file, list).unwrap();
        Registers::read(&file, folder.path())
    }

    #[test]
    fn the_owner_says_which() {
        let argument = |list| read(list).unwrap().argument();
        let usual = "--tpm2-pcrs=7:sha256=ab7+11:sha256=ab11+12:sha256=ab12+13:sha256=ab13";
        assert_eq!(argument("# why\n11\n\n12\n7\n13\n"), usual);
        assert_eq!(argument("13\n12\n 0 \n7\n11"), usual.replace("7:", "0:sha256=ab0+7:"));
        let without = read("11\n12\n13\nwithout 7\n").unwrap().with_image("cd");
        assert_eq!(without.argument(), "--tpm2-pcrs=11:sha256=cd+12:sha256=ab12+13:sha256=ab13");
        assert!(without.are_of_image("cd") && !without.are_of_image("ab11"));
    }

    #[test]
    fn the_list_that_is_shipped_can_be_used() {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../firmware-config/pcrs");
        assert_eq!(listed(Path::new(shipped)).unwrap(), BTreeSet::from([7, 11, 12, 13]));
    }

    #[test]
    fn a_list_that_would_open_or_lock_a_box_is_refused() {
        for (list, why) in [
            ("7\n12\n13", "register 11 is missing"),
            ("7\n11\n13", "register 12 is missing"),
            ("7\n11\n12", "register 13 is missing"),
            ("", "register 11 is missing"),
            ("11\n12\n13", "one of '7' and 'without 7'"),
            ("7\n11\n12\n13\nwithout 7", "one of '7' and 'without 7'"),
            ("4\n7\n11\n12\n13", "'4' is no register that"),
            ("9\n7\n11\n12\n13", "'9' is no register that"),
            ("7 # why\n11\n12\n13", "'7 # why' is no"),
            ("7 11 12 13", "'7 11 12 13' is no"),
            ("1\n7\n11\n12\n13", "/1: "),
        ] {
            let error = read(list).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
