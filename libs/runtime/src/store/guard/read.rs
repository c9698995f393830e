//! Reads: hedged until their first byte, taken up again where they break, handed on when they are whole.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, Result,
};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout};

use super::{Patience, Shared, transient};

/// All of an answer but its body.
struct Answer {
    meta: ObjectMeta,
    range: Range<u64>,
    attributes: Attributes,
    extensions: Extensions,
}

/// An answer with its first piece there.
struct Begun {
    answer: Answer,
    first: Bytes,
    rest: BoxStream<'static, Result<Bytes>>,
}

/// What came of a body, in the pieces in which it came: nothing is copied here.
#[derive(Default)]
struct Body {
    pieces: Vec<Bytes>,
    bytes: u64,
}

/// One read on its way: what came so far, and what it may take.
struct Reader<'a> {
    shared: &'a Shared,
    patience: Patience,
    location: &'a Path,
    options: GetOptions,
    /// The first answer and as much of its body as came.
    partial: Option<(Answer, Body)>,
    turn: Option<SemaphorePermit<'a>>,
}

/// Reads the object, or the part of it that `options` ask for.
pub(super) async fn read(shared: &Shared, location: &Path, options: GetOptions) -> Result<GetResult> {
    let _turn = shared.turns.request().await;
    let _under_way = shared.meter.reading();
    let Some(patience) = shared.policy.patience else {
        return near(shared, location, options).await;
    };
    let turn = match &options.range {
        Some(GetRange::Bounded(range)) => Some(shared.turns.bytes(range.end.saturating_sub(range.start)).await),
        // The length is known with the answer only.
        _ => None,
    };
    let mut reader = Reader { shared, patience, location, options, partial: None, turn };
    let (what, start) = (format!("read {location}"), Instant::now());
    let mut attempts = 0;
    loop {
        attempts += 1;
        match reader.attempt().await {
            Ok(answer) => {
                shared.succeeded();
                return Ok(answer);
            }
            Err(error) => shared.failed(&what, attempts, start, error).await?,
        }
    }
}

/// A read of a folder or memory: as the store does it, and counted.
async fn near(shared: &Shared, location: &Path, options: GetOptions) -> Result<GetResult> {
    shared.meter.request();
    let (start, head) = (Instant::now(), options.head);
    let answer = shared.inner.get_opts(location, options).await.inspect_err(|_| shared.meter.failure())?;
    shared.meter.first_byte(start.elapsed());
    shared.meter.read(body_bytes(&answer.range, head));
    Ok(answer)
}

/// As [`near`], of several ranges in one go.
pub(super) async fn near_ranges(shared: &Shared, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    let _turn = shared.turns.request().await;
    let _bytes = shared.turns.bytes(ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum()).await;
    let _under_way = shared.meter.reading();
    shared.meter.request();
    let start = Instant::now();
    let read = shared.inner.get_ranges(location, ranges).await.inspect_err(|_| shared.meter.failure())?;
    shared.meter.first_byte(start.elapsed());
    shared.meter.read(read.iter().map(|bytes| bytes.len() as u64).sum());
    Ok(read)
}

impl Reader<'_> {
    /// Asks for what is missing and reads it.
    async fn attempt(&mut self) -> Result<GetResult> {
        let resumed = self.partial.is_some();
        let begun = match self.hedged().await {
            Err(error) if resumed && !transient::is_transient(&error) => return Err(self.anew(&error.to_string())),
            begun => begun?,
        };
        // Some servers don't heed If-Match.
        if self.partial.as_ref().is_some_and(|(first, _)| !first.is_same(&begun.answer)) {
            return Err(self.anew("it was replaced meanwhile"));
        }
        if self.turn.is_none() {
            self.turn = Some(self.shared.turns.bytes(body_bytes(&begun.answer.range, self.options.head)).await);
        }
        let (answer, body) = self.partial.get_or_insert_with(|| (begun.answer, Body::default()));
        let due = body_bytes(&answer.range, self.options.head);
        let pieces = stream::once(async { Ok(begun.first) }).chain(begun.rest).boxed();
        body.collect(due, pieces, self.patience.stall).await.map_err(|cause| broken(self.location, cause))?;
        let (answer, body) = self.partial.take().expect("just put there");
        self.shared.meter.read(due);
        let pieces = stream::iter(body.pieces.into_iter().map(Ok)).boxed();
        let payload = GetResultPayload::Stream(pieces);
        let Answer { meta, range, attributes, extensions } = answer;
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    /// The object is another one by now, or its first answer was wrong about it: all of it again.
    fn anew(&mut self, cause: &str) -> Error {
        self.partial = None;
        broken(self.location, format!("it can't be read on from where its body broke: {cause}"))
    }

    /// The options of the next request: what is missing, and of that same version of the object.
    fn asked(&self) -> GetOptions {
        let Some((answer, body)) = &self.partial else { return self.options.clone() };
        let missing = answer.range.start + body.bytes..answer.range.end;
        let same = answer.meta.e_tag.clone();
        GetOptions {
            range: Some(missing.into()),
            if_match: same.or_else(|| self.options.if_match.clone()),
            ..self.options.clone()
        }
    }

    /// The first of two answers, where the first request is slower than most and a second may be made.
    async fn hedged(&self) -> Result<Begun> {
        let mut first = Box::pin(self.begin());
        let Some(late) = self.late() else { return first.await };
        tokio::select! {
            biased;
            begun = &mut first => return begun,
            () = sleep(late) => {}
        }
        let Some(_turn) = self.shared.turns.spare().filter(|_| self.shared.hedges.spend()) else { return first.await };
        self.shared.meter.hedge();
        match select(first, Box::pin(self.begin())).await {
            Either::Left((Err(error), other)) if transient::is_transient(&error) => other.await,
            Either::Right((Err(error), other)) if transient::is_transient(&error) => other.await,
            Either::Left((begun, _)) => begun,
            Either::Right((begun, _)) => begun.inspect(|_| self.shared.meter.won_hedge()),
        }
    }

    /// When a read is late enough for a second request.
    fn late(&self) -> Option<Duration> {
        let least = self.patience.hedge_least?;
        Some(self.shared.meter.usual_first_byte()?.max(least))
    }

    /// One request, until its first byte.
    async fn begin(&self) -> Result<Begun> {
        self.shared.meter.request();
        let (start, asked) = (Instant::now(), self.asked());
        let until_first = async {
            let (answer, mut rest) = Answer::split(self.shared.inner.get_opts(self.location, asked).await?);
            // Memory hands the body over with the head.
            if self.options.head {
                rest = stream::empty().boxed();
            }
            let first = rest.try_next().await?;
            Ok(Begun { answer, first: first.unwrap_or_default(), rest })
        };
        let limit = self.patience.first_byte;
        let begun = timeout(limit, until_first)
            .await
            .unwrap_or_else(|_| Err(broken(self.location, format!("no byte came within {limit:.0?}"))))?;
        self.shared.meter.first_byte(start.elapsed());
        Ok(begun)
    }
}

impl Body {
    /// Adds to it until there are `due` bytes, no more and no fewer.
    async fn collect(
        &mut self,
        due: u64,
        mut pieces: BoxStream<'static, Result<Bytes>>,
        stall: Duration,
    ) -> std::result::Result<(), String> {
        loop {
            match timeout(stall, pieces.try_next()).await {
                Ok(Ok(Some(piece))) => {
                    self.bytes += piece.len() as u64;
                    self.pieces.push(piece);
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(format!("its body broke after {} of {due} bytes: {error}", self.bytes)),
                Err(_) => return Err(format!("its body stopped for {stall:.0?} after {} of {due} bytes", self.bytes)),
            }
        }
        if self.bytes == due {
            return Ok(());
        }
        let cause = format!("{} bytes came instead of {due}", self.bytes);
        if self.bytes > due {
            *self = Self::default();
        }
        Err(cause)
    }
}

impl Answer {
    fn split(answer: GetResult) -> (Self, BoxStream<'static, Result<Bytes>>) {
        let (meta, range) = (answer.meta.clone(), answer.range.clone());
        let (attributes, extensions) = (answer.attributes.clone(), answer.extensions.clone());
        (Self { meta, range, attributes, extensions }, answer.into_stream())
    }

    /// Whether two answers are about the same version of an object.
    fn is_same(&self, other: &Self) -> bool {
        (&self.meta.e_tag, self.meta.size) == (&other.meta.e_tag, other.meta.size)
    }
}

/// How long the body of an answer with this range is.
fn body_bytes(range: &Range<u64>, head: bool) -> u64 {
    if head { 0 } else { range.end - range.start }
}

fn broken(location: &Path, cause: String) -> Error {
    Error::Generic { store: "store", source: format!("can't read {location}: {cause}").into() }
}
