//! Bytes that are signed, hashed or shown: fields one after the other, each with its length, and
//! hexadecimal. It knows no meaning.

/// A message of fields under a domain: the domain's bytes, then per field its length (32 bits,
/// big-endian) and its bytes. No two lists of fields give the same bytes, and none gives those of
/// another domain, as each domain ends with a line break and has none before.
pub(crate) fn message(domain: &str, fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = domain.as_bytes().to_vec();
    for field in fields {
        let length = u32::try_from(field.len()).expect("fields are bounded far below 4 GiB");
        bytes.extend(length.to_be_bytes());
        bytes.extend(*field);
    }
    bytes
}

/// Lower case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Exactly so many bytes out of lower case hexadecimal; none where it is anything else.
pub(crate) fn unhex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != 2 * BYTES {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(digits[0])? << 4 | nibble(digits[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_be_shifted_into_each_other() {
        let of = |fields: &[&[u8]]| message("d\n", fields);
        assert_eq!(of(&[b"ab", b""]), b"d\n\0\0\0\x02ab\0\0\0\0");
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab"]), of(&[b"ab", b""]));
    }

    #[test]
    fn hexadecimal_has_one_spelling() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
        assert_eq!(unhex("001fff"), Some([0, 0x1f, 0xff]));
        for other in ["001fF0", "001ff", "001fff0", "0x1fff", "00 fff", "é1fff"] {
            assert_eq!(unhex::<3>(other), None, "{other}");
        }
    }
}
