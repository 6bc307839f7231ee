//! A GPU's power-on self-test: run at its first start with a driver and a program, kept in the
//! state folder, and told from then on. `redoubt gpu test` runs it by hand.

use std::path::Path;
use std::sync::Arc;

use compute::cuda::driver::Device;
use compute::cuda::self_test::{self, Avoided, Tested};
use compute::cuda::{found, images};
use ledger::disk::Disk;
use ledger::{Clock, iso_8601};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// In the state folder.
const KEPT: &str = "gpu-test.json";
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What was tested, when, and how it went; the file has one of each GPU.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    of: Of,
    tested_at: String,
    kernels: Vec<Row>,
}

/// What a test is of: with another GPU, driver or program it is run again.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    gpu: String,
    uuid: String,
    cuda: Option<(u32, u32)>,
    program: String,
    kernels_sha256: String,
}

/// How a kernel did; without a number it is infinitely far off, which JSON has no word for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    kernel: String,
    off: Option<f32>,
    off_max: f32,
}

/// What comes of a test.
pub struct Proof {
    /// Kernels that the GPU does without.
    pub avoided: Avoided,
    /// For people.
    pub told: String,
}

/// The test of a GPU: as it is kept, else run now.
///
/// # Errors
/// When the GPU fails, or a kernel that nothing stands in for.
pub fn proof(gpu: &Arc<Device>, state_dir: &Path, clock: &Clock) -> Result<Proof, Failure> {
    let (disk, path) = (Disk::real(), state_dir.join(KEPT));
    let kept = disk.read(&path, KEPT_BYTES_MAX).ok();
    // What cannot be read is none.
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Vec<Kept>>(&bytes).ok());
    let (mut all, of) = (kept.unwrap_or_default(), of(gpu));
    if let Some(kept) = all.iter().find(|kept| kept.of == of) {
        return judged(kept);
    }
    let tested_at = iso_8601(clock.unix_seconds());
    let kernels = run(gpu)?.into_iter().map(Row::of).collect();
    // One of another driver or program is over.
    all.retain(|kept| kept.of.uuid != of.uuid);
    let kept = Kept { of, tested_at, kernels };
    let proof = judged(&kept);
    all.push(kept);
    let bytes = serde_json::to_vec_pretty(&all).map_err(Failure::new)?;
    disk.replace(&path, &bytes).map_err(Failure::new)?;
    proof
}

/// Runs the test.
pub fn run(gpu: &Arc<Device>) -> Result<Vec<Tested>, Failure> {
    self_test::run(gpu).map_err(|error| {
        Failure::new(format!("the GPU fails while its kernels are tested: {error}"))
            .hint("restart the box; if it comes again, look at the GPU's power and slot")
    })
}

/// A table for people.
pub fn table(tests: &[Tested]) -> String {
    let mut out = String::new();
    for test in tests {
        let verdict = if test.is_good() { "passed" } else { "FAILED" };
        let (kernel, off, off_max) = (&test.kernel, test.off, test.off_max);
        out.push_str(&format!("{kernel:<22} {verdict}  off by {off:.1e}, at most {off_max:.1e}\n"));
    }
    out
}

fn of(gpu: &Arc<Device>) -> Of {
    let info = gpu.info();
    Of {
        gpu: info.name.clone(),
        uuid: info.uuid.clone(),
        cuda: found::driver_version(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        kernels_sha256: bundle::digest::sha256(images::packed()).to_string(),
    }
}

impl Row {
    fn of(test: Tested) -> Row {
        let off = test.off.is_finite().then_some(test.off);
        Row { kernel: test.kernel, off, off_max: test.off_max }
    }

    fn tested(&self) -> Tested {
        let (kernel, off) = (self.kernel.clone(), self.off.unwrap_or(f32::INFINITY));
        Tested { kernel, off, off_max: self.off_max }
    }
}

/// What a test means for what is computed.
fn judged(kept: &Kept) -> Result<Proof, Failure> {
    let tests: Vec<Tested> = kept.kernels.iter().map(Row::tested).collect();
    let (count, at) = (tests.len(), &kept.tested_at);
    let avoided = Avoided::after(&tests).map_err(|kernel| {
        let error = format!("the kernel '{kernel}' computed wrongly in the test of {at}");
        Failure::new(error).hint(format!(
            "nothing stands in for it: the GPU or its driver is damaged; to test it again delete \
             {KEPT} in the state folder"
        ))
    })?;
    let failed: Vec<&str> = avoided.kernels().collect();
    let told = match failed.len() {
        0 => format!("all {count} kernels passed their test of {at}"),
        some => format!(
            "{some} of {count} kernels failed the test of {at}, slower ones stand in: {}",
            failed.join(", ")
        ),
    };
    Ok(Proof { avoided, told })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(failed: &[&str]) -> Kept {
        let row = |kernel: &&str| Row {
            kernel: (*kernel).to_owned(),
            off: (!failed.contains(kernel)).then_some(0.0),
            off_max: 0.0,
        };
        let kernels = ["add", "linear_q4_k_8_4", "linear_q8_0_8_1"].iter().map(row).collect();
        let of = Of {
            gpu: "H200".to_owned(),
            uuid: "GPU-1".to_owned(),
            cuda: Some((12, 8)),
            program: "1".to_owned(),
            kernels_sha256: "2".to_owned(),
        };
        Kept { of, tested_at: "2026-12-01T00:00:00Z".to_owned(), kernels }
    }

    #[test]
    fn what_failed_is_told_and_stands_back() {
        let told = |failed: &[&str]| judged(&kept(failed)).map(|proof| proof.told);
        let told = |failed: &[&str]| told(failed).unwrap_or_else(|failure| failure.to_string());
        assert_eq!(told(&[]), "all 3 kernels passed their test of 2026-12-01T00:00:00Z");
        assert_eq!(
            told(&["linear_q4_k_8_4", "linear_q8_0_8_1"]),
            "2 of 3 kernels failed the test of 2026-12-01T00:00:00Z, slower ones stand in: \
             linear_q4_k_8_4, linear_q8_0_8_1"
        );
        assert!(told(&["add"]).contains("'add' computed wrongly"));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let bytes = serde_json::to_vec(&kept(&["add"])).unwrap();
        let read: Kept = serde_json::from_slice(&bytes).unwrap();
        assert!(read.of == kept(&[]).of);
        let off: Vec<f32> = read.kernels.iter().map(|row| row.tested().off).collect();
        assert_eq!(off, [f32::INFINITY, 0.0, 0.0]);
    }
}
