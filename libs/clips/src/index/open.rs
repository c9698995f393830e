//! Opens the index of a large data set by reading little of it: the end, then the columns that every clip is needed
//! with. Outlines come later, a page of them at a time.
//!
//! ```text
//! Footer::parse(end of the object) ── ranges ──► Footer::open ──► Index (without footage), Outlines
//! ```
//!
//! Nothing here reads: whoever does gets told which bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMask, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::offset_index::PageLocation;

use super::table::{self, FIRST_COLUMNS, OUTLINE, Piece};
use super::{Index, IndexError};

/// Where everything is in an index.
pub struct Footer {
    table: ParquetMetaData,
    classes: Vec<String>,
}

/// What the end of the object tells.
pub enum End {
    /// All that is needed.
    Whole(Footer),
    /// Where things are is written in the last so many bytes.
    Longer(u64),
}

/// Where the outlines are.
pub struct Outlines {
    table: ParquetMetaData,
    /// Of the first clip of each page, its number; then the row group and place of the page.
    pages: Vec<(u64, usize, PageLocation)>,
    clips: u64,
}

impl std::fmt::Debug for Outlines {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Outlines").field("pages", &self.pages.len()).field("clips", &self.clips).finish()
    }
}

impl Footer {
    /// Reads the last bytes of an index of this length: the first try may take any number of them.
    pub fn parse(end: &Bytes, object_bytes: u64) -> Result<End, IndexError> {
        let mut reader = ParquetMetaDataReader::new()
            .with_offset_index_policy(PageIndexPolicy::Required)
            .with_offset_index_mask(ColumnChunkMask::columns([OUTLINE]));
        match reader.try_parse_sized(end, object_bytes) {
            Ok(()) => {}
            Err(ParquetError::NeedMoreData(bytes)) => return Ok(End::Longer(bytes as u64)),
            Err(error) => return Err(error.into()),
        }
        let table = reader.finish()?;
        let classes = table::classes(&table)?;
        Ok(End::Whole(Self { table, classes }))
    }

    /// The parts of the object that [`Footer::open`] needs.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let range = |group: &parquet::file::metadata::RowGroupMetaData| {
            let end = |(start, length): (u64, u64)| start + length;
            group.column(0).byte_range().0..end(group.column(FIRST_COLUMNS - 1).byte_range())
        };
        self.table.row_groups().iter().map(range).collect()
    }

    /// The index, from the parts that were asked for.
    pub fn open(self, parts: Vec<Bytes>) -> Result<(Index, Outlines), IndexError> {
        let mut clips = Vec::with_capacity(usize::try_from(self.table.file_metadata().num_rows()).unwrap_or(0));
        let mut pages = Vec::new();
        let groups = self.table.row_groups().iter().enumerate();
        for (((number, group), range), bytes) in groups.zip(self.ranges()).zip(parts) {
            let first = clips.len() as u64;
            let locations = self.table.page_index().and_then(|pages| pages.page_locations(number, OUTLINE));
            for page in locations.into_iter().flatten() {
                pages.push((first + page.first_row_index.unsigned_abs(), number, page.clone()));
            }
            clips.extend(table::clips(&Arc::new(Piece { start: range.start, bytes }), group)?);
        }
        let outlines = Outlines { table: self.table, pages, clips: clips.len() as u64 };
        Ok((Index::new(self.classes, clips)?, outlines))
    }
}

impl Outlines {
    /// The page that holds a clip's outline, and where the page is in the object.
    ///
    /// # Panics
    /// If the index has no such clip.
    pub fn page_of(&self, clip: u64) -> (usize, Range<u64>) {
        assert!(clip < self.clips, "clip {clip} of {}", self.clips);
        let page = self.pages.partition_point(|(first, ..)| *first <= clip) - 1;
        let (_, _, place) = &self.pages[page];
        let start = place.offset.unsigned_abs();
        (page, start..start + u64::from(place.compressed_page_size.unsigned_abs()))
    }

    /// The outlines of a page, from its bytes: sealed, and empty for a clip that has none.
    pub fn read(&self, page: usize, bytes: Bytes) -> Result<Vec<Bytes>, IndexError> {
        let (first, group, place) = self.pages[page].clone();
        let end = self.pages.get(page + 1).map_or(self.clips, |(next, ..)| *next);
        let piece = Piece { start: place.offset.unsigned_abs(), bytes };
        let rows = usize::try_from(end - first).unwrap_or(0);
        let values = table::page(piece, self.table.row_group(group), (place, rows))?;
        Ok(values.into_iter().map(|value| Bytes::copy_from_slice(value.data())).collect())
    }

    /// Which of a page's outlines is a clip's.
    pub fn place_in(&self, page: usize, clip: u64) -> usize {
        usize::try_from(clip - self.pages[page].0).unwrap_or(usize::MAX)
    }
}

/// The outline of the clip whose content has this checksum; none if it is damaged or another's.
pub fn unseal(clip_crc32c: u32, sealed: &[u8]) -> Option<crate::Outline> {
    table::unseal(clip_crc32c, sealed).and_then(crate::Outline::parse)
}

/// Reads an index that is wholly in memory, with all footage.
pub(super) fn whole(bytes: &[u8]) -> Result<Index, IndexError> {
    let bytes = Bytes::copy_from_slice(bytes);
    let End::Whole(footer) = Footer::parse(&bytes, bytes.len() as u64)? else {
        return Err(IndexError::Table("it ends too early".to_owned()));
    };
    let piece = Arc::new(Piece { start: 0, bytes });
    let mut clips = Vec::new();
    for group in footer.table.row_groups() {
        let mut some = table::clips(&piece, group)?;
        table::all_footage(&piece, group, &mut some)?;
        clips.append(&mut some);
    }
    Index::new(footer.classes, clips)
}
