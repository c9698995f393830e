//! Numbers in as few bytes as they need: seven bits a byte, the lowest first, the eighth bit set on all but the last.
//! Negative numbers take turns with positive ones: 0, -1, 1, -2, …

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number that may be negative.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends bytes behind their number.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What is left to read. Everything is none where the bytes end too early or say too much.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next number.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// The next number, if it fits.
    pub(super) fn fits<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    /// The next number, which may be negative.
    pub(super) fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next so many bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Bytes behind their number.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.fits()?;
        self.take(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_read_back(number: u64, signed: i64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put(&mut out, number);
            put_signed(&mut out, signed);
            put_bytes(&mut out, &bytes);
            let mut reader = Reader(&out);
            prop_assert_eq!((reader.number(), reader.signed()), (Some(number), Some(signed)));
            prop_assert_eq!(reader.bytes(), Some(&bytes[..]));
            prop_assert_eq!(reader.number(), None);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>) {
            let mut reader = Reader(&bytes);
            while reader.signed().is_some() {}
            prop_assert!(reader.bytes().is_none_or(|taken| taken.len() <= bytes.len()));
        }
    }

    #[test]
    fn small_numbers_take_one_byte() {
        let mut out = Vec::new();
        for value in [0, -1, 1, -64, 63] {
            put_signed(&mut out, value);
        }
        assert_eq!(out, [0, 1, 2, 127, 126]);
        assert_eq!(Reader(&[0xff; 10]).number(), None, "more than 64 bits");
    }
}
