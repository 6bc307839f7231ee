//! `redoubt self-test`: whether the running server answers as it should. On the image an update
//! counts as good only after this, and the server is told so.

use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use server::Kind;

use crate::cards;
use crate::client::call;
use crate::failure::Failure;
use crate::screen;

const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Waits until the server is ready, for a bounded time, and asks the drill model's golden prompts.
pub async fn run(socket: &Path, timeout: Duration) -> Result<(), Failure> {
    let end = Instant::now() + timeout;
    while let Err(failure) = call(socket, Method::GET, "/health/ready", None).await {
        if Instant::now() >= end {
            return Err(failure.of(format!("not ready within {} s", timeout.as_secs())));
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
    let (name, golden) = cards::drill();
    for each in &golden {
        let (path, body) = each.request(&name, Kind::Chat);
        let answer = call(socket, Method::POST, path, Some(&body)).await?;
        each.holds(&answer)
            .map_err(|why| Failure::new(format!("{name}, asked {:?}: {why}", each.prompt)))?;
    }
    call(socket, Method::POST, "/admin/image/good", None).await?;
    screen::show(&format!("{name} answered {} golden prompts as it should\n", golden.len()))
}
