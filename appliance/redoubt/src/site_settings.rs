//! `redoubt site`: what an installer says of a site, checked at a workstation, put into effect by
//! the box at each boot.
//!
//! The box keeps the first settings that it was given: later ones of another stick change nothing.
//! What is put into effect lies in folders that a reboot empties.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ::site::settings::{SETTINGS_BYTES_MAX, Settings};
use access::FirstOperator;
use clap::Args;
use ledger::disk::Disk;

use crate::config::DRILL;
use crate::failure::Failure;
use crate::image::Places;
use crate::{image, screen};

const HTTPS_PORT: u16 = 443;
const NETWORK_FILE: &str = "systemd/network/10-redoubt.network";
const CONFIG_FILE: &str = "redoubt/redoubt.toml";
const TROUBLE_FILE: &str = "redoubt/trouble";

/// Reads and checks a file, the operators' keys too.
fn load(path: &Path) -> Result<Settings, Failure> {
    let name = path.display();
    let bytes = Disk::real().read(path, SETTINGS_BYTES_MAX).map_err(Failure::new)?;
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{name}: {error}"))
            .hint(format!("mend it, then run: redoubt site check {name}"))
    };
    let text = String::from_utf8(bytes).map_err(|error| wrong(&error))?;
    let settings: Settings = text.parse().map_err(|error| wrong(&error))?;
    for operator in &settings.operators {
        FirstOperator::new(&operator.name, &operator.public_key)
            .map_err(|refusal| wrong(&format!("the operator '{}': {refusal}", operator.name)))?;
    }
    Ok(settings)
}

/// Checks a file and says what it comes to.
pub fn check(path: &Path) -> Result<(), Failure> {
    screen::show(&format!("{} can be used.\n{}", path.display(), said(path)?))
}

/// What a file comes to, on lines of their own.
///
/// # Errors
/// Where it cannot be used.
pub fn said(path: &Path) -> Result<String, Failure> {
    let settings = load(path)?;
    let operators = match settings.operators.as_slice() {
        [] => "whoever reads the pairing codes off the screen".to_owned(),
        named => named.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", "),
    };
    Ok(format!(
        "  host name        {}\n  address          {}\n  network card     {}\n  \
         TLS names        {}\n  first operators  {operators}\n",
        settings.host_name,
        settings.address,
        settings.mac.as_deref().unwrap_or("every one; name its 'mac' where there are several"),
        settings.names().join(", "),
    ))
}

/// Where a box's settings come from and go to.
#[derive(Args)]
pub struct Apply {
    /// Where the box keeps its settings.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// Where they are taken from at the first boot; may be given several times.
    #[arg(long, value_name = "FILE")]
    first: Vec<PathBuf>,
    /// Further models of the image: files that are served beside the drill model.
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
    #[command(flatten)]
    places: Places,
    /// What is put into effect goes here.
    #[arg(long, value_name = "FOLDER", default_value = "/run")]
    run: PathBuf,
    /// Where an importer stages that is a user of its own; the server's own importer without one.
    #[arg(long, value_name = "FOLDER", requires = "sockets")]
    staging: Option<PathBuf>,
    /// Folders for its socket, for that of whoever writes records and of whoever draws the screen:
    /// 'import', 'records' and 'console' below.
    #[arg(long, value_name = "FOLDER", requires = "staging")]
    sockets: Option<PathBuf>,
    /// The kernel's host name.
    #[arg(long, value_name = "FILE", default_value = "/proc/sys/kernel/hostname")]
    host_name: PathBuf,
}

impl Apply {
    /// Puts the settings into effect. What is in the way is left for the screen to show.
    pub fn run(self) -> Result<(), Failure> {
        let trouble = self.run.join(TROUBLE_FILE);
        let failed = |error| Failure::new(format!("{}: {error}", trouble.display()));
        fs::create_dir_all(trouble.parent().unwrap_or(&self.run)).map_err(failed)?;
        let outcome = self.put_into_effect();
        let text = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        fs::write(&trouble, text).map_err(failed)?;
        outcome
    }

    fn put_into_effect(&self) -> Result<(), Failure> {
        let settings = self.settings()?;
        let config = self.config(&settings)?;
        for (path, text) in [(NETWORK_FILE, settings.network_file()), (CONFIG_FILE, config)] {
            let path = self.run.join(path);
            let failed = |error| Failure::new(format!("{}: {error}", path.display()));
            fs::create_dir_all(path.parent().unwrap_or(&self.run)).map_err(failed)?;
            fs::write(&path, text).map_err(failed)?;
        }
        fs::write(&self.host_name, &settings.host_name)
            .map_err(|error| Failure::new(format!("{}: {error}", self.host_name.display())))
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let disk = Disk::real();
        if disk.is_there(&self.settings).map_err(Failure::new)? {
            return load(&self.settings);
        }
        for path in &self.first {
            if !disk.is_there(path).map_err(Failure::new)? {
                continue;
            }
            let settings = load(path)?;
            let bytes = disk.read(path, SETTINGS_BYTES_MAX).map_err(Failure::new)?;
            disk.replace(&self.settings, &bytes).map_err(Failure::new)?;
            return Ok(settings);
        }
        Err(Failure::new("nobody has said yet what this box is called and how it is reached")
            .hint("install the box from a stick that has a site.toml"))
    }

    /// The server's configuration.
    fn config(&self, settings: &Settings) -> Result<String, Failure> {
        let mut models = vec![DRILL.to_owned()];
        if let Some(folder) = self.models.as_deref().filter(|folder| folder.is_dir()) {
            let failed = |error| Failure::new(format!("{}: {error}", folder.display()));
            for entry in fs::read_dir(folder).map_err(failed)? {
                models.push(entry.map_err(failed)?.path().to_string_lossy().into_owned());
            }
        }
        models[1..].sort();
        let operators = settings.operators.iter().map(|one| {
            format!(
                "\n[[first_operators]]\nname = {}\npublic_key = {}\n",
                quoted(&one.name),
                quoted(&one.public_key)
            )
        });
        // A damaged note of what was tried must not keep the box from serving.
        let failed = self.places.failed().unwrap_or_else(|failure| {
            eprintln!("{failure}");
            None
        });
        let failed = failed.map(|version| format!("failed = {version}\n")).unwrap_or_default();
        Ok(format!(
            "listen = \"{}\"\nstate_dir = {}\nmodels = {}\ntls_names = {}\n{}{}\n[image]\n\
             running = {}\ntold = \"{}\"\n{failed}{}",
            SocketAddr::new(settings.address.unspecified(), HTTPS_PORT),
            quoted(&self.places.state_dir.to_string_lossy()),
            list(&models),
            list(&settings.names()),
            self.console(),
            operators.collect::<String>(),
            self.places.running()?,
            image::TOLD_FILE,
            self.medium(),
        ))
    }
}

impl Apply {
    /// Where the screen is drawn by a user of its own.
    fn console(&self) -> String {
        let socket = self.sockets.as_ref().map(|sockets| sockets.join("console/socket"));
        let line =
            |socket: &Path| format!("console_socket = {}\n", quoted(&socket.to_string_lossy()));
        socket.as_deref().map(line).unwrap_or_default()
    }

    /// Where sticks are read and written by users of their own.
    fn medium(&self) -> String {
        let (Some(staging), Some(sockets)) = (&self.staging, &self.sockets) else {
            return String::new();
        };
        let quoted = |path: &Path| quoted(&path.to_string_lossy());
        format!(
            "\n[medium]\nstaging = {}\nimport_socket = {}\nrecords_socket = {}\n",
            quoted(staging),
            quoted(&sockets.join("import/socket")),
            quoted(&sockets.join("records/socket"))
        )
    }
}

/// JSON's strings are TOML's basic strings, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    serde_json::Value::from(texts).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    struct Box {
        folder: tempfile::TempDir,
    }

    impl Box {
        fn new() -> Box {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("models")).unwrap();
            fs::write(folder.path().join("os-release"), "IMAGE_VERSION=1\n").unwrap();
            fs::write(folder.path().join("boot-id"), "now\n").unwrap();
            Box { folder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn apply(&self) -> Result<(), Failure> {
            let apply = Apply {
                settings: self.path("kept.toml"),
                first: vec![self.path("missing.toml"), self.path("first.toml")],
                models: Some(self.path("models")),
                places: Places {
                    state_dir: self.path("state"),
                    kept: self.path(""),
                    os_release: self.path("os-release"),
                    boot_id: self.path("boot-id"),
                },
                run: self.path("run"),
                staging: Some(self.path("staging")),
                sockets: Some(self.path("sockets")),
                host_name: self.path("host-name"),
            };
            apply.run()
        }

        fn says(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap()
        }
    }

    const SETTINGS: &str = "format = 1\nhost_name = 'box-7'\naddress = '192.0.2.7/24'\n";

    #[test]
    fn a_box_keeps_its_first_settings() {
        let own = Box::new();
        let none = own.apply().unwrap_err().to_string();
        assert!(none.contains("site.toml") && !own.path("run/systemd").exists(), "{none}");
        assert_eq!(own.says("run/redoubt/trouble"), none);
        fs::write(own.path("first.toml"), SETTINGS).unwrap();
        fs::write(own.path("models/a \"b\".gguf"), "").unwrap();
        own.apply().unwrap();
        assert_eq!(own.says("run/redoubt/trouble"), "");
        assert_eq!(own.says("host-name"), "box-7");
        assert!(own.says("run/systemd/network/10-redoubt.network").contains("192.0.2.7/24"));
        let config = Config::load(Some(&own.path("run/redoubt/redoubt.toml"))).unwrap();
        assert_eq!(config.own_names().unwrap(), ["box-7", "192.0.2.7"]);
        assert_eq!(config.listen().unwrap().address.port(), 443);
        assert_eq!(config.sources().len(), 2);
        assert!(config.first_operators().unwrap().is_empty());
        assert_eq!(config.images().unwrap().running, 1);
        assert_eq!(config.staging_of_another(), Some(own.path("staging").as_path()));
        assert_eq!(config.import_socket(), own.path("sockets/import/socket"));
        assert_eq!(config.records_socket(), own.path("sockets/records/socket"));
        assert_eq!(config.console_socket(), own.path("sockets/console/socket"));
        let tried = "{\"version\": 2, \"boot_id\": \"before\"}";
        fs::write(own.path("tried.json"), tried).unwrap();
        own.apply().unwrap();
        let config = Config::load(Some(&own.path("run/redoubt/redoubt.toml"))).unwrap();
        assert_eq!(config.images().unwrap().failed, Some(2));
        fs::write(own.path("tried.json"), "damaged").unwrap();
        fs::write(own.path("first.toml"), SETTINGS.replace("box-7", "box-8")).unwrap();
        own.apply().unwrap();
        assert_eq!(own.says("host-name"), "box-7");
    }

    #[test]
    fn what_cannot_be_used_is_not_kept() {
        let own = Box::new();
        let operators = "[[operators]]\nname = 'anna'\npublic_key = 'AAAA'\n\
                         [[operators]]\nname = 'ben'\npublic_key = 'BBBB'\n";
        fs::write(own.path("first.toml"), format!("{SETTINGS}{operators}")).unwrap();
        let error = own.apply().unwrap_err().to_string();
        assert!(error.contains("'anna'") && error.contains("redoubt site check"), "{error}");
        assert!(!own.path("kept.toml").exists() && !own.path("run/systemd").exists());
    }
}
