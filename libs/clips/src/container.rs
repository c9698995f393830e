//! WebDataset shards: tar files in which `<key>.<extension>` is the video and `<key>.cls` its label as text.
//!
//! Members are written with fixed times and owners, so that the same clips give the same shard, byte for byte.

use std::io::{self, Cursor, Read, Seek};

/// Ending of the member that holds a clip's label.
const LABEL_EXTENSION: &str = "cls";

/// Tar works in blocks of this many bytes.
const BLOCK_BYTES: u64 = 512;

/// Builds one shard in memory and says where each video lies in it.
pub struct ShardWriter {
    tar: tar::Builder<Vec<u8>>,
    clips: usize,
}

/// One file inside a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name without its extension.
    pub key: String,
    /// What follows the first dot of the file name.
    pub extension: String,
    /// Where its bytes begin in the shard.
    pub offset_bytes: u64,
    /// How many there are.
    pub length_bytes: u64,
}

impl Default for ShardWriter {
    fn default() -> Self {
        Self { tar: tar::Builder::new(Vec::new()), clips: 0 }
    }
}

impl ShardWriter {
    /// Appends a video and its label; returns the offset of the video's bytes in the shard.
    pub fn append(&mut self, key: &str, extension: &str, video: &[u8], label: u32) -> io::Result<u64> {
        let offset_bytes = self.member(&format!("{key}.{extension}"), video)?;
        self.member(&format!("{key}.{LABEL_EXTENSION}"), label.to_string().as_bytes())?;
        self.clips += 1;
        Ok(offset_bytes)
    }

    /// Bytes so far.
    pub fn len_bytes(&self) -> u64 {
        self.tar.get_ref().len() as u64
    }

    /// Clips so far.
    pub fn clips(&self) -> usize {
        self.clips
    }

    /// Closes the archive and returns its bytes.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.tar.into_inner()
    }

    fn member(&mut self, name: &str, data: &[u8]) -> io::Result<u64> {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        // A long name takes blocks of its own in front, so the offset is counted from the end.
        self.tar.append_data(&mut header, name, data)?;
        Ok(self.len_bytes() - (data.len() as u64).next_multiple_of(BLOCK_BYTES))
    }
}

/// Lists the files of a shard.
pub fn members(shard: &[u8]) -> io::Result<Vec<Member>> {
    let mut found = Vec::new();
    walk(Cursor::new(shard), |member, _| {
        found.push(member);
        Ok(())
    })?;
    Ok(found)
}

/// Goes through the files of a shard; what is not read of their content is jumped over.
pub fn walk<R: Read + Seek>(shard: R, mut see: impl FnMut(Member, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
    let mut archive = tar::Archive::new(shard);
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (key, extension) = split_name(&name);
        let member = Member {
            key: key.to_owned(),
            extension: extension.to_owned(),
            offset_bytes: entry.raw_file_position(),
            length_bytes: entry.size(),
        };
        see(member, &mut entry)?;
    }
    Ok(())
}

/// WebDataset's rule: the key ends at the first dot of the file name; folders belong to it.
fn split_name(name: &str) -> (&str, &str) {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[file..].find('.') {
        Some(dot) => (&name[..file + dot], &name[file + dot + 1..]),
        None => (name, ""),
    }
}

/// Makes a key of any path: dots would end it early for WebDataset readers, control characters end up in messages.
pub fn sanitise_key(path: &str) -> String {
    let fit = |c: char| if c == '.' || c == '\\' || c.is_control() { '_' } else { c };
    path.trim_matches('/').chars().map(fit).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slice(shard: &[u8], member: &Member) -> Vec<u8> {
        let start = member.offset_bytes as usize;
        shard[start..start + member.length_bytes as usize].to_vec()
    }

    #[test]
    fn a_shard_lists_video_and_label_at_their_offsets() {
        let mut writer = ShardWriter::default();
        let long = format!("class/{}", "n".repeat(150));
        let first = writer.append("pan left/a b", "mp4", b"video one", 1).expect("memory");
        let second = writer.append(&long, "webm", &[7; 1500], 12).expect("memory");
        let shard = writer.finish().expect("memory");
        let found = members(&shard).expect("own output");
        assert_eq!(
            found.iter().map(|m| (m.key.as_str(), m.extension.as_str())).collect::<Vec<_>>(),
            [("pan left/a b", "mp4"), ("pan left/a b", "cls"), (long.as_str(), "webm"), (long.as_str(), "cls")]
        );
        assert_eq!((found[0].offset_bytes, found[2].offset_bytes), (first, second));
        assert_eq!(slice(&shard, &found[0]), b"video one");
        assert_eq!(slice(&shard, &found[2]), [7; 1500]);
        assert_eq!(slice(&shard, &found[3]), b"12");
    }

    #[test]
    fn the_system_tar_reads_a_shard() {
        let mut writer = ShardWriter::default();
        writer.append(&"k".repeat(120), "mp4", b"0123456789", 3).expect("memory");
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("shard.tar");
        std::fs::write(&path, writer.finish().expect("memory")).expect("write");
        let name = format!("{}.mp4", "k".repeat(120));
        let out = std::process::Command::new("tar").arg("-xOf").arg(&path).arg(&name).output().expect("tar runs");
        assert_eq!(out.stdout, b"0123456789");
    }

    #[test]
    fn keys_have_no_dots() {
        assert_eq!(sanitise_key("a.b/c d.e\n"), "a_b/c d_e_");
        assert_eq!(split_name("a.b/c.mp4.gz"), ("a.b/c", "mp4.gz"));
        assert_eq!(split_name("plain"), ("plain", ""));
    }

    proptest! {
        #[test]
        fn any_clip_is_found_where_the_writer_said(
            clips in prop::collection::vec(("[a-zé/ ]{1,140}", prop::collection::vec(any::<u8>(), 0..2000)), 1..8)
        ) {
            let mut writer = ShardWriter::default();
            let mut expected = Vec::new();
            for (i, (name, video)) in clips.iter().enumerate() {
                let key = format!("{}{i}", sanitise_key(name).replace("//", "/"));
                let offset = writer.append(&key, "mp4", video, i as u32).expect("memory");
                expected.push((offset as usize, video));
            }
            let shard = writer.finish().expect("memory");
            for (offset, video) in expected {
                prop_assert_eq!(&shard[offset..offset + video.len()], video.as_slice());
            }
        }
    }
}
