//! `redoubt request`: carries a file that an operator signed at a workstation from a stick to the
//! server. Nothing is decided here: the signature counts, not who carries it.

use std::io::Read;
use std::path::Path;

use access::{PairRequest, STICK_FILE_BYTES_MAX, StickFile};
use hyper::Method;

use crate::client::{self, Call};
use crate::failure::Failure;
use crate::screen;

/// Hands files over, one after the other, and shows what each has led to. One that is refused does
/// not keep the others back.
pub async fn run(socket: &Path, files: &[std::path::PathBuf]) -> Result<(), Failure> {
    let mut refused = Vec::new();
    for file in files {
        match carry(socket, file).await {
            Ok(told) => screen::show(&screen::plain(&told))?,
            Err(why) => refused.push(why.of(file.display())),
        }
    }
    let last = refused.pop();
    for failure in refused {
        eprintln!("{failure}");
    }
    last.map_or(Ok(()), Err)
}

/// Hands one file over: what it has led to, in words.
pub async fn carry(socket: &Path, file: &Path) -> Result<String, Failure> {
    let call = call(&read(file)?).map_err(|why| {
        Failure::new(why).hint("'redoubt-operator sign VERB … --out FILE' writes such a file")
    })?;
    let answer = client::answer(socket, call).await?;
    let proposal = &answer["proposal"];
    Ok(match (proposal["id"].as_str(), proposal["end_unix_seconds"].as_u64()) {
        (Some(id), Some(end_s)) => format!(
            "{}: waits for another operator until {}, as proposal {id}\n",
            file.display(),
            ledger::iso_8601(end_s)
        ),
        _ => format!("{}: {answer:#}\n", file.display()),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(STICK_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::new(format!("it cannot be read: {error}")))?;
    Ok(bytes)
}

/// A signed request, or one that pairs.
fn call(bytes: &[u8]) -> Result<Call, String> {
    let of = |path: String, signed, body| Call { method: Method::POST, path, signed, body };
    match StickFile::from_json(bytes) {
        Ok(StickFile { request, body }) => {
            let path = format!("/v1/operator/{}", request.claimed().verb);
            Ok(of(path, Some(request.to_header()), body))
        }
        Err(refusal) => match PairRequest::from_json(bytes) {
            Ok(_) => Ok(of("/v1/operator/pair".to_owned(), None, bytes.to_vec())),
            Err(_) => Err(refusal.to_string()),
        },
    }
}
