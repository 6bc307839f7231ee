//! The first API key: made once all else has worked, shown once, never in a log.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use server::{Kind, Known, State};

use crate::config::Config;
use crate::failure::Failure;
use crate::screen;

/// Makes the first key, where there is none yet and no operator who makes it, and shows a request
/// to paste on a terminal. Without a terminal the key goes to a file for its owner alone.
pub fn show(config: &Config, state: &State, url: &str, model: &Known) -> Result<(), Failure> {
    let may = state.trusted.operators.local_root_authorises().map_err(Failure::new)?;
    let first = match may && state.keys.is_empty().map_err(Failure::new)? {
        true => {
            let key = state.create_key(&["first start".to_owned()], "default", "first key");
            Some(key.map_err(|error| Failure::new(error.message))?.secret)
        }
        false => None,
    };
    let more = if may { "redoubt keys create" } else { "redoubt-operator keys create" };
    match (std::io::stdout().is_terminal(), first) {
        (true, Some(key)) => screen::show(&format!(
            "\nThis is your first API key; it is shown only now:\n\n  {key}\n{}",
            request(config, url, model, &key)
        )),
        (true, None) => screen::show(&format!(
            "\nWith one of your keys ('{more}' makes another):\n{}",
            request(config, url, model, "KEY")
        )),
        (false, Some(key)) => write(&config.state_dir, &key),
        (false, None) => Ok(()),
    }
}

/// A request to paste.
fn request(config: &Config, url: &str, model: &Known, key: &str) -> String {
    let certificates = config.certificate_arguments();
    let (name, question) = (&model.name, "What is the capital of France?");
    let (path, body) = match model.kind {
        Kind::Chat => (
            "chat/completions",
            serde_json::json!({
                "model": name, "temperature": 0,
                "messages": [{"role": "user", "content": question}],
            }),
        ),
        Kind::Embeddings => ("embeddings", serde_json::json!({"model": name, "input": question})),
    };
    let lines = [
        String::new(),
        "Try it:".to_owned(),
        String::new(),
        format!("  curl {url}/{path} {certificates}\\"),
        format!("    -H 'Authorization: Bearer {key}' \\"),
        "    -H 'Content-Type: application/json' \\".to_owned(),
        format!("    -d {}", quoted(&body.to_string())),
        String::new(),
        "or talk to it in another terminal: redoubt chat".to_owned(),
        "\n".to_owned(),
    ];
    lines.join("\n")
}

/// As one word of a shell's command line.
pub fn quoted(word: &str) -> String {
    format!("'{}'", screen::plain(word).replace('\'', r"'\''"))
}

fn write(state_dir: &Path, key: &str) -> Result<(), Failure> {
    let (path, new) = (state_dir.join("first-key"), state_dir.join("first-key.new"));
    let failed = |error| {
        Failure::new(format!("writing the first key to {}: {error}", path.display()))
            .hint("make room, start again, and run 'redoubt keys create' for a new key")
    };
    // What an earlier start left half-written.
    if new.symlink_metadata().is_ok() {
        fs::remove_file(&new).map_err(failed)?;
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    writeln!(file, "{key}").and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, &path).map_err(failed)?;
    File::open(state_dir).and_then(|folder| folder.sync_all()).map_err(failed)?;
    let place = path.display();
    screen::show(&format!("The first API key is in {place}; move it away once read.\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_its_owners_alone_whatever_lay_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("first-key");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("first-key.new")).unwrap();
        write(folder.path(), "rdt-1").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "rdt-1\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(quoted("it's $(x)"), r"'it'\''s $(x)'");
        assert_eq!(quoted("a\x1bb"), "'a\\u{1b}b'");
    }
}
