//! Tensors by name out of bytes that somebody else mapped or loaded.
//!
//! A [`Weights`] joins what a reader verified with the bytes it was verified against; every slice
//! it hands out was bounds-checked when the file was read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::dtype::DType;
use crate::{gguf, safetensors};

/// What holds the bytes of a whole model file: a mapping, or a buffer.
pub trait Held: Send + Sync {
    /// All of them.
    fn bytes(&self) -> &[u8];

    /// A range is not read soon: a mapping's memory may go, and comes back when it is read.
    fn unused(&self, _range: Range<usize>) {}
}

impl<T: AsRef<[u8]> + Send + Sync> Held for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}

/// The bytes of a whole model file.
pub type Bytes = Arc<dyn Held>;

/// A tensor of a file: its verified place and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: DType,
    /// Outermost dimension first (`[rows, columns]` of a matrix), each at least 1.
    pub shape: Vec<usize>,
    /// From the start of the file.
    pub offset: u64,
    /// Length of the data.
    pub bytes: u64,
}

/// What a model's files say of it, verified: the kinds of files there are.
#[derive(Clone, Debug, PartialEq)]
pub enum Container {
    /// One GGUF file.
    Gguf(gguf::Header),
    /// A folder with `model.safetensors`.
    Safetensors(safetensors::Header),
}

impl Container {
    /// Tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        match self {
            Container::Gguf(header) => &header.tensors,
            Container::Safetensors(header) => &header.tensors,
        }
    }

    /// The length of the file that has the tensors.
    pub fn file_bytes(&self) -> u64 {
        match self {
            Container::Gguf(header) => header.file_bytes,
            Container::Safetensors(header) => header.file_bytes,
        }
    }
}

impl From<gguf::Header> for Container {
    fn from(header: gguf::Header) -> Container {
        Container::Gguf(header)
    }
}

impl From<safetensors::Header> for Container {
    fn from(header: safetensors::Header) -> Container {
        Container::Safetensors(header)
    }
}

/// A model's weights: what its files say, and the bytes of the file that has the tensors.
#[derive(Clone)]
pub struct Weights {
    container: Arc<Container>,
    bytes: Bytes,
}

/// One tensor: shape, type, and the bytes of its elements.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    /// Outermost dimension first.
    pub shape: &'a [usize],
    /// Element type.
    pub dtype: DType,
    /// Exactly the bytes of the elements.
    pub bytes: &'a [u8],
}

/// Why a tensor cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The bytes are not those that the header was checked against.
    #[error("the file has {actual} bytes, its header was verified for {expected}; it was changed")]
    Changed {
        /// Length that the header was verified for.
        expected: u64,
        /// Length now.
        actual: u64,
    },
    /// There is no such tensor.
    #[error("the file has no tensor '{0}'")]
    Missing(String),
}

impl Weights {
    /// Joins what was verified with the bytes of the file that has the tensors.
    ///
    /// # Errors
    /// [`WeightsError::Changed`] when the length is not the one that was verified.
    pub fn new(container: impl Into<Container>, bytes: Bytes) -> Result<Weights, WeightsError> {
        let container = container.into();
        let (actual, expected) = (bytes.bytes().len() as u64, container.file_bytes());
        if actual != expected {
            return Err(WeightsError::Changed { expected, actual });
        }
        Ok(Weights { container: Arc::new(container), bytes })
    }

    /// What the files say.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        self.container.tensors()
    }

    /// The whole file that has the tensors.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.bytes()
    }

    /// Whether the file has a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().contains_key(name)
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] when there is none.
    pub fn tensor(&self, name: &str) -> Result<Weight<'_>, WeightsError> {
        let info =
            self.tensors().get(name).ok_or_else(|| WeightsError::Missing(name.to_owned()))?;
        let bytes = self.slice(info.offset, info.bytes);
        Ok(Weight { shape: &info.shape, dtype: info.dtype, bytes })
    }

    /// So many bytes of a tensor, from its first on, are not read soon.
    pub fn unused(&self, name: &str, bytes: usize) {
        if let Some(info) = self.tensors().get(name) {
            let start = usize::try_from(info.offset).expect("offset lies inside mapped bytes");
            let len = usize::try_from(info.bytes).expect("extent lies inside mapped bytes");
            self.bytes.unused(start..start + len.min(bytes));
        }
    }

    /// Bytes of an extent that was verified.
    pub(crate) fn slice(&self, offset: u64, bytes: u64) -> &[u8] {
        let start = usize::try_from(offset).expect("offset lies inside mapped bytes");
        let len = usize::try_from(bytes).expect("extent lies inside mapped bytes");
        &self.bytes()[start..start + len]
    }
}
