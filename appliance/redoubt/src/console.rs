//! `redoubt console`: the screen in front of the box. It shows who the box is, how it stands, and
//! what to do next; nobody can type anything there.
//!
//! What is shown comes from the running server, and where none answers from what the box left for
//! people to read. Drawing is a function of that alone.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use access::PairingCode;
use clap::Args;
use hyper::Method;
use ledger::disk::Disk;
use serde_json::Value;
use server::Certificate;

use crate::client::call;
use crate::config::Config;
use crate::failure::Failure;
use crate::{pairing, screen};

const DRAW_PERIOD: Duration = Duration::from_secs(2);
const WIDTH: usize = 78;
const LABEL_WIDTH: usize = 14;
const MODELS_MAX: usize = 4;
/// What the units before the server leave.
const TROUBLE_FILES: [&str; 2] = ["/run/redoubt-seal/trouble", "/run/redoubt/trouble"];
/// What those leave who read sticks and write to them.
const STICK_FILES: [&str; 2] = ["/run/redoubt-import/told", "/run/redoubt-records/told"];
/// What the site's settings became.
const NETWORK_PATH: &str = "/run/systemd/network/10-redoubt.network";
const LEFT_BYTES_MAX: u64 = 4096;
const STICK_LINES_MAX: usize = 4;
/// Of GPUs and of warnings each; what they take, models give up.
const HARDWARE_LINES_MAX: usize = 2;

/// What the console reads beside the server's answers.
#[derive(Args)]
pub struct Console {
    /// What went wrong before the server could start, for people; none where there is no file.
    #[arg(long, value_name = "FILE", default_values = TROUBLE_FILES)]
    trouble: Vec<PathBuf>,
    /// What came of the last stick, for people: the file that was written last; none where there is
    /// no file.
    #[arg(long, value_name = "FILE", default_values = STICK_FILES)]
    stick: Vec<PathBuf>,
    /// The recovery key of the data, as long as nobody has taken the box over.
    #[arg(long, value_name = "FILE", default_value = "/run/redoubt-seal/recovery-key")]
    recovery_key: PathBuf,
    /// Draw once and end.
    #[arg(long)]
    once: bool,
}

/// Everything that a picture is made of.
#[derive(Default)]
struct Seen {
    status: Option<Value>,
    fingerprint: Option<String>,
    host_name: String,
    addresses: Vec<IpAddr>,
    /// Whether the site's settings let the box ask for an address.
    asks_for_address: bool,
    codes: Vec<String>,
    trouble: Option<String>,
    stick: Option<String>,
    recovery_key: Option<String>,
}

impl Console {
    /// Draws until stopped.
    pub async fn run(self, config_path: Option<PathBuf>) -> Result<(), Failure> {
        loop {
            // The settings may be put into effect while this runs.
            let config = Config::load(config_path.as_deref()).unwrap_or_default();
            let picture = draw(&self.look(&config).await);
            let mut out = io::stdout().lock();
            out.write_all(picture.as_bytes())
                .and_then(|()| out.flush())
                .map_err(|error| Failure::new(format!("the screen: {error}")))?;
            drop(out);
            if self.once {
                return Ok(());
            }
            tokio::time::sleep(DRAW_PERIOD).await;
        }
    }

    async fn look(&self, config: &Config) -> Seen {
        let asked = call(&config.console_socket(), Method::GET, "/console/board", None).await;
        let (status, codes) = match asked {
            Ok(mut board) => (Some(board["status"].take()), told(&board["pairing_codes"])),
            Err(_) => (None, codes(&config.state_dir)),
        };
        let served = status.as_ref().and_then(|s| s["certificate"]["fingerprint"].as_str());
        Seen {
            fingerprint: served.map(str::to_owned).or_else(|| kept(config)),
            status,
            host_name: read("/proc/sys/kernel/hostname").trim().to_owned(),
            addresses: addresses(&read("/proc/net/fib_trie"), &read("/proc/net/if_inet6")),
            asks_for_address: read(NETWORK_PATH).lines().any(|line| line == "DHCP=ipv4"),
            codes,
            trouble: self.trouble.iter().find_map(|path| left(path)),
            stick: last(&self.stick).and_then(left),
            recovery_key: left(&self.recovery_key),
        }
    }
}

/// The fingerprint of the certificate that will be served, while no server says so.
fn kept(config: &Config) -> Option<String> {
    let files = config.tls().ok()??;
    Some(Certificate::open(&Disk::real(), files).ok()?.fingerprint())
}

fn told(codes: &Value) -> Vec<String> {
    let codes = codes.as_array().into_iter().flatten();
    codes.filter_map(|code| Some(code.as_str()?.to_owned())).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn codes(state_dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(state_dir.join(pairing::FILE)).unwrap_or_default();
    let code = |line: &str| line.trim().parse::<PairingCode>().ok().map(|code| code.to_string());
    text.lines().filter_map(code).collect()
}

/// What was left for people in a file, its beginning where that is long.
fn left(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(LEFT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The file that was written last.
fn last(paths: &[PathBuf]) -> Option<&Path> {
    let written = |path: &&PathBuf| fs::metadata(path).and_then(|about| about.modified()).ok();
    paths.iter().filter(|path| path.exists()).max_by_key(written).map(PathBuf::as_path)
}

/// The machine's own addresses that others reach, as Linux lists them. In `/proc/net/fib_trie` the
/// line after an address says what it is; a line of `/proc/net/if_inet6` has the address, the
/// number of the card, the prefix's length, and the scope, which is 0 for all but loopback and a
/// link.
fn addresses(fib_trie: &str, if_inet6: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in fib_trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = last.filter(|address| !address.is_loopback())
            && !found.contains(&IpAddr::V4(address))
        {
            found.push(IpAddr::V4(address));
        }
    }
    for line in if_inet6.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [address, _, _, "00", ..] = fields.as_slice()
            && let Ok(bits) = u128::from_str_radix(address, 16)
        {
            found.push(IpAddr::V6(Ipv6Addr::from(bits)));
        }
    }
    found
}

/// The picture: control sequences of a VT100, as the kernel's console knows them.
fn draw(seen: &Seen) -> String {
    let mut lines = vec![title(seen), String::new()];
    lines.extend(facts(seen));
    lines.push(String::new());
    lines.push(heading("What to do next"));
    lines.extend(next(seen).into_iter().map(|line| format!("  {line}")));
    let mut picture = "\x1b[?25l\x1b[H".to_owned();
    for line in lines {
        picture.push_str(&line);
        // Whatever stood there before goes.
        picture.push_str("\x1b[0m\x1b[K\r\n");
    }
    picture.push_str("\x1b[J");
    picture
}

fn title(seen: &Seen) -> String {
    let version = seen.status.as_ref().map(|status| text(status, "version"));
    let image = seen.status.as_ref().and_then(|status| status["image"]["running"].as_u64());
    let image = image.map(|image| format!(", image {image}")).unwrap_or_default();
    let left = format!("  Redoubt {}{image}", version.unwrap_or(env!("CARGO_PKG_VERSION")));
    let right = format!("{}  ", plain(&seen.host_name));
    let gap = WIDTH.saturating_sub(left.len() + right.chars().count());
    format!("\x1b[1;37;44m{left}{}{right}", " ".repeat(gap))
}

fn heading(text: &str) -> String {
    format!("  \x1b[1m{text}")
}

fn fact(label: &str, value: impl std::fmt::Display) -> String {
    format!("  \x1b[36m{label:<LABEL_WIDTH$}\x1b[0m{value}")
}

fn facts(seen: &Seen) -> Vec<String> {
    let addresses: Vec<String> =
        seen.addresses.iter().map(|&address| format!("https://{}", in_url(address))).collect();
    let mut lines = vec![fact(
        "address",
        match addresses.as_slice() {
            [] => "\x1b[33mnone: no network card has one".to_owned(),
            some => some.join("  "),
        },
    )];
    if let Some(print) = &seen.fingerprint {
        let (first, second) = print.split_at(print.len() / 2);
        lines.push(fact("fingerprint", groups(first)));
        lines.push(fact("", groups(second)));
    }
    let Some(status) = &seen.status else {
        lines.push(fact(
            "health",
            match seen.trouble {
                Some(_) => "\x1b[1;31mnot running",
                None => "\x1b[33mstarting",
            },
        ));
        return lines;
    };
    lines.push(fact("site", plain(text(status, "site"))));
    lines.push(fact(
        "mode",
        match seen.asks_for_address {
            true => "disconnected, but asks the network for its address",
            false => "disconnected: nothing leaves but answers",
        },
    ));
    if let Some(estimate) = status["time"]["estimate_unix_seconds"].as_u64() {
        lines.push(fact("time", format!("{} by its own timer", ledger::iso_8601(estimate))));
    }
    let health = text(status, "health");
    let color = if health == "ready" { "\x1b[1;32m" } else { "\x1b[1;33m" };
    lines.push(fact("health", format!("{color}{health}")));
    if let Some(failure) = status["audit"]["failure"].as_str() {
        lines.push(fact("audit", format!("\x1b[1;31mcannot be written: {}", plain(failure))));
    }
    let trouble = status["image"]["trouble"].as_str();
    let trouble = trouble.and_then(|text| text.lines().next());
    let mut hardware = hardware(&status["hardware"], trouble);
    if !seen.codes.is_empty() {
        hardware.truncate(1);
    }
    // There was always a line of the disk's; what there is beside it takes others' place.
    let more = hardware.len().saturating_sub(1);
    let models_max = MODELS_MAX.saturating_sub(more).max(1);
    let stick_max = STICK_LINES_MAX + MODELS_MAX - models_max - more;
    lines.extend(hardware);
    let enrolled = &status["operators"]["enrolled"];
    lines.push(fact("operators", format!("{enrolled} enrolled")));
    lines.extend(models(status, models_max));
    let stick = seen.stick.iter().flat_map(|told| told.lines()).take(stick_max);
    for (index, line) in stick.enumerate() {
        lines.push(fact(if index == 0 { "last stick" } else { "" }, cut(line)));
    }
    lines
}

/// What somebody should look after, an image that could not be written among it, the disk, and the
/// GPUs.
fn hardware(hardware: &Value, trouble: Option<&str>) -> Vec<String> {
    let list = |field: &str| hardware[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines = Vec::new();
    if let Some(trouble) = trouble {
        lines.push(fact("update", format!("\x1b[1;31m{}", cut(trouble))));
    }
    for warning in list("warnings").iter().take(HARDWARE_LINES_MAX) {
        let warning = cut(warning.as_str().unwrap_or_default());
        lines.push(fact("look after", format!("\x1b[1;31m{warning}")));
    }
    let disk = &hardware["disk"];
    if let (Some(free), Some(all)) = (disk["bytes_free"].as_u64(), disk["bytes"].as_u64()) {
        lines.push(fact("disk", screen::room(free, all)));
    }
    for gpu in list("gpus").iter().take(HARDWARE_LINES_MAX) {
        lines.push(fact(&format!("GPU {}", gpu["index"]), cut(&screen::gpu(gpu))));
    }
    lines
}

fn in_url(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// As much of a text as fits behind a label.
fn cut(text: &str) -> String {
    plain(text).chars().take(WIDTH - LABEL_WIDTH).collect()
}

fn models(status: &Value, models_max: usize) -> Vec<String> {
    let all = status["models"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> = all
        .iter()
        .take(models_max)
        .enumerate()
        .map(|(index, model)| {
            let label = if index == 0 { "models" } else { "" };
            let state = match model["withdrawn"].as_str() {
                Some(_) => "withdrawn",
                None => text(model, "state"),
            };
            let name: String = plain(text(model, "name")).chars().take(44).collect();
            fact(label, format!("{name:<46}{state}"))
        })
        .collect();
    if all.len() > models_max {
        lines.push(fact("", format!("and {} more", all.len() - models_max)));
    }
    lines
}

/// What whoever stands there can do.
fn next(seen: &Seen) -> Vec<String> {
    let told = |text: &str| text.lines().map(plain).collect::<Vec<_>>();
    if let Some(trouble) = &seen.trouble {
        return told(trouble);
    }
    let Some(status) = &seen.status else {
        return told(
            "Wait: the server is starting. After ten minutes switch the machine off and on.",
        );
    };
    if seen.codes.is_empty() && status["operators"]["enrolled"] == 0 {
        return told("Wait: the codes for its first operators are being made.");
    }
    if seen.codes.is_empty() {
        return told("Nothing. Operators look after this box from their workstations.");
    }
    let people = if seen.codes.len() == 1 { "One more person" } else { "Two people" };
    let mut lines = vec![format!("{people} become its operators, each with one of these codes:")];
    lines.extend(seen.codes.iter().map(|code| format!("    \x1b[1;33m{code}\x1b[0m")));
    if let Some(key) = &seen.recovery_key {
        lines.extend(told("Write the recovery key of its data down; it is not shown again then:"));
        lines.push(format!("    \x1b[1;33m{}\x1b[0m", plain(key)));
    }
    lines.push(String::new());
    lines.extend(told(
        "On a workstation of their own:\n\
         \x20 redoubt-operator key create NAME --out NAME.key\n\
         \x20 redoubt-operator enrol --key NAME.key --server https://ADDRESS \\\n\
         \x20     --fingerprint THE-ONE-ABOVE",
    ));
    lines
}

/// Groups of four, as people compare them.
fn groups(hex: &str) -> String {
    let bytes: Vec<char> = hex.chars().collect();
    let groups: Vec<String> = bytes.chunks(4).map(|group| group.iter().collect()).collect();
    groups.join(" ")
}

fn plain(text: &str) -> String {
    screen::plain(text).replace(['\n', '\t'], " ")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(seen: &Seen, shows: &[&str], hides: &[&str]) {
        let picture = draw(seen);
        for line in shows {
            assert!(picture.contains(line), "{line:?} is not in\n{picture}");
        }
        for line in hides {
            assert!(!picture.contains(line), "{line:?} is in\n{picture}");
        }
        // It fits the smallest console there is.
        assert!(picture.lines().count() <= 25, "{picture}");
    }

    fn ready() -> Seen {
        Seen {
            status: Some(json!({
                "version": "1.2.3", "image": {"running": 7}, "site": "site-ab", "health": "ready",
                "time": {"estimate_unix_seconds": 1_780_000_000},
                "audit": {"entries": 3, "failure": null}, "operators": {"enrolled": 0},
                "models": [{"name": "a\x1b[2J", "state": "ready"}],
                "hardware": {
                    "disk": {"bytes_free": 5u64 << 30, "bytes": 100u64 << 30}, "gpus": [],
                    "warnings": [],
                },
            })),
            fingerprint: Some("0123456789abcdef".repeat(4)),
            host_name: "box-7".to_owned(),
            addresses: vec![IpAddr::from([192, 0, 2, 7])],
            asks_for_address: false,
            codes: vec!["AAAA-BBBB".to_owned(), "CCCC-DDDD".to_owned()],
            trouble: None,
            stick: None,
            recovery_key: Some("fgcg-tbcd".to_owned()),
        }
    }

    #[test]
    fn a_box_that_waits_for_its_operators() {
        let shows = [
            "Redoubt 1.2.3, image 7",
            "box-7",
            "https://192.0.2.7",
            "0123 4567 89ab",
            "site-ab",
            "AAAA-BBBB",
            "CCCC-DDDD",
            "fgcg-tbcd",
            "redoubt-operator enrol",
            "5.0 of 100.0 GiB",
        ];
        check(&ready(), &shows, &["\x1b[2J"]);
        let one = Seen { codes: vec!["AAAA-BBBB".to_owned()], ..ready() };
        check(&one, &["One more person"], &["Two people"]);
        let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]);
        let asking = Seen { addresses: vec![v6], asks_for_address: true, ..ready() };
        check(&asking, &["https://[2001:db8::7]", "asks the network for its address"], &["none"]);
    }

    #[test]
    fn a_box_that_needs_nobody() {
        let mut settled = Seen { codes: Vec::new(), ..ready() };
        check(&settled, &["Wait: the codes for its first"], &["Nothing. Operators look after"]);
        settled.status.as_mut().unwrap()["operators"]["enrolled"] = json!(2);
        settled.status.as_mut().unwrap()["image"]["trouble"] = json!("error: no room\nhint: x");
        check(&settled, &["update", "error: no room"], &["hint: x"]);
        check(&settled, &["Nothing. Operators look after"], &["redoubt-operator enrol", "fgcg"]);
        let mut full = Seen { codes: Vec::new(), ..ready() };
        let models: Vec<Value> =
            (0..30).map(|i| json!({"name": format!("m{i}"), "state": "ready"})).collect();
        full.status.as_mut().unwrap()["models"] = json!(models);
        full.status.as_mut().unwrap()["audit"]["failure"] = json!("no space");
        full.stick = Some("error: a\nhint: b\nc\nd\nnot shown".to_owned());
        check(
            &full,
            &["last stick", "hint: b", "and 26 more", "cannot be written: no space"],
            &["m9", "not shown"],
        );
    }

    #[test]
    fn a_box_whose_hardware_needs_somebody() {
        let mut worn = Seen { codes: Vec::new(), ..ready() };
        let models: Vec<Value> =
            (0..30).map(|i| json!({"name": format!("m{i}"), "state": "ready"})).collect();
        let status = worn.status.as_mut().unwrap();
        status["models"] = json!(models);
        status["audit"]["failure"] = json!("no space");
        let gpu = |index| json!({"index": index, "name": "NVIDIA H200", "celsius": 41.0});
        status["hardware"]["gpus"] = json!([gpu(0), gpu(1), gpu(2)]);
        let warning = format!("disk: 3 errors\x1b[2J {}", "x".repeat(100));
        status["hardware"]["warnings"] = json!([warning, "GPU 0: too hot", "not shown"]);
        worn.stick = Some("a\nb\nc\nd".to_owned());
        let waiting = Seen { codes: ready().codes, stick: None, ..Seen::default() };
        let waiting = Seen { status: worn.status.clone(), ..waiting };
        assert!(draw(&waiting).contains("disk: 3 errors"));
        check(
            &worn,
            &["GPU 1", "NVIDIA H200, 41 °C", "disk: 3 errors", "GPU 0: too hot", "and 29 more"],
            &["GPU 2", "not shown", "\x1b[2J", &"x".repeat(80)],
        );
    }

    #[test]
    fn a_box_that_does_not_serve_says_why() {
        let trouble = Some("error: no settings\nhint: plug in the stick".to_owned());
        let stuck = Seen { trouble, ..Seen::default() };
        check(
            &stuck,
            &["not running", "no settings", "plug in the stick", "none: no network"],
            &[],
        );
        check(&Seen::default(), &["starting", "Wait:"], &["site  "]);
    }

    #[test]
    fn of_two_files_the_last_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["import", "records"].map(|name| folder.path().join(name));
        assert_eq!(last(&paths), None);
        for (index, path) in paths.iter().enumerate() {
            fs::write(path, "").unwrap();
            let when = std::time::UNIX_EPOCH + Duration::from_secs(1000 - index as u64);
            fs::File::options().write(true).open(path).unwrap().set_modified(when).unwrap();
        }
        assert_eq!(last(&paths), Some(paths[0].as_path()));
    }

    #[test]
    fn addresses_are_the_machines_own() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                    \x20    |-- 10.0.2.0\n        /24 link UNICAST\n     |-- 10.0.2.15\n\
                    \x20       /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n\
                    \x20    |-- 10.0.2.255\n        /32 link BROADCAST\nLocal:\n\
                    \x20    |-- 10.0.2.15\n        /32 host LOCAL\n";
        assert_eq!(addresses(trie, ""), [IpAddr::from([10, 0, 2, 15])]);
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe80000000000000505400fffe123456 02 40 20 80     ens3\n\
                     20010db8000000000000000000000007 02 40 00 80     ens3\n";
        let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]);
        assert_eq!(addresses("", inet6), [v6]);
        assert!(addresses("", "").is_empty());
    }
}
