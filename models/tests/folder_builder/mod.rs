//! Writes safetensors folders, right or wrong: headers are written as text, so that each can be
//! set to a lie. It shares nothing with the reader.

pub mod attacks;

use models::safetensors::{FILES, Files};

/// One tensor as the header has it; its data are zeros, or positions.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    /// As JSON.
    pub shape: String,
    /// As JSON; the next free bytes otherwise.
    pub offsets: Option<String>,
    /// Bytes of data that are really written.
    pub data: Vec<u8>,
}

/// A folder in the making.
#[derive(Clone)]
pub struct Folder {
    /// Written instead of the length of the header.
    pub length: Option<u64>,
    /// Written instead of the whole header.
    pub header: Option<String>,
    /// Spaces after the header.
    pub padding: usize,
    /// Before the tensors in the header.
    pub metadata: String,
    pub tensors: Vec<Tensor>,
    /// After the last tensor.
    pub tail: Vec<u8>,
    /// Left out at the end.
    pub cut_bytes: usize,
    /// Files beside, by name.
    pub files: Vec<(String, String)>,
}

const WIDTH: usize = 4;
const INNER: usize = 6;

impl Folder {
    /// A small encoder.
    pub fn model() -> Folder {
        let mut folder = Folder {
            length: None,
            header: None,
            padding: 0,
            metadata: r#""__metadata__":{"format":"pt"}"#.to_owned(),
            tensors: Vec::new(),
            tail: Vec::new(),
            cut_bytes: 0,
            files: Vec::new(),
        };
        let positions = (0..8i64).flat_map(i64::to_le_bytes).collect();
        folder.tensors.push(Tensor {
            name: "embeddings.position_ids".to_owned(),
            dtype: "I64".to_owned(),
            shape: "[1,8]".to_owned(),
            offsets: None,
            data: positions,
        });
        folder.add("embeddings.word_embeddings.weight", &[5, WIDTH]);
        folder.add("embeddings.token_type_embeddings.weight", &[2, WIDTH]);
        folder.add("embeddings.position_embeddings.weight", &[8, WIDTH]);
        folder.norm("embeddings.LayerNorm");
        let layer = |part: &str| format!("encoder.layer.0.{part}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            folder.linear(&layer(&format!("attention.{part}")), WIDTH, WIDTH);
        }
        folder.norm(&layer("attention.output.LayerNorm"));
        folder.linear(&layer("intermediate.dense"), INNER, WIDTH);
        folder.linear(&layer("output.dense"), WIDTH, INNER);
        folder.norm(&layer("output.LayerNorm"));
        folder.linear("pooler.dense", WIDTH, WIDTH);
        for (name, text) in FILES_OF_MODEL {
            folder.set_file(name, text);
        }
        folder
    }

    pub fn add(&mut self, name: &str, shape: &[usize]) {
        let listed: Vec<String> = shape.iter().map(usize::to_string).collect();
        self.tensors.push(Tensor {
            name: name.to_owned(),
            dtype: "F32".to_owned(),
            shape: format!("[{}]", listed.join(",")),
            offsets: None,
            data: vec![0; shape.iter().product::<usize>() * 4],
        });
    }

    fn norm(&mut self, name: &str) {
        self.add(&format!("{name}.weight"), &[WIDTH]);
        self.add(&format!("{name}.bias"), &[WIDTH]);
    }

    fn linear(&mut self, name: &str, rows: usize, columns: usize) {
        self.add(&format!("{name}.weight"), &[rows, columns]);
        self.add(&format!("{name}.bias"), &[rows]);
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("the model has it")
    }

    pub fn retype(&mut self, name: &str, dtype: &str, data_bytes: usize) {
        let tensor = self.tensor(name);
        tensor.dtype = dtype.to_owned();
        tensor.data = vec![0; data_bytes];
    }

    /// Puts bytes after a tensor's data that its offsets do not cover.
    pub fn hide_bytes(&mut self, name: &str, bytes: usize) {
        let before = self.tensors.iter().take_while(|tensor| tensor.name != name);
        let begin: usize = before.map(|tensor| tensor.data.len()).sum();
        let tensor = self.tensor(name);
        tensor.offsets = Some(format!("[{begin},{}]", begin + tensor.data.len()));
        tensor.data.extend(vec![0; bytes]);
    }

    /// Makes a tensor two bytes longer than whole F32.
    pub fn odd_bytes(&mut self, name: &str) {
        self.retype(name, "BF16", 42);
        self.tensor(name).shape = "[21,1]".to_owned();
    }

    pub fn set_file(&mut self, name: &str, text: &str) {
        self.files.retain(|(other, _)| other != name);
        self.files.push((name.to_owned(), text.to_owned()));
    }

    /// Puts another text for the first place of one in a file.
    pub fn edit(&mut self, name: &str, from: &str, to: &str) {
        let file = self.files.iter_mut().find(|(other, _)| other == name).expect("a file of it");
        assert!(file.1.contains(from), "{name} has {from}");
        file.1 = file.1.replacen(from, to, 1);
    }

    pub fn data_bytes(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.data.len()).sum()
    }

    /// The bytes of `model.safetensors`.
    pub fn tensors(&self) -> Vec<u8> {
        let (mut members, mut at) = (vec![self.metadata.clone()], 0);
        for Tensor { name, dtype, shape, offsets, data } in &self.tensors {
            let placed = format!("[{at},{}]", at + data.len());
            let offsets = offsets.as_ref().unwrap_or(&placed);
            let (name, dtype) = (quoted(name), quoted(dtype));
            members.push(format!(
                r#"{name}:{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}"#
            ));
            at += data.len();
        }
        let members: Vec<String> = members.into_iter().filter(|part| !part.is_empty()).collect();
        let mut header = self.header.clone().unwrap_or(format!("{{{}}}", members.join(",")));
        let spaces = header.len().next_multiple_of(8) - header.len() + self.padding;
        header.push_str(&" ".repeat(spaces));
        let mut bytes = self.length.unwrap_or(header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.into_bytes());
        self.tensors.iter().for_each(|tensor| bytes.extend(&tensor.data));
        bytes.extend(&self.tail);
        bytes.truncate(bytes.len() - self.cut_bytes);
        bytes
    }

    pub fn files(&self) -> Files {
        let named = |(name, text): &(String, String)| {
            let info = FILES.iter().find(|file| file.name == name)?;
            Some((info.name, text.clone().into_bytes()))
        };
        self.files.iter().filter_map(named).collect()
    }
}

fn quoted(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c < ' ' => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

const FILES_OF_MODEL: [(&str, &str); 6] = [
    (
        "config.json",
        r#"{
  "architectures": ["BertModel"],
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1,
  "hidden_size": 4,
  "intermediate_size": 6,
  "layer_norm_eps": 1e-12,
  "max_position_embeddings": 8,
  "model_type": "bert",
  "num_attention_heads": 2,
  "num_hidden_layers": 1,
  "position_embedding_type": "absolute",
  "type_vocab_size": 2,
  "vocab_size": 5
}
"#,
    ),
    ("tokenizer.json", "{}\n"),
    (
        "modules.json",
        r#"[
  {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
  {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
  {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
]
"#,
    ),
    (
        "1_Pooling/config.json",
        r#"{
  "word_embedding_dimension": 4,
  "pooling_mode_cls_token": false,
  "pooling_mode_mean_tokens": true,
  "pooling_mode_max_tokens": false,
  "pooling_mode_mean_sqrt_len_tokens": false
}
"#,
    ),
    ("sentence_bert_config.json", "{\"max_seq_length\": 4, \"do_lower_case\": false}\n"),
    ("config_sentence_transformers.json", "{\"default_prompt_name\": null}\n"),
];
