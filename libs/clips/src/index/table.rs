//! The index as a Parquet table, one row a clip.
//!
//! The columns that a loader needs at once stand first in each row group, so that they come in one request; outlines
//! stand last, in pages of a few rows, each of which can be read alone.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::basic::Compression;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::describe::Footage;
use super::{Clip, INDEX_VERSION, Index, IndexError};

const SCHEMA: &str = "message clips {
    required binary key (UTF8);
    required int32 label (INTEGER(32, false));
    required binary object (UTF8);
    required int64 offset_bytes;
    required int64 length_bytes;
    required int32 crc32c (INTEGER(32, false));
    required int32 frames (INTEGER(32, false));
    required int32 width (INTEGER(32, false));
    required int32 height (INTEGER(32, false));
    required int32 groups (INTEGER(32, false));
    required binary container (UTF8);
    required binary codec (UTF8);
    required binary pixel_format (UTF8);
    optional double fps;
    optional double duration_seconds;
    required binary outline;
}";
/// How many of the columns a loader reads at once.
pub(super) const FIRST_COLUMNS: usize = 10;
/// Number of the last column.
pub(super) const OUTLINE: usize = 15;
const COLUMNS: usize = OUTLINE + 1;

const ROWS_A_GROUP: usize = 1 << 16;
/// Few enough that little is read in vain for one clip, and enough that the table's footer stays small.
const OUTLINES_A_PAGE: usize = 16;
const VERSION_KEY: &str = "vared.version";
const CLASSES_KEY: &str = "vared.classes";

type Result<T> = std::result::Result<T, ParquetError>;

/// The table of an index.
pub(super) fn write(index: &Index) -> Result<Vec<u8>> {
    let classes = serde_json::to_string(&index.classes).expect("strings always serialise");
    let outline = || ColumnPath::from("outline");
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_statistics_enabled(outline(), EnabledStatistics::None)
        .set_column_dictionary_enabled(outline(), false)
        .set_column_data_page_row_count_limit(outline(), OUTLINES_A_PAGE)
        // Pages are closed between batches only.
        .set_write_batch_size(OUTLINES_A_PAGE)
        .set_key_value_metadata(Some(vec![
            KeyValue::new(VERSION_KEY.to_owned(), INDEX_VERSION.to_string()),
            KeyValue::new(CLASSES_KEY.to_owned(), classes),
        ]))
        .build();
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    for clips in index.clips.chunks(ROWS_A_GROUP) {
        let mut group = writer.next_row_group()?;
        write_group(&mut group, clips)?;
        group.close()?;
    }
    writer.into_inner()
}

fn write_group(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, clips: &[Clip]) -> Result<()> {
    let text = |of: fn(&Clip) -> &str| clips.iter().map(|clip| ByteArray::from(of(clip))).collect::<Vec<_>>();
    let small = |of: fn(&Clip) -> u32| clips.iter().map(|clip| of(clip) as i32).collect::<Vec<_>>();
    let large = |of: fn(&Clip) -> u64| clips.iter().map(|clip| of(clip) as i64).collect::<Vec<_>>();
    put::<ByteArrayType>(group, &text(|clip| &clip.key))?;
    put::<Int32Type>(group, &small(|clip| clip.label))?;
    put::<ByteArrayType>(group, &text(|clip| &clip.object))?;
    put::<Int64Type>(group, &large(|clip| clip.offset_bytes))?;
    put::<Int64Type>(group, &large(|clip| clip.length_bytes))?;
    put::<Int32Type>(group, &small(|clip| clip.crc32c))?;
    put::<Int32Type>(group, &small(|clip| clip.frames))?;
    put::<Int32Type>(group, &small(|clip| clip.width))?;
    put::<Int32Type>(group, &small(|clip| clip.height))?;
    put::<Int32Type>(group, &small(|clip| clip.groups))?;
    put::<ByteArrayType>(group, &text(|clip| footage(clip).map_or("", |footage| &footage.container)))?;
    put::<ByteArrayType>(group, &text(|clip| footage(clip).map_or("", |footage| &footage.codec)))?;
    put::<ByteArrayType>(group, &text(|clip| footage(clip).map_or("", |footage| &footage.pixel_format)))?;
    let numbers: [fn(&Footage) -> Option<f64>; 2] = [|footage| footage.fps, |footage| footage.duration_seconds];
    for of in numbers {
        let values: Vec<Option<f64>> = clips.iter().map(|clip| footage(clip).and_then(of)).collect();
        let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
        let mut column = next(group)?;
        column.typed::<DoubleType>().write_batch(&Vec::from_iter(values.into_iter().flatten()), Some(&levels), None)?;
        column.close()?;
    }
    let outlines: Vec<ByteArray> = clips.iter().map(|clip| ByteArray::from(seal(clip))).collect();
    put::<ByteArrayType>(group, &outlines)
}

fn footage(clip: &Clip) -> Option<&Footage> {
    clip.footage.as_deref()
}

fn next<'a>(
    group: &'a mut SerializedRowGroupWriter<'_, Vec<u8>>,
) -> Result<parquet::file::writer::SerializedColumnWriter<'a>> {
    group.next_column()?.ok_or_else(|| ParquetError::General("the schema has too few columns".to_owned()))
}

fn put<T: DataType>(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, values: &[T::T]) -> Result<()> {
    let mut column = next(group)?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

/// An outline behind a checksum that covers whose it is; empty if there is none.
fn seal(clip: &Clip) -> Vec<u8> {
    match footage(clip) {
        Some(footage) if !footage.outline.is_empty() => {
            let checksum = checksum(clip.crc32c, &footage.outline);
            [&checksum.to_le_bytes()[..], &footage.outline].concat()
        }
        _ => Vec::new(),
    }
}

/// The outline of the clip whose content has this checksum; none if it is damaged or another's.
pub(super) fn unseal(clip_crc32c: u32, sealed: &[u8]) -> Option<&[u8]> {
    let (found, outline) = sealed.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*found) == checksum(clip_crc32c, outline)).then_some(outline)
}

fn checksum(clip_crc32c: u32, outline: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&clip_crc32c.to_le_bytes()), outline)
}

/// A piece of the table's object.
pub(super) struct Piece {
    /// Where it begins in the object.
    pub(super) start: u64,
    /// Its bytes.
    pub(super) bytes: Bytes,
}

impl Length for Piece {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Piece {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let at = self.at(start, 0)?;
        Ok(self.bytes.slice(at..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let at = self.at(start, length)?;
        Ok(self.bytes.slice(at..at + length))
    }
}

impl Piece {
    fn at(&self, start: u64, length: usize) -> Result<usize> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let within = |&at: &usize| at.checked_add(length).is_some_and(|end| end <= self.bytes.len());
        at.filter(within).ok_or_else(|| ParquetError::EOF("a part of the table is missing".to_owned()))
    }
}

/// Class names, if this is an index of the version that is read here.
pub(super) fn classes(table: &ParquetMetaData) -> std::result::Result<Vec<String>, IndexError> {
    let strange = || IndexError::Table("it is a Parquet table, but not one of clips".to_owned());
    let pairs = table.file_metadata().key_value_metadata().ok_or_else(strange)?;
    let value = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref());
    let found = value(VERSION_KEY).and_then(|version| version.parse().ok()).ok_or_else(strange)?;
    if found != INDEX_VERSION {
        return Err(IndexError::Version { found });
    }
    let expected = parse_message_type(SCHEMA).map_err(IndexError::from)?;
    let is_ours = table.file_metadata().schema().get_fields() == expected.get_fields();
    let classes = value(CLASSES_KEY).filter(|_| is_ours).ok_or_else(strange)?;
    debug_assert_eq!(expected.get_fields().len(), COLUMNS);
    serde_json::from_str(classes).map_err(|_| strange())
}

/// The clips of one row group, without their footage.
pub(super) fn clips(piece: &Arc<Piece>, group: &RowGroupMetaData) -> Result<Vec<Clip>> {
    let rows = usize::try_from(group.num_rows()).unwrap_or(0);
    let text = |column| Ok::<_, ParquetError>(get::<ByteArrayType>((piece, group), column)?.into_iter().map(utf8));
    let small = |column| get::<Int32Type>((piece, group), column);
    let large = |column| get::<Int64Type>((piece, group), column);
    let (mut keys, mut objects) = (text(0)?, text(2)?);
    let (labels, offsets, lengths) = (small(1)?, large(3)?, large(4)?);
    let [crcs, frames, widths, heights, groups] = [small(5)?, small(6)?, small(7)?, small(8)?, small(9)?];
    let clip = |n: usize| {
        Ok(Clip {
            key: keys.next().unwrap_or_else(|| Ok(String::new()))?,
            label: labels[n] as u32,
            object: objects.next().unwrap_or_else(|| Ok(String::new()))?,
            offset_bytes: offsets[n] as u64,
            length_bytes: lengths[n] as u64,
            crc32c: crcs[n] as u32,
            frames: frames[n] as u32,
            width: widths[n] as u32,
            height: heights[n] as u32,
            groups: groups[n] as u32,
            footage: None,
        })
    };
    (0..rows).map(clip).collect()
}

/// The footage of one row group's clips, whose checksums are known.
pub(super) fn all_footage(piece: &Arc<Piece>, group: &RowGroupMetaData, clips: &mut [Clip]) -> Result<()> {
    let text = |column| get::<ByteArrayType>((piece, group), column);
    let (containers, codecs, formats) = (text(10)?, text(11)?, text(12)?);
    let (rates, durations) = (get_some((piece, group), 13)?, get_some((piece, group), 14)?);
    let outlines = text(OUTLINE)?;
    for (n, clip) in clips.iter_mut().enumerate() {
        let sealed = outlines[n].data();
        let damaged = || ParquetError::General(format!("the outline of clip {:?} is damaged", clip.key));
        let outline = if sealed.is_empty() { Some(&[][..]) } else { unseal(clip.crc32c, sealed) };
        let footage = Footage {
            container: utf8(containers[n].clone())?,
            codec: utf8(codecs[n].clone())?,
            pixel_format: utf8(formats[n].clone())?,
            fps: rates[n],
            duration_seconds: durations[n],
            outline: outline.ok_or_else(damaged)?.to_vec(),
        };
        clip.footage = Some(Box::new(footage)).filter(|footage| !footage.codec.is_empty());
    }
    Ok(())
}

/// The outlines of one page.
pub(super) fn page(
    piece: Piece,
    group: &RowGroupMetaData,
    (page, rows): (PageLocation, usize),
) -> Result<Vec<ByteArray>> {
    // As if the column had no other: what lies before a page is taken for its dictionary.
    let column = group.column(OUTLINE).clone().into_builder();
    let column = column.set_data_page_offset(page.offset).set_total_compressed_size(page.compressed_page_size.into());
    let column = column.set_num_values(rows as i64).set_dictionary_page_offset(None).build()?;
    let pages = SerializedPageReader::new(Arc::new(piece), &column, rows, None)?;
    let mut reader = ColumnReaderImpl::<ByteArrayType>::new(column.column_descr_ptr(), Box::new(pages));
    let mut values = Vec::with_capacity(rows);
    reader.read_records(rows, None, None, &mut values)?;
    full(values, rows)
}

fn get<T: DataType>((piece, group): (&Arc<Piece>, &RowGroupMetaData), column: usize) -> Result<Vec<T::T>> {
    let rows = usize::try_from(group.num_rows()).unwrap_or(0);
    let mut values = Vec::with_capacity(rows.min(ROWS_A_GROUP));
    let mut reader = reader::<T>((piece, group), column)?;
    while values.len() < rows && reader.read_records(rows - values.len(), None, None, &mut values)?.0 > 0 {}
    full(values, rows)
}

/// A column that may have gaps.
fn get_some((piece, group): (&Arc<Piece>, &RowGroupMetaData), column: usize) -> Result<Vec<Option<f64>>> {
    let rows = usize::try_from(group.num_rows()).unwrap_or(0);
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let mut reader = reader::<DoubleType>((piece, group), column)?;
    while levels.len() < rows && reader.read_records(rows - levels.len(), Some(&mut levels), None, &mut values)?.0 > 0 {
    }
    let mut values = values.into_iter();
    full(levels.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect(), rows)
}

fn reader<T: DataType>((piece, group): (&Arc<Piece>, &RowGroupMetaData), column: usize) -> Result<ColumnReaderImpl<T>> {
    let rows = usize::try_from(group.num_rows()).unwrap_or(0);
    let pages = SerializedPageReader::new(Arc::clone(piece), group.column(column), rows, None)?;
    Ok(ColumnReaderImpl::new(group.column(column).column_descr_ptr(), Box::new(pages)))
}

fn full<T>(values: Vec<T>, rows: usize) -> Result<Vec<T>> {
    if values.len() == rows { Ok(values) } else { Err(ParquetError::EOF("a column ends too early".to_owned())) }
}

fn utf8(value: ByteArray) -> Result<String> {
    value.as_utf8().map(str::to_owned)
}
