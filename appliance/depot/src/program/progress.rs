//! A bar with bytes and time left, on a terminal alone.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for so many bytes; hidden where there is no terminal.
pub fn bar(what: &'static str, bytes: u64) -> ProgressBar {
    let style = "{msg:>10} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let bar = ProgressBar::new(bytes).with_message(what);
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
