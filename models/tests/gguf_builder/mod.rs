//! Writes GGUF files byte by byte, right or wrong: every number can be set to a lie.
//!
//! It shares nothing with the reader, so that an error in one is not repeated in the other.

pub mod attacks;

/// Type codes of values.
pub mod kind {
    pub const U8: u32 = 0;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const TEXT: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
}

/// The type code of 32-bit float tensors.
pub const TENSOR_F32: u32 = 0;

/// A value: its type code and the bytes that follow it.
#[derive(Clone)]
pub struct Encoded(pub u32, pub Vec<u8>);

/// One tensor as the table has it.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    /// Innermost first, as in the file.
    pub dims: Vec<u64>,
    /// Written instead of the length of `dims`.
    pub dims_len: Option<u32>,
    pub code: u32,
    /// Written instead of the next free aligned byte.
    pub offset: Option<u64>,
    /// Bytes of data that are really written.
    pub data_bytes: usize,
}

/// A file in the making.
#[derive(Clone)]
pub struct Builder {
    pub magic: [u8; 4],
    pub version: u32,
    /// Written instead of the number of keys.
    pub key_count: Option<u64>,
    /// Written instead of the number of tensors.
    pub tensor_count: Option<u64>,
    pub keys: Vec<(Vec<u8>, Encoded)>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
    /// Written after the last tensor's padding.
    pub tail: Vec<u8>,
}

pub fn u32(value: u32) -> Encoded {
    Encoded(kind::U32, value.to_le_bytes().into())
}

pub fn f32(value: f32) -> Encoded {
    Encoded(kind::F32, value.to_le_bytes().into())
}

pub fn text(text: impl AsRef<[u8]>) -> Encoded {
    Encoded(kind::TEXT, raw_text(text.as_ref().len() as u64, text.as_ref()))
}

/// A text whose length may be a lie.
pub fn raw_text(len: u64, bytes: &[u8]) -> Vec<u8> {
    [&len.to_le_bytes(), bytes].concat()
}

/// An array whose length may be a lie.
pub fn raw_array(element: u32, len: u64, bytes: &[u8]) -> Encoded {
    Encoded(kind::ARRAY, [&element.to_le_bytes()[..], &len.to_le_bytes(), bytes].concat())
}

/// An array of values, all of the first one's type.
pub fn array(values: &[Encoded]) -> Encoded {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.1.clone()).collect();
    raw_array(values[0].0, values.len() as u64, &bytes)
}

pub fn tensor(name: &str, dims: &[u64]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dims: dims.to_vec(),
        dims_len: None,
        code: TENSOR_F32,
        offset: None,
        data_bytes: dims.iter().product::<u64>() as usize * 4,
    }
}

impl Builder {
    /// A file without keys and tensors.
    pub fn empty() -> Builder {
        Builder {
            magic: *b"GGUF",
            version: 3,
            key_count: None,
            tensor_count: None,
            keys: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            tail: Vec::new(),
        }
    }

    /// The smallest model that makes a plan: llama, one layer of width 2, four tokens.
    pub fn model() -> Builder {
        let mut file = Builder::empty();
        file.set("general.architecture", text("llama"));
        for (key, value) in [
            ("block_count", 1),
            ("embedding_length", 2),
            ("attention.head_count", 1),
            ("feed_forward_length", 4),
            ("context_length", 16),
        ] {
            file.set(&format!("llama.{key}"), u32(value));
        }
        file.set("llama.attention.layer_norm_rms_epsilon", f32(1e-5));
        file.set("tokenizer.ggml.model", text("llama"));
        file.set("tokenizer.ggml.tokens", array(&["<unk>", "<s>", "</s>", "<0x0A>"].map(text)));
        file.set("tokenizer.ggml.scores", array(&[0.0, 0.0, 0.0, -1.0].map(f32)));
        let kinds = [2u32, 3, 3, 6].map(|k| Encoded(kind::I32, k.to_le_bytes().into()));
        file.set("tokenizer.ggml.token_type", array(&kinds));
        file.set("tokenizer.ggml.eos_token_id", u32(2));
        file.set("tokenizer.ggml.add_bos_token", Encoded(kind::BOOL, vec![1]));
        for (name, dims) in [
            ("token_embd", &[2, 4][..]),
            ("blk.0.attn_norm", &[2]),
            ("blk.0.attn_q", &[2, 2]),
            ("blk.0.attn_k", &[2, 2]),
            ("blk.0.attn_v", &[2, 2]),
            ("blk.0.attn_output", &[2, 2]),
            ("blk.0.ffn_norm", &[2]),
            ("blk.0.ffn_gate", &[2, 4]),
            ("blk.0.ffn_up", &[2, 4]),
            ("blk.0.ffn_down", &[4, 2]),
            ("output_norm", &[2]),
        ] {
            file.tensors.push(tensor(&format!("{name}.weight"), dims));
        }
        file
    }

    /// Adds a key, or changes it where it is.
    pub fn set(&mut self, key: &str, value: Encoded) {
        match self.keys.iter_mut().find(|(name, _)| name == key.as_bytes()) {
            Some((_, old)) => *old = value,
            None => self.add(key, value),
        }
    }

    /// Adds a key, a second time too.
    pub fn add(&mut self, key: impl AsRef<[u8]>, value: Encoded) {
        self.keys.push((key.as_ref().to_vec(), value));
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        let count = |lie: Option<u64>, len: usize| lie.unwrap_or(len as u64).to_le_bytes();
        bytes.extend(count(self.tensor_count, self.tensors.len()));
        bytes.extend(count(self.key_count, self.keys.len()));
        for (key, Encoded(code, value)) in &self.keys {
            bytes.extend(raw_text(key.len() as u64, key));
            bytes.extend(code.to_le_bytes());
            bytes.extend(value);
        }
        let mut free = 0;
        for tensor in &self.tensors {
            bytes.extend(raw_text(tensor.name.len() as u64, tensor.name.as_bytes()));
            bytes.extend(tensor.dims_len.unwrap_or(tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(tensor.code.to_le_bytes());
            bytes.extend(tensor.offset.unwrap_or(free).to_le_bytes());
            free += tensor.data_bytes.next_multiple_of(self.alignment) as u64;
        }
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        for tensor in &self.tensors {
            bytes.resize(bytes.len() + tensor.data_bytes, 0x3c);
            bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        }
        bytes.extend(&self.tail);
        bytes
    }
}
