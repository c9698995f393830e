//! How a picture must be turned to stand upright: phones film lying down and say so in the container.

use ffmpeg_next::codec::packet::side_data::Type;
use ffmpeg_next::format::stream::Stream;

/// Where a pixel of the stored picture is displayed: rows and columns exchanged first, then each axis reversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Upright {
    /// Rows become columns.
    pub(super) is_transposed: bool,
    flips_columns: bool,
    flips_rows: bool,
}

impl Upright {
    /// As the stream's display matrix has it, rounded to quarter turns.
    pub(super) fn of(stream: &Stream) -> Self {
        let matrix = stream.side_data().find(|side| side.kind() == Type::DisplayMatrix);
        matrix.map_or_else(Self::default, |side| Self::of_matrix(side.data()))
    }

    /// Nine numbers of four bytes in the machine's order: x' = a x + c y and y' = b x + d y, where the matrix begins with
    /// a, b, _, c, d.
    fn of_matrix(bytes: &[u8]) -> Self {
        let number =
            |n: usize| bytes.get(4 * n..4 * n + 4).and_then(|four| four.try_into().ok()).map(i32::from_ne_bytes);
        let [a, b, c, d] = [0, 1, 3, 4].map(|n| i64::from(number(n).unwrap_or(0)));
        match a.abs() >= b.abs() {
            true => Self { is_transposed: false, flips_columns: a < 0, flips_rows: d < 0 },
            false => Self { is_transposed: true, flips_columns: c < 0, flips_rows: b < 0 },
        }
    }

    /// As a number.
    pub(super) fn to_bits(self) -> u8 {
        u8::from(self.is_transposed) | u8::from(self.flips_columns) << 1 | u8::from(self.flips_rows) << 2
    }

    /// What [`Upright::to_bits`] made a number of.
    pub(super) fn of_bits(bits: u8) -> Self {
        Self { is_transposed: bits & 1 != 0, flips_columns: bits & 2 != 0, flips_rows: bits & 4 != 0 }
    }

    /// The stored size of a displayed one, and the other way round.
    pub(super) fn size(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.is_transposed { (height, width) } else { (width, height) }
    }

    /// Appends a picture of RGB24, whose rows begin `stride` bytes apart, as it is displayed at a size.
    pub(super) fn append(self, (data, stride): (&[u8], usize), size: (u32, u32), out: &mut Vec<u8>) {
        let (width, height) = (size.0 as usize, size.1 as usize);
        if self == Self::default() {
            for row in data.chunks(stride).take(height) {
                out.extend_from_slice(&row[..width * 3]);
            }
            return;
        }
        let place = |at: usize, length: usize, flips: bool| if flips { length - 1 - at } else { at };
        for row in 0..height {
            let row = place(row, height, self.flips_rows);
            for column in 0..width {
                let column = place(column, width, self.flips_columns);
                let (x, y) = if self.is_transposed { (row, column) } else { (column, row) };
                out.extend_from_slice(&data[y * stride + x * 3..][..3]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 3 x 2 pixels, 1 2 3 over 4 5 6, as a matrix displays it.
    fn shown(matrix: [i32; 4]) -> (u32, Vec<u8>) {
        let [a, b, c, d] = matrix.map(|n| n << 16);
        let bytes: Vec<u8> = [a, b, 0, c, d, 0, 0, 0, 1 << 30].into_iter().flat_map(i32::to_ne_bytes).collect();
        let upright = Upright::of_matrix(&bytes);
        let stored: Vec<u8> = (1..=6).flat_map(|pixel| [pixel; 3]).collect();
        let size = upright.size((3, 2));
        let mut out = Vec::new();
        upright.append((&stored, 9), size, &mut out);
        (size.0, out.chunks(3).map(|pixel| pixel[0]).collect())
    }

    #[test]
    fn each_of_the_eight_orientations_is_undone() {
        assert_eq!(shown([1, 0, 0, 1]), (3, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(shown([0, 1, -1, 0]), (2, vec![4, 1, 5, 2, 6, 3]), "a quarter turn clockwise");
        assert_eq!(shown([-1, 0, 0, -1]), (3, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(shown([0, -1, 1, 0]), (2, vec![3, 6, 2, 5, 1, 4]), "a quarter turn back");
        assert_eq!(shown([-1, 0, 0, 1]), (3, vec![3, 2, 1, 6, 5, 4]), "mirrored");
        assert_eq!(shown([1, 0, 0, -1]), (3, vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(shown([0, 1, 1, 0]), (2, vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(shown([0, -1, -1, 0]), (2, vec![6, 3, 5, 2, 4, 1]));
    }

    #[test]
    fn a_matrix_of_nothing_changes_nothing() {
        assert_eq!(Upright::of_matrix(&[]), Upright::default());
        assert_eq!(Upright::of_matrix(&[0; 36]), Upright::default());
    }
}
