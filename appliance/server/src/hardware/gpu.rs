//! NVIDIA's GPUs as their own tool sees them: what is asked, how its rows are read, and what of it
//! somebody should know. Runs nothing: `redoubt gpu watch` asks, and leaves a report.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{HardwarePlaces, entries, text};

/// Longer than that nothing hangs that works.
const REPORT_AGE_S_MAX: f64 = 90.0;
const GPUS_MAX: usize = 64;

/// What nvidia-smi is asked of each GPU, in this order.
const FIELDS: [&str; 13] = [
    "index",
    "name",
    "temperature.gpu",
    "power.draw",
    "memory.used",
    "memory.total",
    "ecc.mode.current",
    "ecc.mode.pending",
    "ecc.errors.uncorrected.volatile.total",
    "ecc.errors.uncorrected.aggregate.total",
    "clocks_throttle_reasons.hw_thermal_slowdown",
    "clocks_throttle_reasons.sw_thermal_slowdown",
    "clocks_throttle_reasons.hw_power_brake_slowdown",
];

/// The arguments of nvidia-smi that make the rows of a [`GpuReport`].
pub fn gpu_query() -> [String; 2] {
    [format!("--query-gpu={}", FIELDS.join(",")), "--format=csv,noheader,nounits".to_owned()]
}

/// What the watcher leaves.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuReport {
    /// When it asked, in seconds since the machine was started.
    pub uptime_s: f64,
    /// Why there are no rows.
    pub failure: Option<String>,
    /// A line for each GPU.
    pub rows: String,
    /// What the driver reported since the watcher was started.
    pub faults: Vec<GpuFault>,
    /// Why faults are not heard of.
    pub deaf: Option<String>,
}

/// A fault that the driver reported (Xid).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuFault {
    /// The driver's number of the GPU.
    pub gpu: u64,
    /// NVIDIA's number of the fault; none where it has none.
    pub xid: Option<u64>,
    /// When, in seconds since the machine was started.
    pub uptime_s: f64,
}

/// One GPU. What a model does not tell is missing.
#[derive(Clone, Debug)]
pub(crate) struct Gpu {
    /// The driver's number of it.
    pub index: u64,
    /// Its model.
    pub name: String,
    pub celsius: Option<f64>,
    pub watts: Option<f64>,
    pub memory_used_mib: Option<u64>,
    pub memory_mib: Option<u64>,
    /// Whether ECC is on; none for memory that has none.
    pub ecc: Option<bool>,
    ecc_at_next_start: Option<bool>,
    /// Memory errors that ECC saw and could not correct, since the driver was loaded.
    pub uncorrected_errors: Option<u64>,
    /// The same since it was made.
    pub uncorrected_errors_ever: Option<u64>,
    is_slowed_by_heat: bool,
    is_slowed_by_power: bool,
    /// Since the watcher was started.
    pub faults: Vec<GpuFault>,
}

/// The GPUs that the driver has, and what somebody should do.
pub(super) fn look(places: &HardwarePlaces) -> (Vec<Gpu>, Vec<String>) {
    let there = entries(&places.proc.join("driver/nvidia/gpus")).len();
    if there == 0 {
        return (Vec::new(), Vec::new());
    }
    let mute = || {
        let told = "GPU: its state is not known, because nvidia-smi does not answer; restart the \
                    box, and if it comes again look at the GPU's power and slot";
        (Vec::new(), vec![told.to_owned()])
    };
    let report = text(&places.gpu_report);
    let Some(report) = report.and_then(|text| serde_json::from_str::<GpuReport>(&text).ok()) else {
        return mute();
    };
    let uptime_s = text(&places.proc.join("uptime"))
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    if uptime_s.is_none_or(|now| now - report.uptime_s > REPORT_AGE_S_MAX) {
        return mute();
    }
    if let Some(failure) = report.failure {
        return (Vec::new(), vec![format!("GPU: nvidia-smi fails: {failure}; restart the box")]);
    }
    let mut gpus: Vec<Gpu> = report.rows.lines().take(GPUS_MAX).filter_map(gpu).collect();
    for gpu in &mut gpus {
        let own = report.faults.iter().filter(|fault| fault.gpu == gpu.index);
        gpu.faults = own.cloned().collect();
    }
    let mut warnings: Vec<String> = gpus.iter().flat_map(Gpu::warnings).collect();
    if let Some(why) = report.deaf {
        warnings.push(format!(
            "GPU: faults would not be seen, because NVML does not tell of them: {why}; restart the \
             box"
        ));
    }
    if gpus.len() < there {
        let seen = gpus.len();
        warnings.push(format!(
            "GPU: {seen} of {there} answer; restart the box, and if it comes again look at power \
             and slots"
        ));
    }
    (gpus, warnings)
}

/// Reads a row. What is not supported is said in words, in brackets.
fn gpu(row: &str) -> Option<Gpu> {
    let cells: Vec<&str> = row.split(',').map(str::trim).collect();
    let cells: [&str; FIELDS.len()] = cells.try_into().ok()?;
    let [index, name, celsius, watts, used, memory, ecc, pending, errors, ever, slow @ ..] = cells;
    let switch = |cell: &str| match cell {
        "Enabled" => Some(true),
        "Disabled" => Some(false),
        _ => None,
    };
    let [hot_by_hardware, hot_by_driver, power] = slow.map(|cell| cell == "Active");
    Some(Gpu {
        index: index.parse().ok()?,
        name: name.to_owned(),
        celsius: celsius.parse().ok(),
        watts: watts.parse().ok(),
        memory_used_mib: used.parse().ok(),
        memory_mib: memory.parse().ok(),
        ecc: switch(ecc),
        ecc_at_next_start: switch(pending),
        uncorrected_errors: errors.parse().ok(),
        uncorrected_errors_ever: ever.parse().ok(),
        is_slowed_by_heat: hot_by_hardware || hot_by_driver,
        is_slowed_by_power: power,
        faults: Vec::new(),
    })
}

/// What a fault is, and what to do if it comes again. Source: NVIDIA, XID Errors, of the driver's
/// documentation.
fn fault(xid: Option<u64>) -> (&'static str, &'static str) {
    match xid {
        Some(13 | 31 | 43 | 45 | 69 | 109) => {
            ("what was computed failed", "try another driver, then another GPU")
        }
        Some(48 | 63 | 64 | 92 | 94 | 95) => ("its memory fails", "replace the GPU"),
        Some(74) => ("its links to other GPUs fail", "look at bridges and slots"),
        Some(79) => ("it fell off the bus", "look at its power and slot"),
        Some(61 | 62 | 119 | 120) => ("its own processor stopped", "try another driver"),
        _ => ("NVIDIA's list of Xid says which", "try another driver, then another GPU"),
    }
}

impl Gpu {
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |told: String| warnings.push(format!("GPU {}: {told}", self.index));
        if let Some(count) = self.uncorrected_errors.filter(|count| *count > 0) {
            let errors = if count == 1 { "error" } else { "errors" };
            warn(format!(
                "{count} memory {errors} that ECC could not correct; restart the box, and if it \
                 comes again replace the GPU"
            ));
        }
        match (self.ecc, self.ecc_at_next_start) {
            (Some(false), Some(true)) => {
                warn("ECC comes on with the next start: restart the box".to_owned());
            }
            (Some(false), _) => {
                warn("ECC is off: what its memory gets wrong is not seen".to_owned());
            }
            _ => {}
        }
        if let Some(last) = self.faults.last() {
            let (what, then) = fault(last.xid);
            let number = last.xid.map_or("unknown".to_owned(), |xid| xid.to_string());
            let more = match self.faults.len() {
                1 => String::new(),
                count => format!(", {count} faults in all"),
            };
            warn(format!(
                "its driver reported a fault, Xid {number}: {what}{more}; restart the box, and if \
                 it comes again {then}"
            ));
        }
        if self.is_slowed_by_heat {
            let celsius = self.celsius.map(|c| format!(", {c:.0} °C")).unwrap_or_default();
            warn(format!("too hot{celsius}, so it runs slower: look at fans and air"));
        }
        if self.is_slowed_by_power {
            warn("its power supply holds it back: look at cables and supplies".to_owned());
        }
        warnings
    }

    /// As the status has it.
    pub(super) fn told(&self) -> Value {
        json!({
            "index": self.index,
            "name": self.name,
            "celsius": self.celsius,
            "watts": self.watts,
            "memory_used_mib": self.memory_used_mib,
            "memory_mib": self.memory_mib,
            "ecc": self.ecc,
            "uncorrected_errors": self.uncorrected_errors,
            "uncorrected_errors_ever": self.uncorrected_errors_ever,
            "is_slowed_by_heat": self.is_slowed_by_heat,
            "is_slowed_by_power": self.is_slowed_by_power,
            "faults": self.faults.iter().map(|fault| json!({
                "xid": fault.xid,
                "uptime_s": fault.uptime_s,
            })).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Machine;
    use super::*;

    const GOOD: &str = "0, NVIDIA H200, 41, 75.20, 1024, 143771, Enabled, Enabled, 0, 2, \
                        Not Active, Not Active, Not Active\n";

    fn machine(gpus: usize) -> Machine {
        let machine = Machine::new();
        for index in 0..gpus {
            let path = format!("proc/driver/nvidia/gpus/0000:0{index}:00.0/information");
            machine.file(&path, "Model: \t NVIDIA H200\n");
        }
        machine.file("proc/uptime", "1000.00 3000.00\n");
        machine
    }

    fn of_rows(rows: &str) -> GpuReport {
        let (uptime_s, rows) = (990.0, rows.to_owned());
        GpuReport { uptime_s, failure: None, rows, faults: Vec::new(), deaf: None }
    }

    fn leave(machine: &Machine, report: &GpuReport) {
        machine.file("report.json", &serde_json::to_string(report).unwrap());
    }

    fn report(machine: &Machine, uptime_s: f64, failure: Option<&str>, rows: &str) {
        let failure = failure.map(str::to_owned);
        leave(machine, &GpuReport { uptime_s, failure, ..of_rows(rows) });
    }

    #[test]
    fn faults_are_told_of_the_gpu_that_has_them() {
        let machine = machine(2);
        let rows = format!("{GOOD}{}", GOOD.replacen("0,", "1,", 1));
        let fault = |xid| GpuFault { gpu: 1, xid, uptime_s: 12.5 };
        let told = |faults: &[Option<u64>]| {
            let faults = faults.iter().copied().map(fault).collect();
            leave(&machine, &GpuReport { faults, ..of_rows(&rows) });
            look(&machine.places)
        };
        let (gpus, warnings) = told(&[Some(31), Some(79)]);
        assert_eq!(
            warnings,
            ["GPU 1: its driver reported a fault, Xid 79: it fell off the bus, 2 faults in all; \
              restart the box, and if it comes again look at its power and slot"]
        );
        assert_eq!(gpus[0].told()["faults"], json!([]));
        assert_eq!(gpus[1].told()["faults"][1], json!({"xid": 79, "uptime_s": 12.5}));
        let (_, warnings) = told(&[None]);
        assert!(warnings[0].contains("Xid unknown: NVIDIA's list"), "{warnings:?}");
        for (xid, word) in [(13, "computed"), (48, "memory"), (74, "links"), (119, "processor")] {
            let (_, warnings) = told(&[Some(xid)]);
            assert!(warnings[0].contains(word), "{warnings:?}");
        }
        let deaf = Some("no library".to_owned());
        leave(&machine, &GpuReport { deaf, ..of_rows(&rows) });
        let (_, warnings) = look(&machine.places);
        assert!(warnings.len() == 1 && warnings[0].contains("no library"), "{warnings:?}");
    }

    #[track_caller]
    fn check(row: &str, words: &[&str]) {
        let machine = machine(1);
        report(&machine, 990.0, None, row);
        let (gpus, warnings) = look(&machine.places);
        assert_eq!(gpus.len(), 1, "{warnings:?}");
        assert_eq!(warnings.len(), words.len(), "{warnings:?}");
        for (warning, word) in warnings.iter().zip(words) {
            assert!(warning.contains(word), "{warning}");
        }
    }

    #[test]
    fn a_good_gpu_is_told_and_not_warned_of() {
        let machine = machine(1);
        report(&machine, 990.0, None, GOOD);
        let (gpus, warnings) = look(&machine.places);
        assert!(warnings.is_empty(), "{warnings:?}");
        let told = gpus[0].told();
        assert_eq!((&told["name"], &told["celsius"]), (&json!("NVIDIA H200"), &json!(41.0)));
        assert_eq!((&told["ecc"], &told["memory_mib"]), (&json!(true), &json!(143_771)));
        assert_eq!(told["uncorrected_errors_ever"], 2);
    }

    #[test]
    fn whatever_is_wrong_is_told() {
        check(&GOOD.replace(" 0, 2,", " 1, 2,"), &["1 memory error that ECC"]);
        check(&GOOD.replace("Enabled, Enabled", "Disabled, Enabled"), &["comes on with the next"]);
        check(&GOOD.replace("Enabled, Enabled", "Disabled, Disabled"), &["ECC is off"]);
        check(&GOOD.replacen("Not Active", "Active", 1), &["too hot, 41 °C"]);
        check(&GOOD.replace("Not Active\n", "Active\n"), &["power supply"]);
        // One without ECC, whose power nobody measures.
        let plain = GOOD.replace("Enabled, Enabled", "[N/A], [N/A]").replace("75.20", "[N/A]");
        check(&plain.replace(" 0, 2,", " [N/A], [N/A],"), &[]);
    }

    #[test]
    fn gpus_that_do_not_answer_are_told() {
        let machine = machine(2);
        let warned = |word: &str| {
            let (_, warnings) = look(&machine.places);
            assert!(warnings.len() == 1 && warnings[0].contains(word), "{warnings:?}");
        };
        warned("does not answer");
        report(&machine, 990.0, None, GOOD);
        warned("1 of 2 answer");
        report(&machine, 990.0, None, "0, of another, form\n\n");
        warned("0 of 2 answer");
        report(&machine, 990.0, Some("GPU is lost"), "");
        warned("GPU is lost");
        report(&machine, 900.0, None, GOOD);
        warned("does not answer");
        machine.file("report.json", "{");
        warned("does not answer");
    }

    #[test]
    fn nothing_is_said_of_what_is_not_there() {
        let machine = machine(0);
        report(&machine, 0.0, Some("no driver"), "");
        let (gpus, warnings) = look(&machine.places);
        assert!(gpus.is_empty() && warnings.is_empty());
        assert_eq!(gpu_query()[0].matches(',').count(), FIELDS.len() - 1);
    }
}
