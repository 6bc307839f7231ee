//! What a full cache block holds, as a key: its tenant, all tokens before it, and its own.
//!
//! A key is SHA-256 over the tenant's salt, the key of the block before it and the block's tokens:
//! without the salt nobody can name a block, so no tenant finds what another one computed.

use compute::batch::BLOCK_LEN;
use sha2::{Digest, Sha256};

/// Whose cache entries these are: a salt that only the server knows. Nothing computed for one
/// tenant is reused for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenant(pub [u8; 32]);

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tenant(..)")
    }
}

/// The key of a full block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub [u8; 32]);

/// Adds the keys of the full blocks of `tokens` that `keys` lacks.
pub(crate) fn extend(keys: &mut Vec<Key>, tenant: &Tenant, tokens: &[u32]) {
    for block in tokens.chunks_exact(BLOCK_LEN).skip(keys.len()) {
        let mut hasher = Sha256::new();
        hasher.update(tenant.0);
        hasher.update(keys.last().map_or([0; 32], |key| key.0));
        block.iter().for_each(|token| hasher.update(token.to_le_bytes()));
        keys.push(Key(hasher.finalize().into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(tenant: u8, tokens: &[u32]) -> Vec<Key> {
        let mut keys = Vec::new();
        extend(&mut keys, &Tenant([tenant; 32]), tokens);
        keys
    }

    #[test]
    fn a_key_names_tenant_and_all_tokens_so_far() {
        let tokens: Vec<u32> = (0..3 * BLOCK_LEN as u32 + 5).collect();
        let whole = keys(1, &tokens);
        assert_eq!(whole.len(), 3);
        assert_eq!(keys(1, &tokens[..2 * BLOCK_LEN]), whole[..2]);
        let mut grown = keys(1, &tokens[..BLOCK_LEN]);
        extend(&mut grown, &Tenant([1; 32]), &tokens);
        assert_eq!(grown, whole);
        assert!(keys(2, &tokens).iter().all(|key| !whole.contains(key)));
        let mut other = tokens.clone();
        other[3] += 1;
        assert!(keys(1, &other).iter().all(|key| !whole.contains(key)));
        let shifted = keys(1, &tokens[BLOCK_LEN..]);
        assert!(shifted.iter().all(|key| !whole.contains(key)));
    }
}
