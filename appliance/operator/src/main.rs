//! `redoubt-operator`, an operator's workstation: keys that never leave it, requests signed with
//! them, sent to a box over HTTPS or written for a stick. Each verb has a file; this one is the
//! command line. What a box is asked and answers stands in `client.rs`, what is signed in
//! `access`'s `request.rs`.

mod arguments;
mod ask;
mod boxes;
mod certificate;
mod client;
mod enrol;
mod operator_key;
mod pinned;
mod proposals;
mod request;
mod reset;

use std::process::ExitCode;

use access::Verb;
use clap::Parser;
use workstation::{Failure, passphrase, screen};

use crate::arguments::{
    Arguments, AtBox, Certificate, Command, EnrolTo, Key, Keys, Operators, Proposals,
};
use crate::proposals::Ask;
use crate::request::Session;

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
        Command::Key(Key::Create { name, kind, out, passphrase_file }) => {
            let passphrase = passphrase::new(passphrase_file.as_deref())?;
            operator_key::create(&out, &name, kind.into(), &passphrase).and_then(|made| tell(&made))
        }
        Command::Key(Key::Show { file }) => tell(&operator_key::label(&file)?),
        Command::Enrol { key, code, to } => enrol(&key, code, to),
        Command::Sign { verb, site, now, body, out, signing } => {
            let to = request::To { verb, site: &site, now_s: now };
            request::write(&signing.into(), &to, body.as_deref(), &out)?;
            screen::show(&format!("{}: {verb}, for {site}.\n", out.display()))
        }
        Command::Approve { bundle, of } => {
            at(of, async |s| ask::of_bundle(&s, Verb::Approve, &bundle).await)
        }
        Command::Activate { bundle, of } => {
            at(of, async |s| ask::of_bundle(&s, Verb::Activate, &bundle).await)
        }
        Command::Remove { bundle, of } => {
            at(of, async |s| ask::of_bundle(&s, Verb::Remove, &bundle).await)
        }
        Command::Policy { bundle, of } => {
            at(of, async |s| ask::of_bundle(&s, Verb::PolicyChange, &bundle).await)
        }
        Command::Map { bundle, of } => {
            at(of, async |s| ask::of_bundle(&s, Verb::MapChange, &bundle).await)
        }
        Command::Trust { authority, vendor, of } => {
            at(of, async |s| ask::trust(&s, authority.as_deref(), vendor.as_deref()).await)
        }
        Command::Time { time, of } => at(of, async |s| {
            let body = ask::json(&serde_json::json!({"unix_seconds": time}));
            ask::show(s.ask(Verb::CorrectTime, &body).await?)
        }),
        Command::Certificate(certificate) => run_certificate(certificate),
        Command::FactoryReset { site, of } => at(of, async |s| reset::propose(&s, &site).await),
        Command::CheckReset { record, site } => {
            reset::check(&record, site.site.as_deref(), site.site_key.as_deref())
        }
        Command::Rollback { model, of } => at(of, async |s| {
            let body = ask::json(&serde_json::json!({"model": model}));
            ask::show(s.ask(Verb::RollBack, &body).await?)
        }),
        Command::Status { of } => at(of, async |s| ask::plain(&s, Verb::Status).await),
        Command::Audit { from, out, of } => at(of, async |s| {
            let body = ask::json(&serde_json::json!({"from": from}));
            s.download(Verb::AuditExport, &body, &out).await?;
            screen::show(&format!("The audit log is in {}.\n", out.display()))
        }),
        Command::Keys(keys) => run_keys(keys),
        Command::Operators(operators) => run_operators(operators),
        Command::Proposals(proposals) => run_proposals(proposals),
    }
}

fn run_certificate(certificate: Certificate) -> Result<(), Failure> {
    match certificate {
        Certificate::Request { out, of } => at(of, async |s| certificate::request(&s, &out).await),
        Certificate::Use { chain, of } => at(of, async |s| certificate::give(&s, &chain).await),
        Certificate::Own { of } => at(of, async |s| certificate::give_back(&s).await),
    }
}

fn run_keys(keys: Keys) -> Result<(), Failure> {
    match keys {
        Keys::Create { tenant, label, of } => {
            at(of, async |s| ask::create_key(&s, &tenant, &label).await)
        }
        Keys::List { of } => at(of, async |s| ask::plain(&s, Verb::KeyList).await),
        Keys::Revoke { id, of } => at(of, async |s| ask::revoke_key(&s, &id).await),
    }
}

fn run_operators(operators: Operators) -> Result<(), Failure> {
    match operators {
        Operators::List { of } => at(of, async |s| ask::plain(&s, Verb::OperatorList).await),
        Operators::Enrol { name, public_key, of } => {
            at(of, async |s| ask::enroll(&s, &name, &public_key).await)
        }
        Operators::Revoke { name, of } => at(of, async |s| ask::revoke(&s, &name).await),
    }
}

fn run_proposals(proposals: Proposals) -> Result<(), Failure> {
    match proposals {
        Proposals::List { of } => at(of, async |s| proposals::list(&s).await),
        Proposals::Confirm { id, yes, record, of } => {
            let ask = if yes { Ask::Not } else { Ask::First };
            at(of, async |s| proposals::confirm(&s, &id, ask, record.as_deref()).await)
        }
        Proposals::Withdraw { id, of } => at(of, async |s| proposals::withdraw(&s, &id).await),
    }
}

/// Runs a verb at a box.
fn at(of: AtBox, verb: impl AsyncFnOnce(Session) -> Result<(), Failure>) -> Result<(), Failure> {
    let (reach, signing) = of.parts();
    client::block_on(async { verb(Session::begin(&reach, &signing).await?).await })
}

fn enrol(
    key: &std::path::Path,
    code: Option<access::PairingCode>,
    to: EnrolTo,
) -> Result<(), Failure> {
    let code = match code {
        Some(code) => code,
        None => rpassword::prompt_password("Pairing code: ")
            .map_err(|error| Failure::new(format!("the code cannot be asked for: {error}")))?
            .parse()
            .map_err(Failure::new)?,
    };
    match (to.out, to.site) {
        (Some(out), Some(site)) => enrol::write(key, &code, &site, &out),
        _ => client::block_on(enrol::send(&to.reach.into(), key, &code)),
    }
}

fn tell(label: &operator_key::Label) -> Result<(), Failure> {
    let (name, key) = (&label.name, &label.public);
    screen::show(&format!(
        "Operator:    {name}\nFingerprint: {}\nPublic key:  {}\n",
        key.id(),
        key.to_base64()
    ))
}
