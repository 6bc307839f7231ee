//! The catalogue of hostile and broken folders: what is done to a good model, and what is said.
//!
//! A folder is named after its attack.

use super::Folder;

/// One bad folder.
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// The whole message it is refused with.
    pub message: &'static str,
    spoil: fn(&mut Folder),
}

impl Attack {
    /// The folder.
    pub fn folder(&self) -> Folder {
        let mut folder = Folder::model();
        (self.spoil)(&mut folder);
        folder
    }
}

const fn spoil(name: &'static str, spoil: fn(&mut Folder), message: &'static str) -> Attack {
    Attack { name, message, spoil }
}

const WORDS: &str = "embeddings.word_embeddings.weight";
const TYPES: &str = "embeddings.token_type_embeddings.weight";
const CONFIG: &str = "config.json";
const POOLING: &str = "1_Pooling/config.json";
const MODULES: &str = "modules.json";

/// Every bad folder.
pub const ATTACKS: &[Attack] = &[
    // The header.
    spoil(
        "header-longer-than-file",
        |f| f.length = Some(1 << 20),
        "the header needs 1048576 bytes, the file has 3312 left: it is cut short or damaged, copy it again",
    ),
    spoil(
        "header-length-wraps",
        |f| f.length = Some(u64::MAX - 7),
        "the header's length in bytes is 18446744073709551608, at most 16777216 is read: the file is damaged or hostile",
    ),
    spoil(
        "header-no-object",
        |f| f.header = Some("[]".to_owned()),
        "the header begins with byte 0x5B, not with '{': the file is damaged",
    ),
    spoil(
        "header-no-json",
        |f| f.header = Some("{\"a\":".to_owned()),
        "model.safetensors cannot be read: EOF while parsing a value at line 1 column 8; get the file again",
    ),
    spoil(
        "header-nested-deep",
        |f| f.header = Some(format!("{{\"a\":{}", "[".repeat(500))),
        "model.safetensors cannot be read: recursion limit exceeded at line 1 column 132; get the file again",
    ),
    spoil(
        "header-cut-short",
        |f| f.length = Some(100),
        "model.safetensors cannot be read: EOF while parsing a string at line 1 column 100; get the file again",
    ),
    spoil(
        "git-lfs-pointer",
        |f| f.length = Some(u64::from_le_bytes(*b"version ")),
        "the file is a Git LFS pointer: fetch the file that it points to",
    ),
    spoil(
        "gguf-by-another-name",
        |f| f.length = Some(u64::from_le_bytes(*b"GGUF\x03\0\0\0")),
        "the file is a GGUF file: name the file itself, not its folder",
    ),
    spoil(
        "metadata-of-numbers",
        |f| f.metadata = "\"__metadata__\":{\"a\":1}".to_owned(),
        "model.safetensors: '__metadata__' is an object of 1, expected an object of texts",
    ),
    spoil(
        "metadata-twice",
        |f| f.metadata = format!("{0},{0}", f.metadata),
        "model.safetensors cannot be read: key \"__metadata__\" occurs twice at line 1 column 46; get the file again",
    ),
    spoil(
        "no-tensors",
        |f| f.tensors.clear(),
        "the file has no tensors: it is no model, get the file that has the weights",
    ),
    // Tensors by themselves.
    spoil(
        "tensor-twice",
        |f| f.tensors.push(f.tensors[1].clone()),
        "model.safetensors cannot be read: key \"embeddings.word_embeddings.weight\" occurs twice at line 1 column 2308; get the file again",
    ),
    spoil(
        "tensor-name-with-escape",
        |f| f.tensor(WORDS).name = "a\u{1b}[2J".to_owned(),
        "a tensor is named \"a\\u{1b}[2J\", expected 1 to 256 bytes of printable text",
    ),
    spoil(
        "tensor-name-too-long",
        |f| f.tensor(WORDS).name = "a".repeat(257),
        "a tensor is named \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", expected 1 to 256 bytes of printable text",
    ),
    spoil(
        "tensor-with-unknown-key",
        |f| f.tensor(WORDS).shape = "[5,4],\"lz4\":true".to_owned(),
        "model.safetensors: 'embeddings.word_embeddings.weight.lz4' is not supported: what it asks for would be left out silently",
    ),
    spoil(
        "type-F64",
        |f| f.retype(WORDS, "F64", 160),
        "tensor \"embeddings.word_embeddings.weight\" has type F64, which is not supported (supported: F32, F16, BF16, and I64 for positions)",
    ),
    spoil(
        "type-unknown",
        |f| f.retype(WORDS, "Q4\u{7}", 10),
        "tensor \"embeddings.word_embeddings.weight\" has type Q4, which is not supported (supported: F32, F16, BF16, and I64 for positions)",
    ),
    spoil(
        "shape-empty",
        |f| f.tensor(WORDS).shape = "[]".to_owned(),
        "tensor \"embeddings.word_embeddings.weight\" has 0 dimensions, expected 1 to 4",
    ),
    spoil(
        "shape-zero",
        |f| f.tensor(WORDS).shape = "[0,4]".to_owned(),
        "tensor \"embeddings.word_embeddings.weight\" has shape [0, 4], expected numbers from 1 whose product fits",
    ),
    spoil(
        "shape-negative",
        |f| f.tensor(WORDS).shape = "[-5,4]".to_owned(),
        "tensor \"embeddings.word_embeddings.weight\" has shape [-5, 4], expected numbers from 1 whose product fits",
    ),
    spoil(
        "shape-wraps",
        |f| f.tensor(WORDS).shape = "[4294967296,4294967296]".to_owned(),
        "tensor \"embeddings.word_embeddings.weight\" has shape [4294967296, 4294967296], expected numbers from 1 whose product fits",
    ),
    spoil(
        "shape-of-five",
        |f| f.tensor(WORDS).shape = "[5,4,1,1,1]".to_owned(),
        "tensor \"embeddings.word_embeddings.weight\" has 5 dimensions, expected 1 to 4",
    ),
    spoil(
        "offsets-reversed",
        |f| f.tensor(WORDS).offsets = Some("[144,64]".to_owned()),
        "tensor \"embeddings.word_embeddings.weight\" has offsets [144, 64], expected where it begins and where it ends",
    ),
    spoil(
        "offsets-three",
        |f| f.tensor(WORDS).offsets = Some("[64,100,144]".to_owned()),
        "tensor \"embeddings.word_embeddings.weight\" has offsets [64, 100, 144], expected where it begins and where it ends",
    ),
    spoil(
        "offsets-as-floats",
        |f| f.tensor(WORDS).offsets = Some("[64.0,144.0]".to_owned()),
        "tensor \"embeddings.word_embeddings.weight\" has offsets [64.0, 144.0], expected where it begins and where it ends",
    ),
    spoil(
        "length-other-than-shape",
        |f| f.tensor(WORDS).shape = "[6,4]".to_owned(),
        "tensor \"embeddings.word_embeddings.weight\" has 80 bytes, its shape and type say 96",
    ),
    // Tensors among each other.
    spoil(
        "tensors-overlap",
        |f| f.tensor(TYPES).offsets = Some("[140,172]".to_owned()),
        "tensors \"embeddings.word_embeddings.weight\" and \"embeddings.token_type_embeddings.weight\" overlap at byte 140: the file is hostile",
    ),
    spoil(
        "tensors-on-each-other",
        |f| f.tensor(TYPES).offsets = Some("[64,96]".to_owned()),
        "tensors \"embeddings.token_type_embeddings.weight\" and \"embeddings.word_embeddings.weight\" overlap at byte 64: the file is hostile",
    ),
    spoil(
        "gap-between-tensors",
        |f| f.hide_bytes(WORDS, 8),
        "8 bytes before tensor \"embeddings.token_type_embeddings.weight\" belong to no tensor: the file is damaged",
    ),
    spoil(
        "tensor-unaligned",
        |f| f.odd_bytes(WORDS),
        "tensor \"embeddings.token_type_embeddings.weight\" begins at byte 2386, no multiple of 4: save the model again with a newer safetensors",
    ),
    spoil(
        "tensor-beyond-end",
        |f| f.cut_bytes = 1,
        "tensor \"pooler.dense.bias\" ends at byte 3320, the file has 3319 bytes: it is cut short, copy it again",
    ),
    spoil(
        "bytes-after-last-tensor",
        |f| f.tail = vec![0; 8],
        "8 bytes follow the last tensor: the file is damaged, or something was appended",
    ),
    // Hyperparameters.
    spoil(
        "no-config",
        |f| f.files.retain(|(name, _)| name != CONFIG),
        "the folder has no 'config.json'; get a whole copy of the model",
    ),
    spoil(
        "no-tokenizer",
        |f| f.files.retain(|(name, _)| name != "tokenizer.json"),
        "the folder has no 'tokenizer.json'; get a whole copy of the model",
    ),
    spoil(
        "config-key-twice",
        |f| f.edit(CONFIG, "{", "{\"hidden_size\": 8,"),
        "config.json cannot be read: key \"hidden_size\" occurs twice at line 5 column 15; get the file again",
    ),
    spoil(
        "config-unknown-key",
        |f| f.edit(CONFIG, "{", "{\"sliding_window\": 4,"),
        "config.json: 'sliding_window' is not supported: what it asks for would be left out silently",
    ),
    spoil(
        "config-of-another-model",
        |f| f.edit(CONFIG, "\"bert\"", "\"modernbert\""),
        "architecture 'modernbert' is not supported (supported: bert)",
    ),
    spoil(
        "config-other-activation",
        |f| f.edit(CONFIG, "\"gelu\"", "\"gelu_new\""),
        "config.json: 'hidden_act' is \"gelu_new\", expected \"gelu\", nothing else is supported",
    ),
    spoil(
        "config-relative-positions",
        |f| f.edit(CONFIG, "\"absolute\"", "\"relative_key\""),
        "config.json: 'position_embedding_type' is \"relative_key\", expected \"absolute\", nothing else is supported",
    ),
    spoil(
        "config-heads-no-divisor",
        |f| f.edit(CONFIG, "heads\": 2", "heads\": 3"),
        "config.json: 'num_attention_heads' is 3, expected a divisor of 4",
    ),
    spoil(
        "config-zero-heads",
        |f| f.edit(CONFIG, "heads\": 2", "heads\": 0"),
        "config.json: 'num_attention_heads' is 0, expected a whole number, 1 to 1048576",
    ),
    spoil(
        "config-huge-layer-count",
        |f| f.edit(CONFIG, "layers\": 1", "layers\": 1000000"),
        "config.json: 'num_hidden_layers' is 1000000, expected a whole number, 1 to 1024",
    ),
    spoil(
        "config-negative-epsilon",
        |f| f.edit(CONFIG, "1e-12", "-1e-12"),
        "config.json: 'layer_norm_eps' is -1e-12, expected a number above 0",
    ),
    spoil(
        "config-epsilon-too-small",
        |f| f.edit(CONFIG, "1e-12", "1e-60"),
        "config.json: 'layer_norm_eps' is 1.0000000000000001e-60, expected a number above 0",
    ),
    spoil(
        "config-more-layers-than-tensors",
        |f| f.edit(CONFIG, "layers\": 1", "layers\": 2"),
        "the file has no tensor 'encoder.layer.1.attention.self.query.weight'",
    ),
    spoil(
        "config-fewer-words",
        |f| f.edit(CONFIG, "vocab_size\": 5", "vocab_size\": 4"),
        "tensor 'embeddings.word_embeddings.weight' has shape [5, 4], the hyperparameters say [4, 4]",
    ),
    spoil(
        "unused-tensor",
        |f| f.add("classifier.weight", &[2, 4]),
        "the file has 1 tensors that 'bert' does not use, 'classifier.weight' first",
    ),
    spoil(
        "positions-shuffled",
        |f| f.tensors[0].data.reverse(),
        "tensor 'embeddings.position_ids' has whole numbers that are not positions in order: not supported",
    ),
    spoil(
        "integers-of-another-name",
        |f| f.tensors[0].name = "embeddings.token_ids".to_owned(),
        "tensor 'embeddings.token_ids' has whole numbers that are not positions in order: not supported",
    ),
    // What sentence-transformers declares.
    spoil(
        "modules-with-dense",
        |f| f.edit(MODULES, "models.Normalize", "models.Dense"),
        "modules.json: 'modules[2].type' is \"sentence_transformers.models.Dense\", expected Normalize: other modules are not supported",
    ),
    spoil(
        "modules-of-strangers",
        |f| f.edit(MODULES, "\"sentence_t", "\"t"),
        "modules.json: 'modules[0].type' is \"transformers.models.Transformer\", expected Transformer: other modules are not supported",
    ),
    spoil(
        "modules-path-upwards",
        |f| f.edit(MODULES, "\"1_Pooling\"", "\"../1_Pooling\""),
        "modules.json: 'modules[1].path' is \"../1_Pooling\", expected \"1_Pooling\", nothing else is supported",
    ),
    spoil(
        "modules-empty",
        |f| f.set_file(MODULES, "[]"),
        "modules.json: 'modules' is a list of 0, expected Transformer, Pooling, and perhaps Normalize",
    ),
    spoil(
        "modules-without-pooling",
        |f| f.files.retain(|(name, _)| name != POOLING),
        "the folder has no '1_Pooling/config.json'; get a whole copy of the model",
    ),
    spoil(
        "pooling-by-maximum",
        |f| f.set_file(POOLING, "{\"embedding_dimension\": 4, \"pooling_mode\": \"max\"}"),
        "1_Pooling/config.json: 'pooling_mode' is \"max\", expected one pooling: mean, cls or lasttoken",
    ),
    spoil(
        "pooling-twofold",
        |f| f.edit(POOLING, "cls_token\": false", "cls_token\": true"),
        "1_Pooling/config.json: 'pooling_mode' is \"mean, cls\", expected one pooling: mean, cls or lasttoken",
    ),
    spoil(
        "pooling-none",
        |f| f.edit(POOLING, "mean_tokens\": true", "mean_tokens\": false"),
        "1_Pooling/config.json: 'pooling_mode' is \"\", expected one pooling: mean, cls or lasttoken",
    ),
    spoil(
        "pooling-of-another-width",
        |f| f.edit(POOLING, ": 4", ": 5"),
        "1_Pooling/config.json: 'embedding_dimension' is 5, expected 4, the width of the hidden rows",
    ),
    spoil(
        "longest-text-beyond-positions",
        |f| f.edit("sentence_bert_config.json", "4", "9"),
        "sentence_bert_config.json: 'max_seq_length' is 9, expected at most the 8 positions of the model",
    ),
    spoil(
        "longest-text-as-text",
        |f| f.edit("sentence_bert_config.json", "4", "\"4\""),
        "sentence_bert_config.json: 'max_seq_length' is \"4\", expected a whole number, 1 to 16777216",
    ),
    spoil(
        "prompt-before-every-text",
        |f| f.edit("config_sentence_transformers.json", "null", "\"query\""),
        "config_sentence_transformers.json: 'default_prompt_name' is \"query\", expected null, nothing else is supported",
    ),
];
