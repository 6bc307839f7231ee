//! Who the box is and the pairing codes of its first two operators, for whoever stands before it:
//! on the terminal, and without one in a file for its owner alone. Never in a log.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use access::Operators;
use ledger::disk::Disk;
use server::Certificate;

use crate::failure::Failure;
use crate::screen;

/// In the state folder.
pub const FILE: &str = "pairing-codes";

/// What is shown with the codes.
pub struct Board {
    /// The state folder.
    pub state_dir: PathBuf,
    /// The site's id.
    pub site: String,
    /// The certificate, where there is one: its fingerprint is shown as it is then.
    pub certificate: Option<Arc<Certificate>>,
}

impl Board {
    /// Shows the codes that nobody has used; once there are none, the file is gone.
    pub fn show(&self, operators: &Operators) -> Result<(), Failure> {
        let codes = operators.pairing_codes().map_err(Failure::new)?;
        let (disk, path) = (Disk::real(), self.state_dir.join(FILE));
        let failed = |error| Failure::new(format!("the pairing codes: {error}"));
        if codes.is_empty() || std::io::stdout().is_terminal() {
            if disk.is_there(&path).map_err(failed)? {
                disk.remove_file(&path).map_err(failed)?;
                disk.sync_dir(&self.state_dir).map_err(failed)?;
            }
            return match codes.is_empty() {
                true => Ok(()),
                false => screen::show(&format!("\n{}", self.text(&codes))),
            };
        }
        disk.replace(&path, self.text(&codes).as_bytes()).map_err(failed)?;
        let place = path.display();
        screen::show(&format!("The pairing codes for the first two operators are in {place}.\n"))
    }

    fn text(&self, codes: &[access::PairingCode]) -> String {
        let mut lines = vec![format!("This box is {}.", self.site)];
        if let Some(certificate) = &self.certificate {
            let fingerprint = certificate.fingerprint();
            lines.push(format!("Its certificate has the fingerprint {fingerprint}."));
        }
        lines.push(String::new());
        let people = if codes.len() == 1 { "one more person" } else { "one person each" };
        lines.push(format!("Pairing codes, which make {people} an operator of it:"));
        lines.push(String::new());
        lines.extend(codes.iter().map(|code| format!("  {code}")));
        lines.push(String::new());
        lines.extend(self.steps().map(str::to_owned));
        lines.push(String::new());
        lines.join("\n")
    }

    fn steps(&self) -> [&'static str; 4] {
        match self.certificate {
            Some(_) => [
                "On that person's workstation:",
                "  redoubt-operator key create NAME --out NAME.key",
                "  redoubt-operator enrol --key NAME.key --server https://THIS-BOX \\",
                "      --fingerprint THE-ONE-ABOVE",
            ],
            None => [
                "redoubt-operator speaks HTTPS alone: set 'tls_certificates' and 'tls_key' first.",
                "As long as nobody is an operator, whoever may open the socket in the state",
                "folder makes and revokes keys ('redoubt keys'); afterwards operators alone.",
                "",
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::own_certificate;

    #[test]
    fn the_file_is_its_owners_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let operators = Operators::open(&folder.path().join("operators.db")).unwrap();
        let state_dir = folder.path().to_owned();
        let names = ["box.example".to_owned()];
        own_certificate::ensure(&state_dir, &names, "site-1").unwrap();
        let files = own_certificate::files(&state_dir, &names, None);
        let certificate = Arc::new(Certificate::open(&Disk::real(), files).unwrap());
        let fingerprint = certificate.fingerprint();
        let board = Board { state_dir, site: "site-1".to_owned(), certificate: Some(certificate) };
        let codes = operators.pairing_codes().unwrap();
        let text = board.text(&codes);
        for code in &codes {
            assert!(text.contains(&code.to_string()), "{text}");
        }
        assert!(text.contains("site-1") && text.contains(&fingerprint), "{text}");
        let plain = Board { certificate: None, ..board };
        assert!(plain.text(&codes[..1]).contains("tls_certificates"));
        // Where tests run there may be a terminal.
        if !std::io::stdout().is_terminal() {
            plain.show(&operators).unwrap();
            let path = folder.path().join(FILE);
            assert_eq!(fs::read_to_string(&path).unwrap(), plain.text(&codes));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
