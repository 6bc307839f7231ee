//! `redoubt-depot`, the authority's workstation: ceremonies, content, bundles. Each verb has a
//! file; this one is the command line. What is signed and sealed is made in the library beside it.

mod arguments;
mod inspect;
mod keys;
mod label;
mod pack;
mod piece;
mod progress;
mod publish;
mod release;
mod roots;
mod shelf;
mod signing;
mod transcript;
mod words;

use std::process::ExitCode;

use clap::Parser;
use depot::DeskError;
use workstation::Failure;

use crate::arguments::{Arguments, Command, Key, Root, Transcript};

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Key(Key::Create { name, kind, out, public, passphrase_file, written }) => {
            let new = keys::NewKey { name, kind: kind.into(), out, public, passphrase_file };
            keys::create(&new, &written)
        }
        Command::Key(Key::Show { file, public }) => keys::show(&file, public.as_deref()),
        Command::Root(Root::New { issuer, keys }) => roots::new(issuer, &keys),
        Command::Root(Root::Next { depot, keys }) => roots::next(&depot, &keys),
        Command::Sign(sign) => signing::sign(&sign),
        Command::Join(join) => signing::join(&join),
        Command::Init(init) => shelf::init(&init),
        Command::Add(add) => shelf::add(&add),
        Command::Adopt(adopt) => shelf::adopt(&adopt),
        Command::Drop(drop) => shelf::drop(&drop),
        Command::List { depot } => shelf::list(&depot),
        Command::Release(release) => release::release(&release),
        Command::Put(put) => release::put(&put),
        Command::Label(label) => label::label(&label),
        Command::Seal { from, to } => pack::seal(&from, to.volume_bytes, &to.out),
        Command::Split { from, volume_bytes, out } => pack::seal(&from, Some(volume_bytes), &out),
        Command::Inspect(inspect) => inspect::inspect(&inspect),
        Command::Publish { depot } => publish::publish(&depot),
        Command::Transcript(Transcript::Check { file }) => transcript::check(&file),
    }
}

/// A desk's error, with what to do next.
fn told(error: DeskError) -> Failure {
    let hint = match &error {
        DeskError::First("root") => "'redoubt-depot init' begins a depot with a signed root",
        DeskError::First(_) => "make it with 'redoubt-depot release --role', then sign and put it",
        DeskError::NoItem(..) => "'redoubt-depot list' shows what is there",
        DeskError::ModelSignature(_) => {
            "take the files as their maker signed them, all of them, or leave the signature out"
        }
        DeskError::Io { .. } => "nothing half-written counts; the same command goes on from there",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}
