//! What is there to compute on, and what becomes of a model whose GPU fails: on the driver for
//! tests, which says what there is, and fails, as its environment has it. Each case is a process of
//! its own, since what a driver is cannot be changed in one, and a GPU that failed stays so.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use compute::batch::{Batch, Row};
use compute::cuda::driver::{CudaError, Device};
use compute::cuda::found::Found;
use compute::cuda::self_test::Tested;
use compute::cuda::{self, Cuda, Share, images, self_test};
use compute::executor::Executor;
use compute::{ComputeError, map};
use e2e::{gpu, places, served};
use engine::{
    Config, EndReason, Engine, Event, Lane, Needs, Request, Sampling, Tenant, TokenStream,
};
use models::plan::Plan;
use models::weights::Weights;
use serde_json::{Value, json};

/// Set in the processes that a test starts of itself.
const IS_CASE: &str = "REDOUBT_TEST_CASE";
const SAYS: &str = "says: ";
const BLOCKS: usize = 16;
/// Tokens of an answer, while which the device fails.
const ANSWER_LEN: u32 = 40;

/// Runs a test again as a case, on a driver of these settings; the lines that it says.
fn case(test: &str, settings: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(IS_CASE, "1");
    let output = command.envs(settings.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{settings:?}: {text}{told}");
    let says = |line: &str| line.split_once(SAYS).map(|(_, said)| said.to_owned());
    text.lines().filter_map(says).collect()
}

fn is_case() -> bool {
    std::env::var_os(IS_CASE).is_some()
}

fn say(what: impl std::fmt::Display) {
    println!("{SAYS}{what}");
}

#[test]
fn what_there_is_is_found() {
    if is_case() {
        gpu::take_driver();
        return say(Found::look());
    }
    let check = |settings: &[(&str, &str)], expected: &str| {
        assert_eq!(case("what_there_is_is_found", settings), [expected], "{settings:?}");
    };
    check(&[], "Mock GPU 0 (8 GiB, compute capability 9.0)");
    check(&[("MOCK_CUDA_DEVICES", "0")], "a CUDA 12.8 driver without a GPU (CUDA_ERROR_NO_DEVICE)");
    check(
        &[
            ("MOCK_CUDA_DEVICES", "2"),
            ("MOCK_CUDA_CAPABILITY", "8.6"),
            ("MOCK_CUDA_MEMORY_MIB", "24576"),
        ],
        "Mock GPU 0 (24 GiB, compute capability 8.6), Mock GPU 1 (24 GiB, compute capability 8.6)",
    );
    check(
        &[("MOCK_CUDA_CAPABILITY", "7.5")],
        "Mock GPU 0 (8 GiB, compute capability 7.5, too old: 8.0 is the least)",
    );
}

/// Says which kernels fail their test.
#[test]
fn the_self_test_names_the_kernel_that_computes_wrongly() {
    const NAME: &str = "the_self_test_names_the_kernel_that_computes_wrongly";
    if is_case() {
        let tests = self_test::run(&opened().unwrap()).unwrap();
        for test in &tests {
            println!("{} is off by {:.1e} of {:.1e}", test.kernel, test.off, test.off_max);
        }
        let said = |test: &Tested| format!("{} {}", test.kernel, test.is_good());
        return tests.iter().for_each(|test| say(said(test)));
    }
    let all = case(NAME, &[]);
    assert_eq!(all.len(), 59);
    for (index, good) in all.iter().enumerate() {
        let kernel = good.strip_suffix(" true").unwrap_or_else(|| panic!("{good}"));
        let mut expected = all.clone();
        expected[index] = format!("{kernel} false");
        assert_eq!(case(NAME, &[("MOCK_CUDA_SKIP", kernel)]), expected);
    }
}

fn opened() -> Result<Arc<Device>, CudaError> {
    opened_all().map(|mut devices| devices.remove(0))
}

fn opened_all() -> Result<Vec<Arc<Device>>, CudaError> {
    gpu::take_driver();
    match Found::look() {
        Found::Devices(devices) => devices.iter().map(Device::open).collect(),
        found => panic!("{found}"),
    }
}

fn drill() -> (Weights, Plan) {
    let weights = map::open(&places::repository().join("models/drill/drill.gguf")).unwrap();
    let plan = models::family::plan(&weights).unwrap();
    (weights, plan)
}

/// The logits of two sequences, in chunks and then token by token, after their blocks were copied.
fn logits(model: &mut dyn Executor) -> Vec<u32> {
    let row = |sequence: u32, position: u32| Row {
        token: 300 + 11 * position + 5 * sequence,
        position,
        sequence,
    };
    let chunk: Vec<Row> = (0..70).map(|position| row(0, position)).collect();
    let both = |position: u32| vec![row(0, 70 + position), row(1, position)];
    let steps = [chunk].into_iter().chain((0..3).map(both));
    let mut tables = [vec![9, 2, 5], vec![3, 14]];
    let mut all = Vec::new();
    for (index, rows) in steps.enumerate() {
        if index == 2 {
            model.copy_blocks(&[(2, 7), (3, 4)]).unwrap();
            model.clear_blocks(&[2, 3]).unwrap();
            tables = [vec![9, 7, 5], vec![4, 14]];
        }
        let outputs: Vec<u32> = (0..rows.len() as u32).collect();
        let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
        let batch = Batch { rows: &rows, tables: &tables, outputs: &outputs, hidden: &[] };
        let values = model.step(&batch).unwrap().logits.values;
        all.extend(values.into_iter().map(f32::to_bits));
    }
    all
}

/// A model computes the same, to the bit, on one device and over several.
#[test]
fn a_model_over_several_gpus_computes_what_it_does_on_one() {
    const NAME: &str = "a_model_over_several_gpus_computes_what_it_does_on_one";
    if !is_case() {
        assert_eq!(case(NAME, &[("MOCK_CUDA_DEVICES", "3")]), ["the same"; 4]);
        return;
    }
    let (devices, (weights, plan)) = (opened_all().unwrap(), drill());
    let layers = plan.layers.len();
    assert!(layers >= 4, "{layers} layers");
    let cuts = [&[0, 1, layers][..], &[0, 1, layers - 1, layers]];
    for (is_direct, spans_at_once) in [(false, 8192), (true, 2)] {
        let settings = cuda::Settings { is_direct, spans_at_once, ..cuda::Settings::default() };
        let on_one = Cuda::load(&devices[0], &plan, &weights, &settings, BLOCKS, &mut |_| {});
        let expected = logits(&mut on_one.unwrap());
        for cut in cuts {
            let share = |(device, ends): (&Arc<Device>, &[usize])| Share {
                device: Arc::clone(device),
                layers: ends[0]..ends[1],
            };
            let shares: Vec<Share> = devices.iter().zip(cut.windows(2)).map(share).collect();
            let mut done = Vec::new();
            let terms = (&settings, BLOCKS);
            let mut progress = |bytes| done.push(bytes);
            let model = Cuda::load_shared(&shares, &plan, &weights, terms, &mut progress);
            assert_eq!(logits(&mut model.unwrap()), expected, "{cut:?}, {is_direct}");
            assert!(done.is_sorted(), "{done:?}");
            say("the same");
        }
    }
}

/// A model that one device has room for is not cut; one that none has room for is, by what they
/// have free.
#[test]
fn a_model_is_cut_where_no_gpu_has_room_for_it() {
    const NAME: &str = "a_model_is_cut_where_no_gpu_has_room_for_it";
    if !is_case() {
        let said =
            |mib: &str| case(NAME, &[("MOCK_CUDA_DEVICES", "2"), ("MOCK_CUDA_MEMORY_MIB", mib)]);
        assert_eq!(said("8192"), ["[(0, 0..5)], loaded"]);
        assert_eq!(said("27"), ["[(0, 0..3), (1, 3..5)], loaded"]);
        assert_eq!(said("4"), ["[(0, 0..5)], none"]);
        return;
    }
    let (devices, (weights, plan)) = (opened_all().unwrap(), drill());
    let (shares, room) = Cuda::shares(&devices, &plan, &weights, BLOCKS).unwrap();
    let told: Vec<_> =
        shares.iter().map(|share| (share.device.info().ordinal, share.layers.clone())).collect();
    let terms = (&cuda::Settings::default(), room.min(BLOCKS));
    let model = Cuda::load_shared(&shares, &plan, &weights, terms, &mut |_| {});
    let is_loaded = room >= BLOCKS && model.is_ok();
    say(format!("{told:?}, {}", if is_loaded { "loaded" } else { "none" }));
}

/// The image of every architecture has the kernels of every source, and so has what others compile.
#[test]
fn a_device_gets_kernels_or_is_refused_by_name() {
    if is_case() {
        let loaded = opened().and_then(|device| {
            ["rows", "linear", "attention"]
                .iter()
                .try_for_each(|source| images::load(&device, source).map(drop))?;
            images::load(&device, "rows")?.kernel("add").map(drop)?;
            images::load(&device, "rows")?.kernel("nobody").map(drop)
        });
        return say(loaded.unwrap_err());
    }
    let check = |capability, expected: &str| {
        let settings = [("MOCK_CUDA_CAPABILITY", capability)];
        let said = case("a_device_gets_kernels_or_is_refused_by_name", &settings);
        assert_eq!(said, [expected], "{capability}");
    };
    for capability in ["8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.1", "13.0"] {
        let lacks =
            "the CUDA kernels lack 'nobody': run scripts/kernels, and build the program again";
        check(capability, lacks);
    }
    check("7.5", "the GPU 'Mock GPU 0' has compute capability 7.5; 8.0 (Ampere) is the least");
}

/// Memory that is not there is said, with its bytes, and is no failure of the device.
#[test]
fn memory_that_a_device_does_not_have_is_said() {
    if is_case() {
        let device = opened().unwrap();
        for _ in 0..2 {
            match device.upload(&vec![7u8; 2 << 20]) {
                Err(error) => {
                    let told = error.to_string();
                    say(format!("{told}: {}", ComputeError::from(error).is_of_device()));
                }
                Ok(memory) => {
                    let mut found = [0; 3];
                    memory.read((2 << 20) - 3, &mut found).unwrap();
                    say(format!("{found:?}"));
                }
            }
        }
        return;
    }
    let check = |settings: &[(&str, &str)], expected: [&str; 2]| {
        let said = case("memory_that_a_device_does_not_have_is_said", settings);
        assert_eq!(said, expected, "{settings:?}");
    };
    let refused = "the GPU has no 2097152 bytes left; serve fewer or smaller models, or a shorter \
                   context: false";
    check(&[], ["[7, 7, 7]"; 2]);
    check(&[("MOCK_CUDA_MEMORY_MIB", "1")], [refused; 2]);
    check(&[("MOCK_CUDA_FAIL", "allocation:1")], [refused, "[7, 7, 7]"]);
}

fn request(first: u32) -> Request {
    Request {
        prompt: (first..first + 20).collect(),
        tokens_max: ANSWER_LEN,
        stop_tokens: Vec::new(),
        sampling: Sampling { seed: 1, ..Sampling::default() },
        logprobs: None,
        prompt_logprobs: None,
        embeds: false,
        tenant: Tenant([7; 32]),
        lane: Lane::Normal,
        deadline: None,
    }
}

/// How many tokens came, and how it ended.
fn drain(mut stream: TokenStream) -> (u32, EndReason) {
    let mut tokens = 0;
    loop {
        match stream.next_blocking().unwrap() {
            Event::Token(_) => tokens += 1,
            Event::End(reason) => return (tokens, reason),
            _ => {}
        }
    }
}

/// How the engine says that the device failed; waits for it, but not for ever.
fn fault_of(engine: &Engine, patience: Duration) -> String {
    let (mut fault, until) = (pin!(engine.fault()), Instant::now() + patience);
    while Instant::now() < until {
        if let Poll::Ready(error) = fault.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return error;
        }
        std::thread::yield_now();
    }
    "no fault".to_owned()
}

/// Serves two requests at once and one that waits, and says what became of each.
fn serve_three() {
    let device = opened().unwrap();
    let (weights, plan) = drill();
    let settings = cuda::Settings::default();
    let model = Cuda::load(&device, &plan, &weights, &settings, BLOCKS, &mut |_| {}).unwrap();
    let cache_bytes = Cuda::cache_bytes(&plan, BLOCKS) as u64;
    let engine = Engine::start(cache_bytes).unwrap();
    let reservation = engine.reserve(Needs { weight_bytes: 0, cache_bytes }).unwrap();
    let config = Config {
        context_len: usize::MAX,
        running_max: 2,
        queue_len_max: 8,
        chunk_len_max: 64,
        draft_len_max: 0,
        draft_running_max: 0,
    };
    let handle = engine.add(Box::new(model), config, reservation);
    let streams: Vec<_> = [1, 100, 200].map(|first| handle.submit(request(first)).unwrap()).into();
    for (tokens, reason) in streams.into_iter().map(drain) {
        let is_whole = tokens == ANSWER_LEN;
        assert_eq!(is_whole, reason == EndReason::Length, "{tokens} tokens, {reason:?}");
        say(format!("{reason:?}"));
    }
    say(fault_of(&engine, Duration::from_secs(1)));
    say(format!("{:?}", handle.submit(request(1)).err()));
}

/// A GPU that fails in the middle of answers: none is reported as whole, nothing more is taken.
#[test]
fn a_gpu_that_fails_ends_every_request() {
    if is_case() {
        return serve_three();
    }
    let case = |settings: &[(&str, &str)]| case("a_gpu_that_fails_ends_every_request", settings);
    assert_eq!(case(&[]), ["Length", "Length", "Length", "no fault", "None"]);
    let check = |fails: &str, word: &str| {
        let said = case(&[("MOCK_CUDA_FAIL", fails)]);
        assert!(said[3].contains(word), "{fails}: {said:?}");
        let expected = format!("{:?}", EndReason::DeviceFailed(said[3].clone()));
        assert!(said[..3].iter().all(|end| *end == expected), "{fails}: {said:?}");
        assert_eq!(said[4], "Some(Closing)", "{fails}");
    };
    check("launch:1500", "a graph is launched: CUDA_ERROR_LAUNCH_FAILED");
    check("synchronize:60", "it computes: CUDA_ERROR_ILLEGAL_ADDRESS");
}

/// The watcher hears what the driver reports, and leaves it with how the GPUs are.
#[test]
fn faults_that_the_driver_reports_are_heard() {
    let folder = tempfile::tempdir().unwrap();
    let (tool, report) = (folder.path().join("nvidia-smi"), folder.path().join("report.json"));
    std::fs::write(&tool, "#!/bin/sh\necho a row\n").unwrap();
    std::fs::set_permissions(&tool, Permissions::from_mode(0o755)).unwrap();
    let watch = |settings: &[(&str, &str)], wanted: &dyn Fn(&Value) -> bool| {
        let mut command = Command::new(served::program());
        command.args(["gpu", "watch", "--program"]).arg(&tool).arg("--report").arg(&report);
        let mut watcher = command.envs(settings.iter().copied()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let left = || serde_json::from_slice::<Value>(&std::fs::read(&report).ok()?).ok();
        let mut found = None;
        while found.is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
            found = left().filter(wanted);
        }
        watcher.kill().unwrap();
        watcher.wait().unwrap();
        let _ = std::fs::remove_file(&report);
        found.expect("the watcher leaves a report")
    };
    let driver = places::mock_driver();
    let libraries = driver.parent().unwrap().to_str().unwrap();
    let settings = [
        ("LD_LIBRARY_PATH", libraries),
        ("MOCK_NVML_DEVICES", "2"),
        ("MOCK_NVML_XIDS", "1:79,0:31"),
    ];
    let has_both = |report: &Value| report["faults"].as_array().is_some_and(|all| all.len() == 2);
    let heard = watch(&settings, &has_both);
    let of = |index: usize| (&heard["faults"][index]["gpu"], &heard["faults"][index]["xid"]);
    assert_eq!(of(0), (&json!(1), &json!(79)));
    assert_eq!(of(1), (&json!(0), &json!(31)));
    assert_eq!((&heard["deaf"], &heard["rows"]), (&Value::Null, &json!("a row\n")));
    // Without the library it says so.
    let is_deaf = |report: &Value| report["deaf"].is_string();
    let told = watch(&[("LD_LIBRARY_PATH", "/nowhere")], &is_deaf);
    assert!(told["deaf"].as_str().unwrap().contains("libnvidia-ml.so.1"), "{told}");
}
