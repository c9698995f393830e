//! Decodes a file once, and says what the index says of it.

use bytes::Bytes;
use clips::Clip;
use clips::index::{Description, MAX_CLIP_BYTES};

use crate::decoder::{Fault, Pool};
use crate::sources::Trouble;

/// A file that can be packed.
pub struct Examined {
    /// Its content.
    pub bytes: Bytes,
    /// What the index says of it.
    pub description: Description,
}

/// Where a clip stands in a data set.
pub struct Standing {
    /// Its name.
    pub key: String,
    /// Its class.
    pub label: u32,
    /// The object that holds it.
    pub object: String,
    /// Where it begins there.
    pub offset_bytes: u64,
}

impl Examined {
    /// Its entry in the index: the only place where one is made.
    pub fn clip(&self, standing: Standing) -> Clip {
        let Standing { key, label, object, offset_bytes } = standing;
        self.description.clone().clip((key, label), (object, offset_bytes))
    }
}

/// Refuses a file by its length, before it is read.
pub fn check_length(length_bytes: u64) -> Result<(), String> {
    if length_bytes > MAX_CLIP_BYTES {
        return Err(format!(
            "it is {length_bytes} bytes long, at most {MAX_CLIP_BYTES} are packed: cut it into clips first"
        ));
    }
    Ok(())
}

/// Decodes a file in a process of its own, or says why it can't be packed.
pub async fn examine(bytes: Bytes, pool: &Pool) -> Result<Examined, Trouble> {
    let file = bytes.clone();
    let surveyed = pool.run(move |decoder| decoder.survey(&file)).await;
    let surveyed = surveyed.map_err(|fault| Trouble::File(format!("the decoder failed on it: {fault}")))?;
    let (description, survey) = surveyed.map_err(|fault| match fault {
        Fault::NoDecoder { .. } => Trouble::Any(fault.to_string()),
        Fault::Video(_) | Fault::Died(_) => Trouble::File(fault.to_string()),
    })?;
    // A few concealed errors are normal in downloads; a file that is mostly errors teaches nothing.
    if survey.good * 2 < survey.frames {
        return Err(Trouble::File(format!("only {} of {} frames can be decoded", survey.good, survey.frames)));
    }
    // Where the file lies and whether it is whole does not rest on the word of a process that has read it.
    let (length_bytes, crc32c) = (bytes.len() as u64, crc32c::crc32c(&bytes));
    let description = Description { length_bytes, crc32c, ..description };
    Ok(Examined { bytes, description })
}
