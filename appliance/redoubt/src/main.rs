//! `redoubt`, the appliance's program: serves models, and speaks to the serving one over its
//! Unix socket. Each verb has a file; this one is the command line and how failures are told.

mod cards;
mod chat;
mod client;
mod config;
mod drill;
mod failure;
mod first_key;
mod inspect;
mod keys;
mod load;
mod screen;
mod serve;
mod state_dir;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::failure::Failure;
use crate::load::Source;

const EXAMPLES: &str = "Examples:
  redoubt                                serve the drill model on 127.0.0.1:8080
  redoubt serve --model model.gguf       serve a model on 127.0.0.1:8080
  redoubt chat                           talk to it from this terminal
  redoubt keys create --tenant team-a    make an API key
  redoubt models inspect model.gguf      look into a model file without loading it
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
    let config = Config::load(arguments.config.as_deref())?;
    let socket = config.admin_socket();
    match arguments.verb.unwrap_or(Verb::Serve { models: Vec::new() }) {
        Verb::Serve { models } => serve::run(config.with_models(models)),
        Verb::Models(Models::Inspect { file }) => {
            inspect::run(&file.map_or(Source::Drill, Source::File))
        }
        Verb::Chat { model, system, temperature } => {
            client::block_on(chat::run(&socket, chat::Settings { model, system, temperature }))
        }
        Verb::Models(Models::List) => client::block_on(status::models(&socket)),
        Verb::Status { json } => client::block_on(status::run(&socket, json)),
        Verb::Keys(Keys::Create { tenant, label }) => {
            client::block_on(keys::create(&socket, &tenant, &label))
        }
        Verb::Keys(Keys::List) => client::block_on(keys::list(&socket)),
        Verb::Keys(Keys::Revoke { id }) => client::block_on(keys::revoke(&socket, &id)),
    }
}
