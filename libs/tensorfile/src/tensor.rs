//! A tensor as a view of a file's bytes.

use half::{bf16, f16};

/// What a tensor's elements are. All little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Double precision.
    F64,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Brain floating point: the upper half of a single.
    BF16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// 16-bit integer.
    I16,
    /// 8-bit integer.
    I8,
    /// Byte.
    U8,
    /// 0 or 1, a byte.
    Bool,
}

impl Element {
    /// Bytes of one.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// A view of a part of a file. Strides are in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor<'a> {
    element: Element,
    storage: &'a [u8],
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    len: usize,
}

impl<'a> Tensor<'a> {
    /// A tensor that fills its storage in the usual order.
    pub(crate) fn whole(element: Element, storage: &'a [u8], shape: Vec<usize>) -> Result<Self, String> {
        let mut strides = vec![1_usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
        }
        Self::new(element, storage, 0, (shape, strides))
    }

    /// Checks that every element lies inside of the storage, and none is meant to be repeated.
    pub(crate) fn new(
        element: Element,
        storage: &'a [u8],
        offset: usize,
        (shape, strides): (Vec<usize>, Vec<usize>),
    ) -> Result<Self, String> {
        if shape.len() != strides.len() {
            return Err(format!("{} sizes, but {} strides", shape.len(), strides.len()));
        }
        let there = storage.len() / element.size();
        let too_large = || format!("shape {shape:?} at {offset} needs more than the {there} elements that are there");
        let len = shape.iter().try_fold(1_usize, |len, size| len.checked_mul(*size)).ok_or_else(too_large)?;
        let last = shape.iter().zip(&strides).try_fold(offset, |last, (size, stride)| {
            size.saturating_sub(1).checked_mul(*stride).and_then(|reach| last.checked_add(reach))
        });
        if len > 0 && (len > there || last.is_none_or(|last| last >= there)) {
            return Err(too_large());
        }
        Ok(Self { element, storage, offset, shape, strides, len })
    }

    /// What its elements are.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Sizes of its axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.len * self.element.size()
    }

    /// Its elements in the usual order as single-precision numbers: halves are widened, doubles rounded. Nothing if they
    /// are integers.
    pub fn floats(&self) -> Option<Vec<f32>> {
        let read: fn(&[u8]) -> f32 = match self.element {
            Element::F64 => |bytes| f64::from_le_bytes(array(bytes)) as f32,
            Element::F32 => |bytes| f32::from_le_bytes(array(bytes)),
            Element::F16 => |bytes| f16::from_le_bytes(array(bytes)).to_f32(),
            Element::BF16 => |bytes| bf16::from_le_bytes(array(bytes)).to_f32(),
            _ => return None,
        };
        Some(self.elements().map(read).collect())
    }

    /// Its elements in the usual order as integers. Nothing if they are not.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let read: fn(&[u8]) -> i64 = match self.element {
            Element::I64 => |bytes| i64::from_le_bytes(array(bytes)),
            Element::I32 => |bytes| i32::from_le_bytes(array(bytes)).into(),
            Element::I16 => |bytes| i16::from_le_bytes(array(bytes)).into(),
            Element::I8 => |bytes| i8::from_le_bytes(array(bytes)).into(),
            Element::U8 | Element::Bool => |bytes| bytes[0].into(),
            _ => return None,
        };
        Some(self.elements().map(read).collect())
    }

    /// The bytes of each element, in the usual order.
    fn elements(&self) -> impl Iterator<Item = &'a [u8]> {
        let size = self.element.size();
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        (0..self.len).map(move |_| {
            let element = &self.storage[at * size..(at + 1) * size];
            at = self.next(&mut index, at);
            element
        })
    }

    /// Counts `index` up by one, last axis first; gives the place of the element there.
    fn next(&self, index: &mut [usize], mut at: usize) -> usize {
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < self.shape[axis] {
                return at + self.strides[axis];
            }
            at -= (self.shape[axis] - 1) * self.strides[axis];
            index[axis] = 0;
        }
        at
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("an element's bytes are as many as its type says")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(count: u8) -> Vec<u8> {
        (0..count).flat_map(|value| f32::from(value).to_le_bytes()).collect()
    }

    #[test]
    fn strides_and_offsets_are_followed() {
        let storage = storage(12);
        let transposed = Tensor::new(Element::F32, &storage, 1, (vec![3, 2], vec![1, 4])).expect("inside");
        assert_eq!(transposed.floats().expect("floats"), [1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
        let scalar = Tensor::new(Element::F32, &storage, 11, (vec![], vec![])).expect("inside");
        assert_eq!(scalar.floats().expect("floats"), [11.0]);
        let empty = Tensor::new(Element::F32, &storage, 12, (vec![0, 5], vec![5, 1])).expect("nothing is read");
        assert_eq!(empty.floats().expect("floats"), [0.0; 0]);
    }

    #[test]
    fn what_lies_outside_or_repeats_is_refused() {
        let storage = storage(12);
        for (offset, shape, strides) in [
            (1, vec![3, 4], vec![4, 1]),
            (0, vec![13], vec![1]),
            (0, vec![2], vec![usize::MAX]),
            (0, vec![usize::MAX, 2], vec![0, 0]),
            (0, vec![100], vec![0]),
            (usize::MAX, vec![1], vec![1]),
        ] {
            let error = Tensor::new(Element::F32, &storage, offset, (shape, strides)).expect_err("outside");
            assert!(error.contains("more than the 12 elements"), "{error}");
        }
        assert!(Tensor::new(Element::F32, &storage, 0, (vec![2], vec![])).is_err());
    }

    #[test]
    fn halves_are_widened_and_doubles_rounded() {
        let halves: Vec<u8> = [1.5_f32, -0.25].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let brains: Vec<u8> = [1.5_f32, -0.25].iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        let doubles: Vec<u8> = [1.5_f64, -0.25].iter().flat_map(|v| v.to_le_bytes()).collect();
        for (element, bytes) in [(Element::F16, halves), (Element::BF16, brains), (Element::F64, doubles)] {
            let tensor = Tensor::whole(element, &bytes, vec![2]).expect("fits");
            assert_eq!((tensor.floats(), tensor.integers()), (Some(vec![1.5, -0.25]), None));
        }
        let count = Tensor::whole(Element::I64, &[7, 0, 0, 0, 0, 0, 0, 0], vec![]).expect("fits");
        assert_eq!((count.floats(), count.integers()), (None, Some(vec![7])));
    }
}
