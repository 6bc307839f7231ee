//! `redoubt`, the appliance's program: serves models, and speaks to the serving one over its
//! Unix socket. Each verb has a file; this one is the command line and how failures are told.

mod audit;
mod bundles;
mod cards;
mod chat;
mod client;
mod config;
mod console;
mod drill;
mod failure;
mod first_key;
mod gpu;
mod gpu_faults;
mod gpu_test;
mod image;
mod inspect;
mod install;
mod keys;
mod leave;
mod load;
mod maintenance;
mod names;
mod own_certificate;
mod pairing;
mod place;
mod registers;
mod request;
mod reset;
mod screen;
mod seal;
mod self_test;
mod serve;
mod site_settings;
mod state_dir;
mod status;
mod stick;
mod supervisor;
mod uki;
mod unread;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::failure::Failure;
use crate::load::Source;

const EXAMPLES: &str = "Examples:
  redoubt                                serve the drill model on 127.0.0.1:8080
  redoubt serve --model model.gguf       serve a model on 127.0.0.1:8080
  redoubt chat                           talk to it from this terminal
  redoubt keys create --tenant team-a    make an API key
  redoubt models inspect model.gguf      look into a model file without loading it
  redoubt audit verify                   check that nobody has edited the audit log
  redoubt status                         what runs here";

/// A sovereign AI inference appliance: local models behind an OpenAI-compatible API. Without a verb
/// it serves.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Configuration file (TOML); defaults apply without one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve models over HTTP until stopped.
    #[command(after_help = "Example:
  redoubt serve --model model.gguf")]
    Serve {
        /// GGUF file, or folder with model.safetensors; may be given several times. Overrides the
        /// configuration's `models`; without either the drill model is served.
        #[arg(long = "model", value_name = "FILE")]
        models: Vec<PathBuf>,
    },
    /// Talk to a served model from this terminal.
    #[command(
        after_help = "Ctrl-C stops an answer; at the prompt it leaves, as Ctrl-D does. /clear \
forgets the conversation. Example:
  redoubt chat --system 'Answer in one sentence.'"
    )]
    Chat {
        /// Which model; the only one where there is one.
        #[arg(long)]
        model: Option<String>,
        /// A system message to begin with.
        #[arg(long)]
        system: Option<String>,
        /// How freely words are drawn, 0 to 2; 0 always takes the likeliest.
        #[arg(long, default_value_t = 0.2)]
        temperature: f32,
    },
    /// List served models, or look into a file.
    #[command(subcommand)]
    Models(Models),
    /// Make, list and revoke API keys.
    #[command(subcommand)]
    Keys(Keys),
    /// Import a signed bundle from a stick: one folder or several volumes, in any order.
    #[command(after_help = "Examples:
  redoubt import /media/stick
  redoubt import /media/volume-2         later, with what was missing")]
    Import {
        /// Folders that hold the bundle's volumes.
        #[arg(required = true, value_name = "FOLDER")]
        folders: Vec<PathBuf>,
    },
    /// Take what is on a stick that was plugged in: bundles, and requests in the folder 'requests'.
    Stick(stick::Stick),
    /// Say why a stick that was plugged in is not read: the box's own steps.
    Unread(unread::Unread),
    /// Write records to a stick that carries the authority's return label.
    #[command(after_help = "Example:
  redoubt records /media/stick")]
    Records(leave::Leave),
    /// Trust an authority, and a vendor beside it: their first roots, compared by people.
    #[command(after_help = "Examples:
  redoubt trust authority.root.json --vendor vendor.root.json
  redoubt trust --vendor vendor.root.json    later, where there was no vendor")]
    Trust {
        /// The authority's root.json.
        #[arg(required_unless_present = "vendor")]
        authority: Option<PathBuf>,
        /// The vendor's root.json.
        #[arg(long, value_name = "FILE")]
        vendor: Option<PathBuf>,
    },
    /// Carry out what operators signed into files at their workstations: requests and pairings.
    #[command(after_help = "Example:
  redoubt request /media/stick/activate.json")]
    Request {
        /// Files that 'redoubt-operator sign' or 'redoubt-operator enrol --out' has written.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Look into bundles, and at what was imported.
    #[command(subcommand)]
    Bundle(Bundle),
    /// Ask the running server what the drill model must answer, once it is ready.
    SelfTest {
        /// Seconds to wait until it is ready.
        #[arg(long, default_value_t = 600, value_name = "N")]
        timeout_s: u64,
    },
    /// Show on this terminal who the box is, how it stands and what to do next, until stopped.
    Console(console::Console),
    /// Device nodes and state of NVIDIA's GPUs: the box's own steps.
    #[command(subcommand)]
    Gpu(gpu::Gpu),
    /// From an activated image to one that boots: the box's own steps.
    #[command(subcommand)]
    Image(image::Image),
    /// Install from the stick that this machine was started from onto its own disk.
    Install(install::Install),
    /// Help whoever stands before a box whose data do not open.
    Maintenance(maintenance::Maintenance),
    /// From a factory reset that operators agreed on to an empty box: the box's own steps.
    #[command(subcommand)]
    Reset(reset::Reset),
    /// Which images open the data: the box's own steps.
    #[command(subcommand)]
    Seal(seal::Seal),
    /// Check what an installer says of a site, or put it into effect on the box.
    #[command(subcommand)]
    Site(SiteVerb),
    /// The audit log: verify it, show it, print its checkpoint.
    #[command(subcommand)]
    Audit(Audit),
    /// Show what runs here.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum Models {
    /// Models that the running server serves.
    List,
    /// What a model file holds: hyperparameters, weights, vocabulary, and the forward pass.
    Inspect {
        /// GGUF file, or folder with model.safetensors; the drill model without one.
        file: Option<PathBuf>,
    },
    /// Whether a server would start with these models: each runs, and no two have one name. Loads
    /// none.
    Check {
        /// GGUF files, folders with model.safetensors, or 'drill'; the configuration's without any.
        models: Vec<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Bundle {
    /// What was imported, and where it stands.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Verify a bundle and show what of it this site would take; nothing is copied.
    Inspect {
        /// Folders that hold the bundle's volumes.
        #[arg(required = true, value_name = "FOLDER")]
        folders: Vec<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Verify a bundle whole: every piece of every file on these volumes; nothing is copied.
    Verify {
        /// Folders that hold the bundle's volumes.
        #[arg(required = true, value_name = "FOLDER")]
        folders: Vec<PathBuf>,
    },
    /// Let an imported item be used. Once operators are enrolled they do it, not this box.
    Approve {
        /// The item, as `bundle list` shows it, or its SHA-256.
        item: String,
    },
    /// Make an approved item the active one of its name; a model proves itself first.
    Activate {
        /// The item, as `bundle list` shows it, or its SHA-256.
        item: String,
    },
    /// Take an item out of the store that is not in use.
    Remove {
        /// The item, as `bundle list` shows it, or its SHA-256.
        item: String,
    },
    /// Go back to the version of a model that was active before.
    Rollback {
        /// The model's name.
        model: String,
    },
}

#[derive(Subcommand)]
enum SiteVerb {
    /// Check a site.toml, before it goes to a box: its form, addresses, names and keys.
    #[command(after_help = "Example:
  redoubt site check /media/stick/site.toml")]
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Put a box's settings into effect, at a boot: its name, its network, what it serves.
    Apply(Box<site_settings::Apply>),
}

#[derive(Subcommand)]
enum Audit {
    /// Recompute the whole log, also while the server runs, and name the first entry that is wrong;
    /// or records that a box has written to a stick.
    #[command(after_help = "Examples, with what was printed last week and kept elsewhere, and of \
a stick:
  redoubt audit verify --checkpoint last-week.txt
  redoubt audit verify --folder records/site-ID-812 --site-key box-7.txt")]
    Verify {
        #[command(flatten)]
        log: AuditLog,
        /// A checkpoint that was kept; may be given several times.
        #[arg(long = "checkpoint", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
    },
    /// Show the entries.
    Show {
        #[command(flatten)]
        log: AuditLog,
        /// The first one.
        #[arg(long, default_value_t = 0, value_name = "N")]
        from: u64,
        /// As JSON, exactly as they are hashed.
        #[arg(long)]
        json: bool,
    },
    /// Print the signed checkpoint. Kept elsewhere, it shows later whether the log's end was cut.
    Checkpoint {
        #[command(flatten)]
        log: AuditLog,
    },
}

#[derive(Args)]
struct AuditLog {
    /// The log's folder, or one of records from a stick; the state folder's log without one.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// File with the site's public key (Base64 or PEM); the state folder's without one.
    #[arg(long, value_name = "FILE")]
    site_key: Option<PathBuf>,
}

impl AuditLog {
    fn open(self, config: &Config) -> Result<audit::Log, Failure> {
        audit::Log::of(&config.state_dir, self.folder, self.site_key.as_deref())
    }
}

#[derive(Subcommand)]
enum Keys {
    /// Make a key; its secret is shown this once.
    Create {
        /// Whose key it is: letters, digits, '.', '_' and '-'.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List all keys, without their secrets.
    List,
    /// Revoke a key, at once.
    Revoke {
        /// The key's id, as `keys list` shows it.
        id: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = match (Config::load(arguments.config.as_deref()), &arguments.verb) {
        // The screen shows why there is no configuration.
        (Err(_), Some(Verb::Console(_))) => Config::default(),
        (loaded, _) => loaded?,
    };
    let socket = config.admin_socket();
    match arguments.verb.unwrap_or(Verb::Serve { models: Vec::new() }) {
        Verb::Serve { models } => serve::run(config.with_models(models)),
        Verb::Models(Models::Inspect { file }) => {
            inspect::run(&file.map_or(Source::Drill, Source::File))
        }
        Verb::Models(Models::Check { models }) => names::check(config.with_models(models)),
        Verb::Chat { model, system, temperature } => {
            client::block_on(chat::run(&socket, chat::Settings { model, system, temperature }))
        }
        Verb::Audit(Audit::Verify { log, checkpoints }) => log.open(&config)?.verify(&checkpoints),
        Verb::Audit(Audit::Show { log, from, json }) => log.open(&config)?.show(from, json),
        Verb::Audit(Audit::Checkpoint { log }) => log.open(&config)?.checkpoint(),
        Verb::SelfTest { timeout_s } => {
            client::block_on(self_test::run(&socket, Duration::from_secs(timeout_s)))
        }
        Verb::Console(console) => client::block_on(console.run(arguments.config)),
        Verb::Gpu(step) => step.run(),
        Verb::Image(step) => step.run(),
        Verb::Install(install) => install.run(),
        Verb::Maintenance(maintenance) => maintenance.run(),
        Verb::Reset(step) => step.run(),
        Verb::Seal(step) => step.run(),
        Verb::Site(SiteVerb::Check { file }) => site_settings::check(&file),
        Verb::Site(SiteVerb::Apply(apply)) => apply.run(),
        Verb::Import { folders } => client::block_on(async {
            let told = bundles::import(&config, &folders).await?;
            screen::show(&screen::plain(&told))
        }),
        Verb::Stick(stick) => client::block_on(stick.run(&config)),
        Verb::Unread(unread) => unread.run(),
        Verb::Records(leave) => client::block_on(leave.run(&config)),
        Verb::Trust { authority, vendor } => {
            client::block_on(bundles::trust(&socket, authority.as_deref(), vendor.as_deref()))
        }
        Verb::Request { files } => client::block_on(request::run(&config.import_socket(), &files)),
        Verb::Bundle(verb) => client::block_on(bundle(&config, verb)),
        Verb::Models(Models::List) => client::block_on(status::models(&socket)),
        Verb::Status { json } => client::block_on(status::run(&socket, json)),
        Verb::Keys(Keys::Create { tenant, label }) => {
            client::block_on(keys::create(&socket, &tenant, &label))
        }
        Verb::Keys(Keys::List) => client::block_on(keys::list(&socket)),
        Verb::Keys(Keys::Revoke { id }) => client::block_on(keys::revoke(&socket, &id)),
    }
}

async fn bundle(config: &Config, verb: Bundle) -> Result<(), Failure> {
    let socket = config.admin_socket();
    match verb {
        Bundle::List { json } => bundles::list(&socket, json).await,
        Bundle::Inspect { folders, json } => bundles::inspect(config, &folders, json).await,
        Bundle::Verify { folders } => bundles::verify_whole(config, &folders).await,
        Bundle::Approve { item } => bundles::act(&socket, "approve", &item).await,
        Bundle::Activate { item } => bundles::act(&socket, "activate", &item).await,
        Bundle::Remove { item } => bundles::act(&socket, "remove", &item).await,
        Bundle::Rollback { model } => bundles::act(&socket, "rollback", &model).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
