//! `redoubt status` and `redoubt models list`.

use std::path::Path;

use hyper::Method;
use serde_json::Value;

use crate::client::call;
use crate::failure::Failure;
use crate::screen;

/// Shows what runs.
pub async fn run(socket: &Path, json: bool) -> Result<(), Failure> {
    let status = call(socket, Method::GET, "/admin/status", None).await?;
    if json {
        return screen::show(&format!("{status:#}\n"));
    }
    let mut out = format!("redoubt {}: {}\n", text(&status, "version"), text(&status, "health"));
    if let Some(image) = status["image"]["running"].as_u64() {
        out.push_str(&format!("image     {image}\n"));
        if let Some(trouble) = status["image"]["trouble"].as_str() {
            out.push_str(&format!("  the one that was activated is not written: {trouble}\n"));
        }
    }
    out.push_str(&certificate(&status["certificate"]));
    out.push_str(&site(&status));
    out.push_str(&content(&status["content"]));
    out.push_str(&hardware(&status["hardware"]));
    if let Some(place) = status["computes_on"].as_str() {
        out.push_str(&format!("computes  on {place}\n"));
    }
    if let Some(loading) = status["loading"].as_str() {
        out.push_str(&format!("loading   {loading}\n"));
    }
    for model in status["models"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "\n{}\n  state     {}\n  origin    {}\n  sha256    {}\n",
            text(model, "name"),
            state(model),
            text(model, "provenance"),
            text(model, "sha256"),
        ));
        if model["context_len"].is_null() {
            continue;
        }
        out.push_str(&format!(
            "  memory    {} MiB reserved\n  context   {} tokens\n  running   {} of {}\n  \
             queue     {} of {}\n  KV cache  {} blocks used, {} with memory, {} at most\n",
            model["memory_bytes"].as_u64().unwrap_or(0) >> 20,
            model["context_len"],
            model["running"],
            model["running_max"],
            model["queued"],
            model["queue_len_max"],
            model["blocks_used"],
            model["blocks_resident"],
            model["blocks"],
        ));
    }
    screen::show(&screen::plain(&out))
}

/// What clients see, and whose it is; nothing where they are served in clear.
fn certificate(certificate: &Value) -> String {
    let Some(fingerprint) = certificate["fingerprint"].as_str() else { return String::new() };
    let whose = match certificate["issued_by"].as_str() {
        Some("owner") => "issued by the owner's authority",
        Some("configuration") => "from the configuration",
        _ => "the box's own",
    };
    let ends = certificate["ends_unix_seconds"].as_u64();
    let ends = ends.map(|end_s| format!(", ends {}", ledger::iso_8601(end_s)));
    format!("TLS       {whose}{}\n          {fingerprint}\n", ends.unwrap_or_default())
}

/// Who the box is, what time it is there, and how its log and its operators stand.
fn site(status: &Value) -> String {
    let (time, audit, operators) = (&status["time"], &status["audit"], &status["operators"]);
    let date = |field: &str| time[field].as_u64().map(ledger::iso_8601).unwrap_or_default();
    let log = match (audit["failure"].as_str(), audit["is_anchored"].as_bool()) {
        (Some(failure), _) => {
            format!("CANNOT BE WRITTEN, so nothing is changed: {failure}")
        }
        (None, Some(true)) => "anchored: a cut end would show".to_owned(),
        (None, _) => "not anchored: keep what 'redoubt audit checkpoint' prints elsewhere, or a \
                      cut end does not show"
            .to_owned(),
    };
    let enrolled = match (&operators["enrolled"], operators["pairing_codes_left"].as_u64()) {
        (enrolled, None | Some(0)) => format!("{enrolled} enrolled"),
        (enrolled, Some(left)) => format!("{enrolled} enrolled, {left} pairing codes not used"),
    };
    let mut told = format!(
        "site      {}\ntime      {} by its own timer, {} at least (said by {}, {} ago)\naudit     \
         {} entries; {log}\noperators {enrolled}\n",
        text(status, "site"),
        date("estimate_unix_seconds"),
        date("floor_unix_seconds"),
        source(&time["source"]),
        age(time["age_seconds"].as_u64().unwrap_or(0)),
        audit["entries"],
    );
    let (site, requests_for) = (text(status, "site"), text(operators, "requests_for"));
    if site != requests_for {
        told.push_str(&format!(
            "          the time was set back: requests are for {requests_for}\n"
        ));
    }
    told
}

/// The age of what is trusted.
fn content(content: &Value) -> String {
    if content.is_null() {
        return "content   no authority is trusted: 'redoubt trust', or two operators, enrol one\n"
            .to_owned();
    }
    let mut told = String::new();
    for issuer in ["authority", "vendor"] {
        let said = &content["repositories"][issuer];
        told.push_str(&match (said["version"].as_u64(), said["age_seconds"].as_u64()) {
            _ if issuer == "vendor" && content["vendor_is_trusted"] == false => continue,
            (None, _) => format!("{issuer:<10}has not said anything yet\n"),
            (Some(version), None) => format!("{issuer:<10}release {version}\n"),
            (Some(version), Some(old)) => {
                format!("{issuer:<10}release {version}, {} old\n", age(old))
            }
        });
    }
    for item in content["active"].as_array().into_iter().flatten() {
        let standing = match (text(item, "standing"), item["expired_seconds"].as_u64()) {
            ("fresh", _) => "fresh".to_owned(),
            (word, by_s) => format!("{word}: expired {} ago", age(by_s.unwrap_or(0))),
        };
        let (id, old) = (text(item, "id"), age(item["age_seconds"].as_u64().unwrap_or(0)));
        told.push_str(&format!("active    {id}, here for {old}, {standing}\n"));
    }
    if content["local_models"] == "refused" {
        told.push_str("policy    models that nobody signed are not served\n");
    }
    told
}

/// How disk and GPUs are, and what somebody should look after.
fn hardware(hardware: &Value) -> String {
    let mut told = String::new();
    let disk = &hardware["disk"];
    if let (Some(free), Some(all)) = (disk["bytes_free"].as_u64(), disk["bytes"].as_u64()) {
        told.push_str(&format!("disk      {}", screen::room(free, all)));
        for device in disk["devices"].as_array().into_iter().flatten() {
            let state = device["state"].as_str().map(|state| format!(" {state}"));
            let celsius = device["celsius"].as_f64().map(|celsius| format!(", {celsius:.0} °C"));
            let (state, celsius) = (state.unwrap_or_default(), celsius.unwrap_or_default());
            told.push_str(&format!("; {}{state}{celsius}", text(device, "name")));
        }
        told.push('\n');
    }
    for gpu in hardware["gpus"].as_array().into_iter().flatten() {
        let label = format!("GPU {}", gpu["index"]);
        told.push_str(&format!("{label:<10}{}\n", screen::gpu(gpu)));
    }
    for warning in hardware["warnings"].as_array().into_iter().flatten() {
        told.push_str(&format!("WARNING   {}\n", warning.as_str().unwrap_or_default()));
    }
    told
}

/// Who said what time it is at least.
fn source(source: &Value) -> String {
    let kind = source.as_str().or_else(|| source.as_object()?.keys().next().map(String::as_str));
    match kind.unwrap_or_default() {
        "nobody" => "nobody".to_owned(),
        "image" => "this program".to_owned(),
        "correction" => format!("{}", source["correction"]["approvers"]),
        kind => {
            let statement = match kind {
                "approved" => &source[kind]["statement"],
                _ => &source[kind],
            };
            format!("{} {}", text(statement, "repository"), statement["version"])
        }
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Lists served models.
pub async fn models(socket: &Path) -> Result<(), Failure> {
    let status = call(socket, Method::GET, "/admin/status", None).await?;
    let mut out = format!("{:<40}{:<12}ORIGIN\n", "MODEL", "STATE");
    for model in status["models"].as_array().into_iter().flatten() {
        let (name, origin) = (text(model, "name"), text(model, "provenance"));
        out.push_str(&format!("{name:<40}{:<12}{origin}\n", state(model)));
    }
    screen::show(&screen::plain(&out))
}

/// `ready`, `loading 43 %`, `resting` until somebody asks for it, or why it cannot be used.
fn state(model: &Value) -> String {
    if let Some(why) = model["withdrawn"].as_str() {
        return format!("withdrawn: {why}");
    }
    match (&model["loading_percent"], text(model, "failure")) {
        (Value::Number(percent), _) => format!("loading {percent} %"),
        (_, "") => text(model, "state").to_owned(),
        (_, failure) => format!("failed: {failure}"),
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_disk_and_gpus_are() {
        let told = hardware(&json!({
            "disk": {
                "bytes_free": 5u64 << 30, "bytes": 100u64 << 30,
                "devices": [
                    {"name": "nvme0n1", "state": "live", "celsius": 41.85},
                    {"name": "vda", "state": null, "celsius": null},
                ],
            },
            "gpus": [
                {"index": 0, "name": "NVIDIA H200", "celsius": 41.0, "watts": 75.2,
                 "memory_used_mib": 1024, "memory_mib": 143_360, "ecc": true},
                {"index": 1, "name": "another"},
            ],
            "warnings": ["disk: 1 error"],
        }));
        let lines = [
            "disk      5.0 of 100.0 GiB free; nvme0n1 live, 42 °C; vda",
            "GPU 0     NVIDIA H200, 41 °C, 75 W, 1.0 of 140.0 GiB used, ECC on",
            "GPU 1     another",
            "WARNING   disk: 1 error",
        ];
        assert_eq!(told.lines().collect::<Vec<_>>(), lines);
        assert_eq!(hardware(&json!(null)), "");
    }
}
