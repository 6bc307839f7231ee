//! What the installer says and asks on the machine's own screen. Pure but for the keyboard and the
//! screen that it is given: it is told which disks there are, and gives back what was agreed on.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};

use super::disks::Disk;
use crate::screen as terminal;

const TITLE: &str = "\x1b[2J\x1b[H\x1b[1;37;44m  Redoubt: installation  \x1b[0m\n";
const GB: f64 = 1e9;

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Nothing, as far as its first and last blocks say.
    Nothing,
    /// Something that is not ours.
    Other,
    /// The data of a Redoubt box.
    Data {
        /// Whether its slots lie as this image's do, so that the data can stay.
        fits: bool,
    },
}

/// A disk, and what is on it.
#[derive(Debug)]
pub struct Target {
    /// The disk.
    pub disk: Disk,
    /// What is on it.
    pub holds: Holds,
}

/// What somebody agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// Everything on the disk goes.
    Erase {
        /// Which of the targets.
        target: usize,
    },
    /// All but the data is written anew.
    Keep {
        /// Which of the targets.
        target: usize,
    },
}

/// Shows what would be installed where, and asks; none where nothing was agreed on.
///
/// # Errors
/// Where keyboard or screen fail.
pub fn ask(
    keyboard: &mut impl BufRead,
    screen: &mut impl Write,
    about: &str,
    targets: &[Target],
) -> io::Result<Option<Agreed>> {
    let fit: Vec<usize> = (0..targets.len()).filter(|i| targets[*i].disk.unfit.is_none()).collect();
    write!(screen, "{TITLE}\n{about}\n{}", list(targets, &fit))?;
    let target = match fit.as_slice() {
        [] => {
            let question = "There is no disk to install on. Press Enter to look again:";
            terminal::ask(keyboard, screen, question)?;
            return Ok(None);
        }
        [only] => *only,
        several => {
            let question = "There are several disks. Number of the one to install on:";
            let typed = terminal::ask(keyboard, screen, question)?;
            let chosen = typed.parse().ok().and_then(|number: usize| number.checked_sub(1));
            match chosen.and_then(|place| several.get(place)) {
                Some(chosen) => *chosen,
                None => return Ok(None),
            }
        }
    };
    let typed = terminal::ask(keyboard, screen, &question(&targets[target]))?;
    Ok(match (targets[target].holds, typed.as_str()) {
        (Holds::Nothing, "INSTALL") => Some(Agreed::Erase { target }),
        (Holds::Other | Holds::Data { .. }, "ERASE") => Some(Agreed::Erase { target }),
        (Holds::Data { fits: true }, "KEEP") => Some(Agreed::Keep { target }),
        _ => None,
    })
}

fn list(targets: &[Target], fit: &[usize]) -> String {
    let mut text = "  Disks\n".to_owned();
    for (i, Target { disk, holds }) in targets.iter().enumerate() {
        let number = fit.iter().position(|place| *place == i).map(|place| (place + 1).to_string());
        let what = match (disk.unfit, holds) {
            (Some(why), _) => format!("not offered: {why}"),
            (None, Holds::Nothing) => "empty".to_owned(),
            (None, Holds::Other) => "SOMETHING IS ON IT".to_owned(),
            (None, Holds::Data { .. }) => "THE DATA OF A REDOUBT BOX ARE ON IT".to_owned(),
        };
        let Disk { name, model, serial, bytes, .. } = disk;
        let size = *bytes as f64 / GB;
        let number = number.unwrap_or_else(|| "-".to_owned());
        let _ =
            writeln!(text, "    {number}  {name}  {size:.1} GB  {model}  {serial}\n       {what}");
    }
    text
}

fn question(target: &Target) -> String {
    let name = &target.disk.name;
    match target.holds {
        Holds::Nothing => format!("Type INSTALL to install on {name}:"),
        Holds::Other => format!(
            "What is on {name} would be lost, and nothing brings it back.\n  \
             Type ERASE to erase it and install:"
        ),
        Holds::Data { fits: true } => format!(
            "On {name} are the data of a Redoubt box: models, keys, operators, its audit log.\n  \
             They can stay, the box's settings among them. Where another image ran, the box\n  \
             asks for its recovery key.\n  \
             Type KEEP to write the image anew and keep them, or ERASE to erase everything:"
        ),
        Holds::Data { fits: false } => format!(
            "On {name} are the data of a Redoubt box: models, keys, operators, its audit log.\n  \
             They cannot stay: this image has slots of another size.\n  \
             Type ERASE to erase everything and install:"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, holds: Holds) -> Target {
        let disk = Disk {
            name: name.to_owned(),
            model: "FAST".to_owned(),
            serial: "S1".to_owned(),
            bytes: 900_000_000_000,
            unfit: None,
        };
        Target { disk, holds }
    }

    fn unfit(name: &str) -> Target {
        let mut target = target(name, Holds::Other);
        target.disk.unfit = Some("it is on USB");
        target
    }

    fn asked(targets: &[Target], typed: &str) -> (Option<Agreed>, String) {
        let mut screen = Vec::new();
        let agreed = ask(&mut typed.as_bytes(), &mut screen, "  about\n", targets).unwrap();
        (agreed, String::from_utf8(screen).unwrap())
    }

    #[test]
    fn one_disk_takes_one_word() {
        let erase = Some(Agreed::Erase { target: 1 });
        let keep = Some(Agreed::Keep { target: 1 });
        let data = |fits| Holds::Data { fits };
        for (holds, typed, agreed) in [
            (Holds::Nothing, "INSTALL", erase),
            (Holds::Nothing, " INSTALL ", erase),
            (Holds::Nothing, "install", None),
            (Holds::Nothing, "yes", None),
            (Holds::Nothing, "", None),
            (Holds::Nothing, "KEEP", None),
            (Holds::Other, "ERASE", erase),
            (Holds::Other, "INSTALL", None),
            (Holds::Other, "KEEP", None),
            (data(true), "ERASE", erase),
            (data(true), "KEEP", keep),
            (data(true), "INSTALL", None),
            (data(false), "KEEP", None),
            (data(false), "ERASE", erase),
        ] {
            let targets = [unfit("sda"), target("sdb", holds)];
            let (found, screen) = asked(&targets, &format!("{typed}\n"));
            assert_eq!(found, agreed, "{holds:?}, {typed:?}");
            assert!(screen.contains("about") && screen.contains("not offered: it is on USB"));
            assert!(screen.contains("1  sdb  900.0 GB  FAST  S1"), "{screen}");
            assert_eq!(
                screen.contains("DATA OF A REDOUBT BOX"),
                matches!(holds, Holds::Data { .. })
            );
        }
    }

    #[test]
    fn of_several_one_is_chosen_by_its_number() {
        let disks = [unfit("a"), target("b", Holds::Nothing), target("c", Holds::Other)];
        assert_eq!(asked(&disks, "1\nINSTALL\n").0, Some(Agreed::Erase { target: 1 }));
        assert_eq!(asked(&disks, "2\nERASE\n").0, Some(Agreed::Erase { target: 2 }));
        for typed in ["0\n", "3\n", "b\n", "\n", "-1\n", "2\nINSTALL\n"] {
            assert_eq!(asked(&disks, typed).0, None, "{typed:?}");
        }
    }

    #[test]
    fn without_a_disk_nothing_is_agreed_on() {
        let (agreed, screen) = asked(&[unfit("sda")], "INSTALL\n");
        assert_eq!(agreed, None);
        assert!(screen.contains("no disk to install on"));
        let end = ask(&mut "".as_bytes(), &mut Vec::new(), "", &[]).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
