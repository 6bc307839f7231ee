//! The catalogue of hostile and broken files: what is done to a good model, and what is said.
//!
//! A file is named after its attack. CVE numbers are those of other readers that fell for it.

use super::{Builder, Encoded, array, f32, kind, raw_array, raw_text, tensor, text, u32};

/// One bad file.
pub struct Attack {
    /// File name without its ending.
    pub name: &'static str,
    /// The whole message it is refused with.
    pub message: &'static str,
    spoil: fn(&mut Builder),
    cut: fn(&mut Vec<u8>),
}

impl Attack {
    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut builder = Builder::model();
        (self.spoil)(&mut builder);
        let mut bytes = builder.bytes();
        (self.cut)(&mut bytes);
        bytes
    }
}

/// Files whose numbers are spoiled before they are written.
const fn spoil(name: &'static str, spoil: fn(&mut Builder), message: &'static str) -> Attack {
    Attack { name, message, spoil, cut: |_| {} }
}

/// Files whose bytes are spoiled after they are written.
const fn cut(name: &'static str, cut: fn(&mut Vec<u8>), message: &'static str) -> Attack {
    Attack { name, message, spoil: |_| {}, cut }
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const ALIGNMENT: &str = "general.alignment";

/// Every bad file.
pub const ATTACKS: &[Attack] = &[
    // Counts and lengths.
    spoil(
        "huge-key-count-CVE-2024-23605",
        |f| f.key_count = Some((1 << 61) + 1),
        "the metadata key count is 2305843009213693953, at most 65536 is read: the file is \
         damaged or hostile",
    ),
    spoil(
        "more-keys-than-bytes",
        |f| f.key_count = Some(65_536),
        "the metadata key count, 65536, needs 851968 bytes, the file has 1640 left: it is \
         cut short or damaged, copy it again",
    ),
    spoil(
        "huge-tensor-count-CVE-2024-21836",
        |f| f.tensor_count = Some((1 << 58) + 1),
        "the tensor count is 288230376151711745, at most 65536 is read: the file is damaged \
         or hostile",
    ),
    spoil(
        "more-tensors-than-bytes",
        |f| f.tensor_count = Some(65_536),
        "the tensor count, 65536, needs 2097152 bytes, the file has 1648 left: it is cut \
         short or damaged, copy it again",
    ),
    spoil(
        "no-tensors",
        |f| f.tensors.clear(),
        "the file has no tensors: it is no model, get the file that has the weights",
    ),
    spoil(
        "string-length-wraps-CVE-2024-23496",
        |f| f.set("general.name", Encoded(kind::TEXT, raw_text(u64::MAX, b"name"))),
        "the length of the value of metadata key \"general.name\" is 18446744073709551615, \
         at most 16777216 is read: the file is damaged or hostile",
    ),
    spoil(
        "string-longer-than-file",
        |f| f.set("general.name", Encoded(kind::TEXT, raw_text(1 << 20, b"name"))),
        "the value of metadata key \"general.name\" needs 1048576 bytes, the file has 1001 \
         left: it is cut short or damaged, copy it again",
    ),
    spoil(
        "array-length-wraps-CVE-2024-21825",
        |f| f.set(TOKENS, raw_array(kind::TEXT, (1 << 60) + 1, &raw_text(0, b""))),
        "the array length of metadata key \"tokenizer.ggml.tokens\" is 1152921504606846977, \
         at most 16777216 is read: the file is damaged or hostile",
    ),
    spoil(
        "array-longer-than-file",
        |f| f.set("general.list", raw_array(kind::U64, 1 << 20, &[0; 8])),
        "the array length of metadata key \"general.list\", 1048576, needs 8388608 bytes, \
         the file has 997 left: it is cut short or damaged, copy it again",
    ),
    spoil(
        "token-length-cast-to-32-bits-CVE-2025-49847",
        |f| f.set(TOKENS, raw_array(kind::TEXT, 1, &raw_text((1 << 32) + 1, b"a"))),
        "the length of entry 0 of metadata key \"tokenizer.ggml.tokens\" is 4294967297, at \
         most 16777216 is read: the file is damaged or hostile",
    ),
    spoil(
        "token-count-past-31-bits-CVE-2025-52566",
        |f| f.set(TOKENS, raw_array(kind::TEXT, (1 << 31) + 1, &raw_text(0, b""))),
        "the array length of metadata key \"tokenizer.ggml.tokens\" is 2147483649, at most \
         16777216 is read: the file is damaged or hostile",
    ),
    spoil(
        "key-too-long",
        |f| f.add("k".repeat(257), u32(1)),
        "the length of metadata key 13 of 14 is 257, at most 256 is read: the file is \
         damaged or hostile",
    ),
    spoil(
        "tensor-name-too-long",
        |f| f.tensors[0].name = "t".repeat(65),
        "the length of the name of tensor 0 of 11 is 65, at most 64 is read: the file is \
         damaged or hostile",
    ),
    // Keys and values.
    spoil(
        "duplicate-key",
        |f| f.add("general.architecture", text("qwen2")),
        "metadata key \"general.architecture\" occurs twice: which one holds is not defined, \
         get another file",
    ),
    spoil(
        "empty-key",
        |f| f.add("", u32(1)),
        "metadata key 13 of 14 is \"\", expected printable text: the file is damaged or hostile",
    ),
    spoil(
        "key-with-terminal-escape",
        |f| f.add("a\x1b[2Jb", u32(1)),
        "metadata key 13 of 14 is \"a\\u{1b}[2Jb\", expected printable text: the file is \
         damaged or hostile",
    ),
    spoil(
        "key-not-utf8",
        |f| f.add(b"ab\xff", u32(1)),
        "metadata key 13 of 14 is not UTF-8 from byte 2 on: the file is damaged, copy it again",
    ),
    spoil(
        "text-not-utf8",
        |f| f.set("general.name", text(b"a\xc0\x80")),
        "the value of metadata key \"general.name\" is not UTF-8 from byte 1 on: the file is \
         damaged, copy it again",
    ),
    spoil(
        "bool-2",
        |f| f.set("general.flag", Encoded(kind::BOOL, vec![2])),
        "metadata key \"general.flag\" has boolean 2, expected 0 or 1",
    ),
    spoil(
        "unknown-value-type",
        |f| f.set("general.odd", Encoded(13, vec![0; 8])),
        "metadata key \"general.odd\" has value type 13, the format has 0 to 12",
    ),
    spoil(
        "unknown-element-type",
        |f| f.set("general.odd", raw_array(99, 1, &[0; 8])),
        "metadata key \"general.odd\" has value type 99, the format has 0 to 12",
    ),
    spoil(
        "nested-arrays",
        |f| {
            let nest: Vec<u8> = (0..4096).flat_map(|_| raw_array(kind::ARRAY, 1, &[]).1).collect();
            f.set("general.nest", Encoded(kind::ARRAY, nest));
        },
        "metadata key \"general.nest\" is an array of arrays, which no supported model has",
    ),
    spoil(
        "array-integer-past-63-bits",
        |f| f.set("general.list", raw_array(kind::U64, 1, &[0xff; 8])),
        "metadata key \"general.list\" has 18446744073709551615 in its array, at most \
         9223372036854775807 is read",
    ),
    spoil(
        "alignment-0",
        |f| f.set(ALIGNMENT, u32(0)),
        "'general.alignment' is 0 (u32), expected a u32, a power of two from 8 to 65536",
    ),
    spoil(
        "alignment-1",
        |f| f.set(ALIGNMENT, u32(1)),
        "'general.alignment' is 1 (u32), expected a u32, a power of two from 8 to 65536",
    ),
    spoil(
        "alignment-24",
        |f| f.set(ALIGNMENT, u32(24)),
        "'general.alignment' is 24 (u32), expected a u32, a power of two from 8 to 65536",
    ),
    spoil(
        "alignment-unbounded",
        |f| f.set(ALIGNMENT, u32(1 << 31)),
        "'general.alignment' is 2147483648 (u32), expected a u32, a power of two from 8 to 65536",
    ),
    spoil(
        "alignment-as-text",
        |f| f.set(ALIGNMENT, text("32")),
        "'general.alignment' is a text, expected a u32, a power of two from 8 to 65536",
    ),
    spoil(
        "alignment-as-u64",
        |f| f.set(ALIGNMENT, Encoded(kind::U64, 32u64.to_le_bytes().into())),
        "'general.alignment' is 32 (u64), expected a u32, a power of two from 8 to 65536",
    ),
    spoil(
        "split-in-two",
        |f| f.set("split.count", u32(2)),
        "'split.count' is 2 (u32): split files are not supported, merge the parts into one",
    ),
    // Shapes and types.
    spoil(
        "n-dims-64-CVE-2024-21802",
        |f| f.tensors[0].dims = vec![1; 64],
        "tensor \"token_embd.weight\" has 64 dimensions, expected 1 to 4",
    ),
    spoil(
        "n-dims-0xFFFFFFFF",
        |f| f.tensors[0].dims_len = Some(u32::MAX),
        "tensor \"token_embd.weight\" has 4294967295 dimensions, expected 1 to 4",
    ),
    spoil(
        "n-dims-0",
        |f| f.tensors[0].dims.clear(),
        "tensor \"token_embd.weight\" has 0 dimensions, expected 1 to 4",
    ),
    spoil(
        "zero-dimension",
        |f| f.tensors[0].dims = vec![2, 0],
        "tensor \"token_embd.weight\" has shape [0, 2], every dimension must be at least 1",
    ),
    spoil(
        "dimension-product-wraps",
        |f| f.tensors[0].dims = vec![1 << 32, 1 << 32],
        "tensor \"token_embd.weight\" has shape [4294967296, 4294967296], whose size does \
         not fit in 64 bits",
    ),
    spoil(
        "byte-size-wraps-CVE-2026-33298",
        |f| f.tensors[0].dims = vec![1 << 62],
        "tensor \"token_embd.weight\" has shape [4611686018427387904], whose size does not \
         fit in 64 bits",
    ),
    spoil(
        "padding-wraps-INT64_MAX-by-2",
        |f| f.tensors[0].dims = vec![i64::MAX as u64, 2],
        "tensor \"token_embd.weight\" has shape [2, 9223372036854775807], whose size does \
         not fit in 64 bits",
    ),
    spoil(
        "row-not-whole-blocks",
        |f| f.tensors[0].code = 2,
        "tensor \"token_embd.weight\" has rows of 2 elements, Q4_0 needs a multiple of 32",
    ),
    spoil(
        "unsupported-type-IQ2_XXS",
        |f| f.tensors[0].code = 16,
        "tensor \"token_embd.weight\" has type IQ2_XXS (code 16), which is not supported \
         (supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, \
         Q6_K)",
    ),
    spoil(
        "unsupported-type-MXFP4",
        |f| f.tensors[0].code = 39,
        "tensor \"token_embd.weight\" has type MXFP4 (code 39), which is not supported \
         (supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, \
         Q6_K)",
    ),
    spoil(
        "unknown-type-1000",
        |f| f.tensors[0].code = 1000,
        "tensor \"token_embd.weight\" has type 1000 (not in the format), which is not \
         supported (supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, \
         Q4_K, Q5_K, Q6_K)",
    ),
    // Places.
    spoil(
        "padded-sizes-sum-wraps-CVE-2025-53630",
        |f| {
            for i in 0..4 {
                f.tensors[i].dims = vec![1 << 60];
                f.tensors[i].offset = Some((i as u64) << 62);
            }
        },
        "tensor \"token_embd.weight\" ends at byte 4611686018427389184, the file has 1632 \
         bytes: it is cut short, copy it again",
    ),
    spoil(
        "overhead-plus-size-wraps-CVE-2026-27940",
        |f| f.tensors[10].dims = vec![(1 << 62) - 8],
        "tensor \"output_norm.weight\" has offset 320 and 18446744073709551584 bytes, their \
         sum wraps",
    ),
    spoil(
        "offset-wraps",
        |f| f.tensors[10].offset = Some(u64::MAX - 31),
        "tensor \"output_norm.weight\" has offset 18446744073709551584 and 8 bytes, their \
         sum wraps",
    ),
    spoil(
        "offset-not-aligned",
        |f| f.tensors[10].offset = Some(33),
        "tensor \"output_norm.weight\" has offset 33, expected a multiple of 32",
    ),
    spoil(
        "offset-beyond-end-of-file-CVE-2026-7482",
        |f| f.tensors[10].offset = Some(1 << 40),
        "tensor \"output_norm.weight\" ends at byte 1099511629096, the file has 1664 bytes: \
         it is cut short, copy it again",
    ),
    spoil(
        "size-beyond-end-of-file-CVE-2026-7482",
        |f| f.tensors[10].dims = vec![1 << 20],
        "tensor \"output_norm.weight\" ends at byte 4195936, the file has 1664 bytes: it is \
         cut short, copy it again",
    ),
    spoil(
        "overlapping-tensors",
        |f| f.tensors[10].offset = Some(0),
        "tensors \"token_embd.weight\" and \"output_norm.weight\" overlap at byte 1312: the \
         file is hostile",
    ),
    spoil(
        "overlapping-tails",
        |f| f.tensors[1].dims = vec![16],
        "tensors \"blk.0.attn_norm.weight\" and \"blk.0.attn_q.weight\" overlap at byte \
         1376: the file is hostile",
    ),
    spoil(
        "duplicate-tensor-name",
        |f| f.tensors[10].name = f.tensors[9].name.clone(),
        "tensor \"blk.0.ffn_down.weight\" occurs twice: which one holds is not defined, get \
         another file",
    ),
    spoil(
        "gap-between-tensors",
        |f| {
            let mut hidden = tensor("hidden", &[1024]);
            hidden.offset = f.tensors.pop().map(|_| 32 * 11);
            f.tensors.push(hidden);
            f.tail = vec![7; 64];
        },
        "32 bytes before tensor \"hidden\" belong to no tensor, at most 31 of padding are \
         expected: the file is damaged",
    ),
    spoil(
        "bytes-after-last-tensor",
        |f| f.tail = vec![7; 64],
        "88 bytes follow the last tensor, at most 31 of padding are expected: the file is \
         damaged, or something was appended",
    ),
    // The file as a whole.
    cut(
        "truncated-data",
        |bytes| bytes.truncate(bytes.len() - 64),
        "tensor \"blk.0.ffn_down.weight\" ends at byte 1632, the file has 1600 bytes: it is \
         cut short, copy it again",
    ),
    cut(
        "truncated-header",
        |bytes| bytes.truncate(700),
        "the shape of tensor \"token_embd.weight\" needs 8 bytes, the file has 0 left: it is \
         cut short or damaged, copy it again",
    ),
    cut(
        "truncated-magic",
        |bytes| bytes.truncate(3),
        "the magic number needs 4 bytes, the file has 3 left: it is cut short or damaged, \
         copy it again",
    ),
    spoil(
        "version-1",
        |f| f.version = 1,
        "GGUF version 1 is not supported (supported: 2, 3): convert the model again",
    ),
    spoil(
        "version-4",
        |f| f.version = 4,
        "GGUF version 4 is not supported (supported: 2, 3): convert the model again",
    ),
    spoil(
        "big-endian",
        |f| f.version = 3u32.swap_bytes(),
        "the file is a big-endian GGUF, only little-endian is supported: convert it again",
    ),
    spoil(
        "magic-ggjt",
        |f| f.magic = *b"tjgg",
        "the file begins with 'tjgg', not with 'GGUF': it is from before GGUF, convert the \
         model again",
    ),
    spoil(
        "magic-zip",
        |f| f.magic = *b"PK\x03\x04",
        "the file begins with 'PK\\x03\\x04', not with 'GGUF': it is a zip archive or a \
         PyTorch file, convert the model to GGUF",
    ),
    spoil(
        "magic-unknown",
        |f| f.magic = *b"\0\x1b[m",
        "the file begins with '\\x00\\x1b[m', not with 'GGUF': it is another kind of file, \
         or damaged",
    ),
    // The vocabulary.
    spoil(
        "vocabulary-of-integers",
        |f| f.set(TOKENS, array(&[1, 2, 3, 4].map(u32))),
        "metadata key 'tokenizer.ggml.tokens' is missing or has the wrong type",
    ),
    spoil(
        "scores-of-integers",
        |f| f.set("tokenizer.ggml.scores", array(&[1, 2, 3, 4].map(u32))),
        "metadata key 'tokenizer.ggml.scores' is missing or has the wrong type",
    ),
    spoil(
        "byte-token-0x-1",
        |f| f.set(TOKENS, array(&["<unk>", "<s>", "</s>", "<0x-1>"].map(text))),
        "token 3 is of kind byte and reads \"<0x-1>\", expected '<0x00>' to '<0xFF>'",
    ),
    spoil(
        "byte-token-0x100",
        |f| f.set(TOKENS, array(&["<unk>", "<s>", "</s>", "<0x100>"].map(text))),
        "token 3 is of kind byte and reads \"<0x100>\", expected '<0x00>' to '<0xFF>'",
    ),
    spoil(
        "token-count-below-kinds",
        |f| f.set(TOKENS, array(&["a", "b", "c"].map(text))),
        "'tokenizer.ggml.token_type' has 4 entries, the vocabulary has 3 tokens",
    ),
    spoil(
        "token-count-above-scores",
        |f| f.set("tokenizer.ggml.scores", array(&[0.0, 0.0, 0.0].map(f32))),
        "'tokenizer.ggml.scores' has 3 entries, the vocabulary has 4 tokens",
    ),
    spoil(
        "control-token-of-60000-bytes",
        |f| f.set(TOKENS, array(&["<unk>", "<s>", &"x".repeat(60_000), "<0x0A>"].map(text))),
        "token 2 has 60000 bytes, at most 256 are read for its kind",
    ),
    spoil(
        "piece-of-60000-bytes",
        |f| {
            f.set(TOKENS, array(&["<unk>", "<s>", "</s>", &"x".repeat(60_000)].map(text)));
            f.set(KINDS, array(&[2, 3, 3, 1].map(u32)));
        },
        "token 3 has 60000 bytes, at most 512 are read for its kind",
    ),
    spoil(
        "control-tokens-of-600000-bytes-together",
        |f| {
            let tokens: Vec<String> = (0..2400).map(|id| format!("{id:0250}")).collect();
            let tokens: Vec<Encoded> = tokens.iter().map(text).collect();
            f.set(TOKENS, array(&tokens));
            f.set(KINDS, array(&vec![u32(3); 2400]));
            f.set("tokenizer.ggml.scores", array(&vec![f32(0.0); 2400]));
        },
        "the special tokens have 600000 bytes together, at most 524288 are read",
    ),
    spoil(
        "token-kind-7",
        |f| f.set(KINDS, array(&[1, 1, 1, 7].map(u32))),
        "token 3 has kind 7, the format has 1 to 6",
    ),
    spoil(
        "eos-outside-vocabulary",
        |f| f.set("tokenizer.ggml.eos_token_id", u32(4)),
        "'tokenizer.ggml.eos_token_id' names token 4, the vocabulary has 4",
    ),
    // The hyperparameters.
    spoil(
        "zero-heads",
        |f| f.set("llama.attention.head_count", u32(0)),
        "metadata key 'llama.attention.head_count' is missing or has the wrong type",
    ),
    spoil(
        "huge-layer-count",
        |f| f.set("llama.block_count", u32(u32::MAX)),
        "metadata key 'llama.block_count' is 4294967295, expected at most 1024",
    ),
    spoil(
        "epsilon-NaN",
        |f| f.set("llama.attention.layer_norm_rms_epsilon", f32(f32::NAN)),
        "metadata key 'llama.attention.layer_norm_rms_epsilon' is NaN, expected positive and \
         finite",
    ),
    spoil(
        "width-other-than-tensors",
        |f| f.set("llama.embedding_length", u32(4)),
        "tensor 'token_embd.weight' has shape [4, 2], the hyperparameters say [4, 4]",
    ),
];
