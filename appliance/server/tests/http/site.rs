//! A running server and the least client for it: bytes out, bytes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use access::KeyStore;
use compute::reference::{Mode, Reference};
use e2e::{records, written_gguf};
use engine::Needs;
use ledger::Clock;
use ledger::disk::Disk;
use models::dtype::DType;
use models::vocabulary::{Algorithm, TokenKind, Vocabulary};
use serde_json::{Value, json};
use server::{
    Certificate, HardwarePlaces, HttpLimits, Images, Kind, Known, Listen, LoadError, Loaded,
    Origin, Server, Shared, State, Stores, TextSide, TlsFiles, Trusted, Vault,
};
use tempfile::TempDir;
use text::{ChatTemplate, Tokenizer};
use tokio::sync::oneshot;

/// What the clock of every site says: Sun, 09 Sep 2001 01:46:40 GMT.
pub const NOW: u64 = 1_000_000_000;
pub const MODEL: &str = "small";
/// The model's end token; a bias on it decides when answers end.
pub const END_TOKEN: &str = "199";
pub const CONTEXT_LEN: usize = 256;
/// Longer than anything a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}:{{ m.content }} {% endfor %}";

/// How a site differs from the usual.
pub struct Plan {
    pub limits: HttpLimits,
    pub tls: Option<TlsFiles>,
    pub images: Option<Images>,
    pub template: Option<&'static str>,
    /// Tokens in place of the last ones before the end token.
    pub words: &'static [(&'static str, TokenKind)],
    pub queue_len_max: usize,
    pub loaded: bool,
    /// Names of the models, all alike.
    pub models: &'static [&'static str],
    /// How many of them fit into memory at a time.
    pub fitting: u64,
}

impl Default for Plan {
    fn default() -> Plan {
        let limits = HttpLimits::default();
        Plan {
            limits,
            tls: None,
            images: None,
            template: Some(TEMPLATE),
            words: &[],
            queue_len_max: 64,
            loaded: true,
            models: &[MODEL],
            fitting: 1,
        }
    }
}

/// A running server.
pub struct Site {
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub key: String,
    pub state: Shared,
    pub stop: Option<oneshot::Sender<()>>,
    pub hurry: Option<oneshot::Sender<()>>,
    pub thread: Option<JoinHandle<()>>,
    /// Whoever has this holds up the loading of models.
    pub loading: Arc<Mutex<()>>,
    pub folder: TempDir,
}

impl Site {
    pub fn new() -> Site {
        Site::with(Plan::default())
    }

    pub fn with(plan: Plan) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(NOW);
        let keys = KeyStore::open(&folder.path().join("keys.db"), clock.clone()).unwrap();
        let key = keys.create("bank", "").unwrap().secret;
        // Everything is written; nothing waits for the disk.
        let disk = Disk::faulty(folder.path(), ledger::disk::Plan::none());
        let trusted = Trusted::open(&disk, folder.path(), "0").unwrap();
        let vault = Vault::open(&disk, &folder.path().join("store"), &trusted).unwrap();
        let stores = Stores {
            keys,
            trusted,
            vault,
            first_operators: Vec::new(),
            images: plan.images.clone(),
            hardware: HardwarePlaces::of_this_machine(folder.path()),
            computes_on: "the CPU".to_owned(),
            certificate: plan
                .tls
                .clone()
                .map(|files| Arc::new(Certificate::open(&Disk::real(), files).unwrap())),
            show_codes: Box::new(|_| ()),
        };
        let state = Arc::new(State::new(stores, clock, plan.limits.clone(), "0").unwrap());
        state.registry.set_starting(Some("small.gguf".to_owned()));
        let loading = Arc::new(Mutex::new(()));
        if plan.loaded {
            let models = Arc::new(Models::new(&plan, &folder, Arc::clone(&loading)));
            for name in plan.models {
                state.add_model(known(name, &models));
                state.registry.preload(name).unwrap();
            }
            state.registry.set_starting(None);
        }
        let socket = folder.path().join("admin.sock");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = Listen { address, admin_socket: socket.clone(), medium: None, console: None };
        let (stop, stopped) = oneshot::channel();
        let (hurry, hurried) = oneshot::channel();
        let (bound, address) = std::sync::mpsc::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let server = Server::bind(&listen, shared).await.unwrap();
                bound.send(server.address().unwrap()).unwrap();
                let hurried = async {
                    if hurried.await.is_err() {
                        std::future::pending::<()>().await;
                    }
                };
                server.run_until(async { drop(stopped.await) }, hurried).await;
            });
        });
        let address = address.recv().unwrap();
        let (stop, hurry, thread) = (Some(stop), Some(hurry), Some(thread));
        Site { address, socket, key, state, stop, hurry, thread, loading, folder }
    }

    /// The first model that is loaded.
    pub fn engine(&self) -> engine::Handle {
        self.state.registry.loaded()[0].engine.clone()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes as they are and reads until the server closes.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that has heard enough may close before all is sent.
        let _ = stream.write_all(bytes);
        Answer::read(stream)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.raw(request("GET", path, &self.key, "").as_bytes())
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw(request("POST", path, &self.key, &body.to_string()).as_bytes())
    }

    /// A chat of one word, with more parameters.
    pub fn chat(&self, more: Value) -> Answer {
        let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        self.post("/v1/chat/completions", &body)
    }

    /// A request over the operator's socket, without a key.
    pub fn local(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(request(method, path, "", body).as_bytes()).unwrap();
        Answer::read(stream)
    }

    /// Tells the server to stop and waits for its end.
    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

pub fn request(method: &str, path: &str, key: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Connection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    )
}

/// An answer, chunks put together.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(mut stream: impl Read) -> Answer {
        let mut bytes = Vec::new();
        // A connection that is cut off has said what it had to say.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = match head.contains("transfer-encoding: chunked") {
            true => unchunked(body),
            false => body.to_owned(),
        };
        Answer { status, head: head.to_owned(), body }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error's code and parameter.
    #[track_caller]
    pub fn error(&self) -> (Option<String>, Option<String>) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        assert!(error["type"].is_string(), "{self:?}");
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        (text("code"), text("param"))
    }

    /// The events of a stream; `[DONE]` is a string.
    pub fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((len, rest)) = body.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).unwrap();
        whole.push_str(&rest[..len]);
        body = rest[len..].trim_start_matches("\r\n");
    }
    whole
}

/// Blocks of a model's cache, all of them reserved.
const BLOCKS: usize = 256;

/// How models are loaded, each on its own.
struct Models {
    file: PathBuf,
    engine: engine::Engine,
    config: engine::Config,
    vocabulary: Vocabulary,
    template: Option<&'static str>,
    /// Whoever has this holds up all loading.
    loading: Arc<Mutex<()>>,
}

impl Models {
    fn new(plan: &Plan, folder: &TempDir, loading: Arc<Mutex<()>>) -> Models {
        let random = records::random_models().remove(0);
        let file = folder.path().join("small.gguf");
        written_gguf::write(&random, DType::F32, &file);
        let config = engine::Config {
            context_len: CONTEXT_LEN,
            running_max: 4,
            queue_len_max: plan.queue_len_max,
            chunk_len_max: 64,
            draft_len_max: 8,
            draft_running_max: 4,
        };
        let vocabulary = vocabulary(random.vocabulary_len, plan.words);
        let weights = compute::map::open(&file).unwrap();
        let steps = models::family::plan(&weights).unwrap();
        let cache_bytes = Reference::cache_bytes(&steps, BLOCKS) as u64;
        let engine = engine::Engine::start(plan.fitting * cache_bytes).unwrap();
        Models { file, engine, config, vocabulary, template: plan.template, loading }
    }

    fn load(&self) -> Result<Loaded, LoadError> {
        drop(self.loading.lock().unwrap());
        let weights =
            compute::map::open(&self.file).map_err(|error| LoadError::Failed(error.to_string()))?;
        let steps = models::family::plan(&weights).unwrap();
        let cache_bytes = Reference::cache_bytes(&steps, BLOCKS) as u64;
        let reservation = self.engine.reserve(Needs { weight_bytes: 0, cache_bytes })?;
        let executor = Reference::load(&steps, &weights, Mode::Exact, BLOCKS, &mut |_| {}).unwrap();
        let template = self.template;
        Ok(Loaded {
            engine: self.engine.add(Box::new(executor), self.config, reservation),
            text: TextSide::Decoder {
                tokenizer: Arc::new(Tokenizer::new(&self.vocabulary).unwrap()),
                template: template
                    .map(|source| Box::new(ChatTemplate::new(source, &self.vocabulary).unwrap())),
            },
        })
    }
}

fn known(name: &str, models: &Arc<Models>) -> Known {
    let models = Arc::clone(models);
    Known {
        name: name.to_owned(),
        kind: Kind::Chat,
        created_unix_seconds: NOW,
        fingerprint: "print".to_owned(),
        origin: Origin::Local,
        provenance: "made here".to_owned(),
        sha256: "0".repeat(64),
        load: Box::new(move |_| models.load()),
    }
}

/// ASCII byte by byte, short words, and an end token.
fn vocabulary(len: usize, last: &[(&str, TokenKind)]) -> Vocabulary {
    let mut tokens: Vec<String> = ('!'..='~').map(String::from).collect();
    // A space and a line end in the byte-level alphabet.
    tokens.extend(["\u{120}".to_owned(), "\u{10a}".to_owned()]);
    let words = tokens.len()..len - 1;
    tokens.extend(words.map(|id| format!("w{id}")));
    tokens.push("<|end|>".to_owned());
    let mut kinds = vec![TokenKind::Normal; len];
    kinds[len - 1] = TokenKind::Control;
    let first = len - 1 - last.len();
    for (id, (text, kind)) in (first..).zip(last) {
        (tokens[id], kinds[id]) = ((*text).to_owned(), *kind);
    }
    let end = Some(len as u32 - 1);
    Vocabulary {
        algorithm: Algorithm::ByteLevelBpe { merges: Vec::new(), pre: Some("gpt-2".to_owned()) },
        tokens,
        kinds,
        bos: None,
        eos: end,
        eot: None,
        unknown: None,
        add_bos: false,
        add_eos: false,
        chat_template: None,
        named_templates: Default::default(),
    }
}
