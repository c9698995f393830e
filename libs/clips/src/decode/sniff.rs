//! What can be told from the bytes alone, before any demuxer sees them.

use crate::VideoError;

/// Refuses what is no video at all, and mp4 files that end too early: those are the broken files of real downloads,
/// and the demuxer's own message for them says less.
pub(super) fn check(bytes: &[u8]) -> Result<(), VideoError> {
    if bytes.is_empty() {
        return Err(VideoError::Empty);
    }
    if is_web_page(bytes) {
        return Err(VideoError::WebPage);
    }
    check_boxes(bytes)
}

fn is_web_page(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = bytes.trim_ascii_start();
    let starts = |word: &[u8]| text.len() >= word.len() && text[..word.len()].eq_ignore_ascii_case(word);
    [&b"<!doctype"[..], b"<html", b"<head", b"<?xml", b"<body", b"<script", b"<error"].into_iter().any(starts)
}

/// Walks the top level of an ISO media file (mp4, mov, 3gp); other containers pass.
fn check_boxes(bytes: &[u8]) -> Result<(), VideoError> {
    let Some(kind) = bytes.get(4..8) else { return Ok(()) };
    if ![&b"ftyp"[..], b"moov", b"mdat", b"free", b"skip", b"wide"].contains(&kind) {
        return Ok(());
    }
    let mut position = 0_u64;
    let mut has_moov = false;
    while let Some((kind, size)) = box_at(bytes, position) {
        has_moov |= &kind == b"moov";
        let Some(end) = position.checked_add(size).filter(|&end| end <= bytes.len() as u64) else {
            let kind = String::from_utf8_lossy(&kind).into_owned();
            let what = format!("its `{kind}` box should be {size} bytes long, but only {} are there", {
                bytes.len() as u64 - position
            });
            return Err(VideoError::Truncated { what });
        };
        position = end;
    }
    if !has_moov {
        let what = "it has no `moov` box, so the recording or download was never finished".to_owned();
        return Err(VideoError::Truncated { what });
    }
    Ok(())
}

/// Type and size of the box at `position`; none at the end and where no box begins (padding after the last one).
fn box_at(bytes: &[u8], position: u64) -> Option<([u8; 4], u64)> {
    let rest = &bytes[usize::try_from(position).ok()?..];
    let kind: [u8; 4] = rest.get(4..8)?.try_into().ok()?;
    if !kind.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        return None;
    }
    let short = u32::from_be_bytes(rest[..4].try_into().ok()?);
    let size = match short {
        0 => rest.len() as u64,
        1 => u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?).max(16),
        size => u64::from(size).max(8),
    };
    Some((kind, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mp4_box(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut out = (payload.len() as u32 + 8).to_be_bytes().to_vec();
        out.extend_from_slice(kind);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn web_pages_are_recognised() {
        for page in ["<!DOCTYPE html><p>", "\n  <html lang=en>", "\u{feff}<?xml version='1.0'?><Error/>", "<HTML>"] {
            assert_eq!(check(page.as_bytes()), Err(VideoError::WebPage), "{page}");
        }
        assert_eq!(check(b""), Err(VideoError::Empty));
    }

    #[test]
    fn a_box_past_the_end_is_a_truncation() {
        let whole = [mp4_box(b"ftyp", b"isom"), mp4_box(b"moov", &[0; 9]), mp4_box(b"mdat", &[0; 99])].concat();
        assert_eq!(check(&whole), Ok(()));
        assert_eq!(check(&[&whole[..], &[0; 32]].concat()), Ok(()), "padding is harmless");
        let cut = check(&whole[..whole.len() - 1]).expect_err("cut");
        assert_eq!(
            cut.to_string(),
            "the file is cut off: its `mdat` box should be 107 bytes long, but only 106 are there"
        );
        let headless = [mp4_box(b"ftyp", b"isom"), mp4_box(b"mdat", &[0; 99])].concat();
        assert!(check(&headless).expect_err("no moov").to_string().contains("no `moov` box"));
    }

    #[test]
    fn no_header_makes_the_walk_hang_or_overflow() {
        let mut lying = mp4_box(b"ftyp", b"isom");
        lying.extend_from_slice(&[0, 0, 0, 1]);
        lying.extend_from_slice(b"mdat");
        lying.extend_from_slice(&u64::MAX.to_be_bytes());
        assert!(matches!(check(&lying), Err(VideoError::Truncated { .. })));
        let tiny = [mp4_box(b"ftyp", b""), vec![0, 0, 0, 3], b"moov".to_vec()].concat();
        assert_eq!(check(&tiny), Ok(()), "a size below the header counts as the header");
    }
}
