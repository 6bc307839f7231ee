//! Tensors by name out of bytes that somebody else mapped or loaded.
//!
//! A [`Weights`] joins a verified header with the bytes it was verified against; every slice it
//! hands out was bounds-checked when the header was read.

use std::sync::Arc;

use crate::dtype::DType;
use crate::gguf::Header;

/// The bytes of a whole model file: a mapping, or a buffer.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A model file: its verified header and its bytes.
#[derive(Clone)]
pub struct Weights {
    header: Arc<Header>,
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
    /// Joins a header with the bytes of its file.
    ///
    /// # Errors
    /// [`WeightsError::Changed`] when the length is not the one the header was verified for.
    pub fn new(header: Header, bytes: Bytes) -> Result<Weights, WeightsError> {
        let actual = (*bytes).as_ref().len() as u64;
        if actual != header.file_bytes {
            return Err(WeightsError::Changed { expected: header.file_bytes, actual });
        }
        Ok(Weights { header: Arc::new(header), bytes })
    }

    /// The verified header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    /// Whether the file has a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] when there is none.
    pub fn tensor(&self, name: &str) -> Result<Weight<'_>, WeightsError> {
        let info =
            self.header.tensors.get(name).ok_or_else(|| WeightsError::Missing(name.to_owned()))?;
        let start = usize::try_from(info.offset).expect("offset lies inside mapped bytes");
        let len = usize::try_from(info.bytes).expect("extent lies inside mapped bytes");
        let bytes = &(*self.bytes).as_ref()[start..start + len];
        Ok(Weight { shape: &info.shape, dtype: info.dtype, bytes })
    }
}
