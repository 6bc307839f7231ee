//! The real program as a child process: a state folder of its own, a free port, stopped on drop.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::http::Client;

/// A debug build on a busy machine loads the model in less.
const START_TIMEOUT: Duration = Duration::from_secs(120);

const BUILD: &str = "run cargo build --workspace --bins";

/// The program, built beside this test.
///
/// # Panics
/// When it was not built, or before one of its sources was changed.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("tests lie in the profile's deps folder");
    let program = profile.join("redoubt");
    assert!(program.is_file(), "{} is missing: {BUILD}", program.display());
    // Names after the colon, spaces in them behind backslashes; what is gone was changed, too.
    let sources = fs::read_to_string(profile.join("redoubt.d")).expect("cargo lists sources");
    let sources = sources.replace("\\ ", "\0");
    let time_of = |path: &str| fs::metadata(path).and_then(|entry| entry.modified()).ok();
    let built = time_of(&program.to_string_lossy());
    for source in sources.split_whitespace().skip(1) {
        let source = source.replace('\0', " ");
        let is_older = time_of(&source).is_some_and(|changed| Some(changed) <= built);
        assert!(is_older, "{source} is not as it was when the program was built: {BUILD}");
    }
    program
}

/// A folder with a configuration; servers started on it one after another share their state.
pub struct Site {
    folder: TempDir,
    config: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Site {
    /// An empty state folder. `settings` are further lines of the configuration.
    ///
    /// # Panics
    /// When the temporary folder cannot be written.
    pub fn new(settings: &str) -> Site {
        Site::with(|_| settings.to_owned())
    }

    /// The same with settings that name files in the site's folder, which is handed over.
    ///
    /// # Panics
    /// As for [`Site::new`].
    pub fn with(settings: impl FnOnce(&Path) -> String) -> Site {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("redoubt.toml");
        let state = folder.path().join("state");
        let settings = settings(folder.path());
        let text = format!("listen = '127.0.0.1:0'\nstate_dir = '{}'\n{settings}", state.display());
        fs::write(&config, text).expect("the temporary folder takes a file");
        Site { folder, config, environment: Vec::new() }
    }

    /// A path in the site's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has every run on this site see such a variable.
    pub fn environment(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    /// A run of the program on this site.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("--config").arg(&self.config).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// The key that the first start left.
    ///
    /// # Panics
    /// When there is none.
    pub fn first_key(&self) -> String {
        let path = self.path("state/first-key");
        fs::read_to_string(path).expect("the first start left a key").trim().to_owned()
    }

    /// A new key for a tenant; the server runs.
    ///
    /// # Panics
    /// When there comes none.
    pub fn key(&self, tenant: &str) -> String {
        let output = self.run(&["keys", "create", "--tenant", tenant]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let key = text.split_whitespace().find(|word| word.starts_with("rdt-"));
        key.unwrap_or_else(|| panic!("no key: {output:?}")).to_owned()
    }

    /// Starts the server on a model file and waits until it serves.
    ///
    /// # Panics
    /// With what it printed, when it ends before.
    pub fn serve(&self, model: &Path) -> Served {
        self.start(&["serve", "--model", &model.to_string_lossy()])
    }

    /// Starts the program without a verb or a model, as a newcomer does.
    ///
    /// # Panics
    /// As for [`Site::serve`].
    pub fn serve_bare(&self) -> Served {
        self.start(&[])
    }

    fn start(&self, arguments: &[&str]) -> Served {
        let first_start = !self.path("state").exists();
        let mut child = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let (sender, lines) = channel();
        let outs: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("stdout is piped")),
            Box::new(child.stderr.take().expect("stderr is piped")),
        ];
        for out in outs {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    // Nobody listens any more once the test is over.
                    let _ = sender.send(line);
                }
            });
        }
        let mut served = Served { child, lines, seen: Vec::new(), url: String::new() };
        let line = served.wait_for("INFO serving url=");
        served.url = line.split('"').nth(1).expect("the URL is quoted").to_owned();
        if first_start {
            served.wait_for("first API key");
        }
        served
    }
}

/// A running server.
pub struct Served {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// The base URL that clients are given.
    pub url: String,
}

impl Served {
    /// The next line that it prints with `what` in it.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for(&mut self, what: &str) -> String {
        loop {
            match self.lines.recv_timeout(START_TIMEOUT) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(what) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no '{what}' in {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended: {:#?}", self.seen),
            }
        }
    }

    /// A client of it with a key.
    ///
    /// # Panics
    /// When the URL is no address.
    pub fn client(&self, key: &str) -> Client {
        let address = self.url.trim_start_matches("http://").trim_end_matches("/v1");
        Client { address: address.parse().expect("an address and a port"), key: key.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Panics
    /// When it was gone before.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// When it is gone.
    pub fn ask_to_stop(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// SIGTERM; how it ended and every line that it printed.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(self) -> (ExitStatus, Vec<String>) {
        self.ask_to_stop();
        self.ended()
    }

    /// How it ended by itself, and every line that it printed.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(mut self) -> (ExitStatus, Vec<String>) {
        while let Ok(line) = self.lines.recv_timeout(START_TIMEOUT) {
            self.seen.push(line);
        }
        let status = self.child.wait().expect("it ends");
        (status, std::mem::take(&mut self.seen))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
