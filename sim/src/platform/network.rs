//! The network: ordered streams between processes, each message delayed by itself; partitions that hold messages back.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    rc::{Rc, Weak},
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::process::{Process, Socket};

/// What every stream passes through.
pub struct Network {
    random: RefCell<ChaCha8Rng>,
    /// Messages take 1 ms to this.
    slowest: Cell<Duration>,
    /// Pairs of hosts between which nothing passes, from the first to the second.
    blocked: RefCell<BTreeSet<(String, String)>>,
    /// Wakes whoever waits for a partition to end.
    changed: Rc<Notify>,
    streams: RefCell<Vec<Weak<dyn Cut>>>,
}

const CALM: Duration = Duration::from_millis(4);

impl Network {
    /// A network without faults.
    pub fn new(seed: u64) -> Rc<Self> {
        Rc::new(Self {
            random: RefCell::new(ChaCha8Rng::seed_from_u64(seed)),
            slowest: Cell::new(CALM),
            blocked: RefCell::default(),
            changed: Rc::default(),
            streams: RefCell::default(),
        })
    }

    fn delay(&self) -> Duration {
        let most = u64::try_from(self.slowest.get().as_millis()).unwrap_or(1).max(1);
        Duration::from_millis(self.random.borrow_mut().random_range(1..=most))
    }

    /// Messages take up to this long from now on.
    pub fn slow_down(&self, slowest: Duration) {
        self.slowest.set(slowest);
    }

    /// Nothing passes from the one host to the other.
    pub fn block(&self, from: &str, to: &str) {
        self.blocked.borrow_mut().insert((from.to_owned(), to.to_owned()));
    }

    /// It passes again.
    pub fn unblock(&self, from: &str, to: &str) {
        self.blocked.borrow_mut().remove(&(from.to_owned(), to.to_owned()));
        self.changed.notify_waiters();
    }

    /// No faults any more.
    pub fn calm(&self) {
        self.slowest.set(CALM);
        self.blocked.borrow_mut().clear();
        self.changed.notify_waiters();
    }

    fn is_blocked(&self, from: &str, to: &str) -> bool {
        let blocked = self.blocked.borrow();
        !blocked.is_empty() && blocked.contains(&(from.to_owned(), to.to_owned()))
    }

    /// One message's way, outside of any stream.
    pub async fn trip(&self, from: &Process, to: &Process) {
        sleep(self.delay()).await;
        loop {
            let changed = self.changed.notified();
            if !self.is_blocked(&from.host, &to.host) {
                return;
            }
            changed.await;
        }
    }

    /// A stream in one direction.
    pub fn pipe<T: 'static>(self: &Rc<Self>, from: &Rc<Process>, to: &Rc<Process>) -> Rc<Pipe<T>> {
        let pipe = Rc::new(Pipe {
            network: Rc::clone(self),
            from: Rc::clone(from),
            to: Rc::clone(to),
            queue: RefCell::default(),
            is_closed: Cell::new(false),
            is_unread: Cell::new(false),
            news: Notify::new(),
        });
        let socket: Rc<dyn Socket> = Rc::<Pipe<T>>::clone(&pipe);
        for end in [from, to] {
            end.holds(Rc::downgrade(&socket));
            if !end.lives() {
                socket.abandon(end.number);
            }
        }
        pipe
    }

    /// A stream in both directions, which a fault can cut.
    pub fn stream<U: 'static, D: 'static>(
        self: &Rc<Self>,
        member: &Rc<Process>,
        server: &Rc<Process>,
    ) -> Rc<Stream<U, D>> {
        let stream = Rc::new(Stream { up: self.pipe(member, server), down: self.pipe(server, member) });
        let cut: Rc<dyn Cut> = Rc::<Stream<U, D>>::clone(&stream);
        let mut streams = self.streams.borrow_mut();
        streams.retain(|stream| stream.upgrade().is_some_and(|stream| stream.is_open()));
        streams.push(Rc::downgrade(&cut));
        stream
    }

    /// Cuts one of the open streams, chosen by a number; says whose.
    pub fn cut(&self, number: usize) -> Option<String> {
        let streams: Vec<Rc<dyn Cut>> = self.streams.borrow().iter().filter_map(Weak::upgrade).collect();
        let open: Vec<_> = streams.into_iter().filter(|stream| stream.is_open()).collect();
        let chosen = open.get(number.checked_rem(open.len())?)?;
        chosen.cut();
        Some(chosen.name())
    }
}

/// What can be cut.
trait Cut {
    fn cut(&self);
    fn is_open(&self) -> bool;
    fn name(&self) -> String;
}

/// A connection between a member and a server.
pub struct Stream<U, D> {
    /// From the member.
    pub up: Rc<Pipe<U>>,
    /// To the member.
    pub down: Rc<Pipe<D>>,
}

impl<U, D> Stream<U, D> {
    /// Ends it; what was sent before still arrives.
    pub fn close(&self) {
        self.up.close();
        self.down.close();
    }
}

impl<U, D> Cut for Stream<U, D> {
    fn cut(&self) {
        self.up.cut();
        self.down.cut();
    }

    fn is_open(&self) -> bool {
        !self.up.is_closed.get() && !self.down.is_closed.get() && !self.down.is_unread.get()
    }

    fn name(&self) -> String {
        format!("{} to {}", self.up.from, self.up.to)
    }
}

/// A stream in one direction: in order, nothing lost unless it is cut or its reader ends.
pub struct Pipe<T> {
    network: Rc<Network>,
    from: Rc<Process>,
    to: Rc<Process>,
    /// `None` is the end.
    queue: RefCell<VecDeque<(Instant, Option<T>)>>,
    is_closed: Cell<bool>,
    /// Its reader has ended; the writer hears of that by the stream in the other direction.
    is_unread: Cell<bool>,
    news: Notify,
}

impl<T> Pipe<T> {
    /// Sends; says whether the stream is open as far as its writer can know.
    pub fn send(&self, message: T) -> bool {
        if !self.is_closed.get() && !self.is_unread.get() {
            self.push(Some(message));
        }
        !self.is_closed.get()
    }

    /// The writer has nothing more to say.
    pub fn close(&self) {
        if !self.is_closed.replace(true) {
            self.push(None);
        }
    }

    /// Whatever is on its way is lost, and the reader sees that.
    pub fn cut(&self) {
        self.queue.borrow_mut().clear();
        self.is_closed.set(true);
        self.push(None);
    }

    fn push(&self, message: Option<T>) {
        let mut queue = self.queue.borrow_mut();
        let arrives = Instant::now() + self.network.delay();
        let arrives = queue.back().map_or(arrives, |(last, _)| arrives.max(*last));
        queue.push_back((arrives, message));
        self.news.notify_one();
    }

    /// The next message; `None` at the end of the stream. Loses nothing when it is dropped.
    pub async fn recv(&self) -> Option<T> {
        loop {
            let changed = self.network.changed.notified();
            let head = self.queue.borrow().front().map(|(at, _)| *at);
            match head {
                None => self.news.notified().await,
                Some(at) if Instant::now() < at => {
                    tokio::select! { biased; () = sleep_until(at) => {}, () = self.news.notified() => {} }
                }
                Some(_) if self.network.is_blocked(&self.from.host, &self.to.host) => {
                    tokio::select! { biased; () = changed => {}, () = self.news.notified() => {} }
                }
                Some(_) => return self.take(),
            }
        }
    }

    fn take(&self) -> Option<T> {
        let mut queue = self.queue.borrow_mut();
        match queue.front() {
            // The end stays the end.
            Some((_, None)) | None => None,
            Some((_, Some(_))) => queue.pop_front().and_then(|(_, message)| message),
        }
    }
}

impl<T> Socket for Pipe<T> {
    fn abandon(&self, process: u32) {
        if process == self.to.number {
            self.queue.borrow_mut().clear();
            self.is_unread.set(true);
        } else {
            self.close();
        }
    }
}
