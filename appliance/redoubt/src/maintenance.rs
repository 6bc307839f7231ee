//! `redoubt maintenance`: what a box offers whoever stands before it when its data do not open. It
//! runs instead of the server, on the box's own keyboard and screen, and has three ways out: the
//! recovery key, erasing everything, another try. An image on trial asks nobody: it restarts, so
//! that the loader takes the one before once its tries are over. What is destroyed here is made
//! anew by the next start, as after any factory reset (`reset.rs`).

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::{image, reset, screen as terminal, seal};

const TEXT: &str = "\x1b[2J\x1b[H\x1b[1;37;41m  Redoubt: maintenance  \x1b[0m

  The data of this box do not open: its TPM does not give their key away.
  That is so when the disk was put into another machine, when the firmware's
  settings have changed, when an image runs that this box does not take, or
  when somebody has put settings for it on the first partition. A disk with
  errors is another reason.

    1  open the data with the recovery key
    2  erase all data, and begin anew with site.toml
    3  try again

  An installer stick writes the image anew, and can leave the data as they are.
";
const ERASE: &str = "ERASE";

/// What is used beside the seal's own places.
#[derive(Args)]
pub struct Maintenance {
    #[command(flatten)]
    places: seal::Places,
    /// What restarts the machine.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/systemctl")]
    systemctl: PathBuf,
    /// Where the loader counts tries, in the names of UKIs.
    #[arg(long, value_name = "FOLDER", default_value = "/efi/EFI/Linux")]
    ukis: PathBuf,
    /// What the running image says of itself, os-release(5).
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/os-release")]
    os_release: PathBuf,
}

/// What somebody chose.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Recover(String),
    Erase,
    Restart,
}

impl Maintenance {
    /// Asks until something was done, then restarts.
    pub fn run(self) -> Result<(), Failure> {
        // An image on trial that the data do not open for gives way to the one before.
        if image::running(&self.os_release)
            .and_then(|version| image::unproven(&self.ukis, version))
            .is_ok()
        {
            return self.restart();
        }
        let mut keyboard = io::stdin().lock();
        let mut screen = io::stdout().lock();
        loop {
            let done = match ask(&mut keyboard, &mut screen).map_err(Failure::new)? {
                None => continue,
                Some(Choice::Recover(key)) => self.places.recover(&key),
                Some(Choice::Erase) => reset::destroy(self.places.device()),
                Some(Choice::Restart) => Ok(()),
            };
            match done {
                Ok(()) => {
                    writeln!(screen, "\n  Done. The box restarts.").map_err(Failure::new)?;
                    return self.restart();
                }
                Err(failure) => {
                    writeln!(screen, "\n  {failure}\n\n  Press Enter.").map_err(Failure::new)?;
                    keyboard.read_line(&mut String::new()).map_err(Failure::new)?;
                }
            }
        }
    }
}

impl Maintenance {
    fn restart(&self) -> Result<(), Failure> {
        reset::run_program(&self.systemctl, &["--no-block", "--force", "reboot"])
    }
}

/// One question; none where the answer is none of those that are offered.
fn ask(keyboard: &mut impl BufRead, screen: &mut impl Write) -> io::Result<Option<Choice>> {
    screen.write_all(TEXT.as_bytes())?;
    Ok(match terminal::ask(keyboard, screen, "1, 2 or 3:")?.as_str() {
        "1" => Some(Choice::Recover(terminal::ask(keyboard, screen, "Recovery key:")?)),
        "2" => {
            let prompt = "Nothing can be brought back. Type ERASE to erase all data:";
            (terminal::ask(keyboard, screen, prompt)? == ERASE).then_some(Choice::Erase)
        }
        "3" => Some(Choice::Restart),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, chosen: Option<Choice>) {
        let mut screen = Vec::new();
        let asked = ask(&mut typed.as_bytes(), &mut screen).unwrap();
        assert_eq!(asked, chosen, "{typed:?}");
        assert!(String::from_utf8(screen).unwrap().contains("the recovery key"));
    }

    #[test]
    fn choices() {
        check("1\nfgcg-tbcd \n", Some(Choice::Recover("fgcg-tbcd".to_owned())));
        check("2\nERASE\n", Some(Choice::Erase));
        check("2\nerase\n", None);
        check("3\n", Some(Choice::Restart));
        check("quit\n", None);
        let end = ask(&mut "1\n".as_bytes(), &mut Vec::new()).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_text_fits_a_screen_of_80_columns() {
        assert!(TEXT.lines().skip(1).all(|line| line.chars().count() < 80));
    }
}
