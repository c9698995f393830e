//! A contact sheet: rows of pictures on a dark ground, as a PNG.

use std::io;

/// Pixels between two pictures.
const GAP: usize = 4;
/// Level of the ground between them.
const GROUND: u8 = 24;

/// Pictures of RGB24, in rows.
#[derive(Debug, Default)]
pub struct Sheet {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    width: usize,
    height: usize,
    pictures: Vec<Vec<u8>>,
}

impl Row {
    fn width(&self) -> usize {
        GAP + self.pictures.len() * (self.width + GAP)
    }
}

impl Sheet {
    /// Adds a row of pictures (hwc) of one size.
    ///
    /// # Panics
    /// If a picture has another size.
    pub fn row<'a>(&mut self, (width, height): (u32, u32), pictures: impl Iterator<Item = &'a [u8]>) {
        let pictures: Vec<Vec<u8>> = pictures.map(<[u8]>::to_vec).collect();
        let bytes = clips::decode::frame_bytes(width, height);
        assert!(pictures.iter().all(|picture| picture.len() == bytes), "pictures of one size");
        self.rows.push(Row { width: width as usize, height: height as usize, pictures });
    }

    /// Adds the rows of another sheet below.
    pub fn append(&mut self, below: Self) {
        self.rows.extend(below.rows);
    }

    /// Pixels a row, and rows of pixels.
    pub fn size(&self) -> (usize, usize) {
        let width = self.rows.iter().map(Row::width).max().unwrap_or(GAP);
        (width, GAP + self.rows.iter().map(|row| row.height + GAP).sum::<usize>())
    }

    /// All of it as a PNG.
    pub fn png(&self) -> io::Result<Vec<u8>> {
        let (width, height) = self.size();
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&self.pixels())?;
        Ok(file)
    }

    fn pixels(&self) -> Vec<u8> {
        let (width, height) = self.size();
        let mut pixels = vec![GROUND; width * height * 3];
        let mut top = GAP;
        for row in &self.rows {
            for (n, picture) in row.pictures.iter().enumerate() {
                let left = GAP + n * (row.width + GAP);
                for (y, line) in picture.chunks_exact(row.width * 3).enumerate() {
                    let start = ((top + y) * width + left) * 3;
                    pixels[start..start + line.len()].copy_from_slice(line);
                }
            }
            top += row.height + GAP;
        }
        pixels
    }

    /// How many pictures of a width fit beside each other under the widest row.
    pub fn fits(&self, width: u32) -> u32 {
        let widest = self.rows.iter().map(Row::width).max().unwrap_or(0).saturating_sub(GAP);
        ((widest / (width as usize + GAP)) as u32).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_lie_in_rows() {
        let mut sheet = Sheet::default();
        sheet.row((2, 1), [[1; 6].as_slice(), &[2; 6]].into_iter());
        sheet.row((3, 2), [[3; 18].as_slice()].into_iter());
        let (width, height) = sheet.size();
        assert_eq!((width, height), (4 + 2 + 4 + 2 + 4, 4 + 1 + 4 + 2 + 4));
        let pixels = sheet.pixels();
        let at = |x: usize, y: usize| pixels[(y * width + x) * 3];
        assert_eq!([at(3, 4), at(4, 4), at(5, 4), at(6, 4), at(10, 4), at(12, 4)], [GROUND, 1, 1, GROUND, 2, GROUND]);
        assert_eq!([at(4, 8), at(4, 9), at(6, 10), at(7, 10), at(4, 11)], [GROUND, 3, 3, GROUND, GROUND]);
        assert_eq!((sheet.fits(2), sheet.fits(6), sheet.fits(99)), (2, 1, 1));
    }

    #[test]
    fn a_sheet_reads_back_as_a_png() {
        let mut sheet = Sheet::default();
        sheet.row((2, 2), [[7; 12].as_slice()].into_iter());
        let file = sheet.png().expect("memory");
        let mut reader = png::Decoder::new(io::Cursor::new(&file)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        reader.next_frame(&mut pixels).expect("whole");
        assert_eq!(pixels, sheet.pixels());
    }
}
