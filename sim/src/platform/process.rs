//! Processes: what can be stopped, continued, killed, and has sockets that the kernel closes when it ends.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use cluster::event::Exit;
use tokio::{sync::Notify, task::AbortHandle};

/// Something that a process holds open.
pub trait Socket {
    /// The process has ended: the kernel closes it.
    fn abandon(&self, process: u32);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    Frozen,
    Over,
}

/// A process on a host. Its code runs as tasks of one thread, which are polled while it runs and never afterwards.
pub struct Process {
    /// Unlike any other process's.
    pub number: u32,
    /// The seat that it sits in: `worker-0`.
    pub seat: String,
    /// Where it runs.
    pub host: String,
    state: Cell<State>,
    thawed_at: Cell<Duration>,
    parked: RefCell<Vec<Waker>>,
    tasks: RefCell<Vec<AbortHandle>>,
    sockets: RefCell<Vec<Weak<dyn Socket>>>,
    exit: RefCell<Option<Exit>>,
    ended: Notify,
    terminated: Notify,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/p{}", self.seat, self.number)
    }
}

impl Process {
    /// A process that does nothing yet.
    pub fn new(number: u32, seat: &str, host: &str) -> Rc<Self> {
        Rc::new(Self {
            number,
            seat: seat.to_owned(),
            host: host.to_owned(),
            state: Cell::new(State::Runs),
            thawed_at: Cell::new(Duration::ZERO),
            parked: RefCell::default(),
            tasks: RefCell::default(),
            sockets: RefCell::default(),
            exit: RefCell::default(),
            ended: Notify::new(),
            terminated: Notify::new(),
        })
    }

    /// Runs a part of the process. Aborting it drops it where it waits.
    pub fn spawn(self: &Rc<Self>, part: impl Future<Output = ()> + 'static) -> AbortHandle {
        let gate = Gate { process: Rc::clone(self), part: Box::pin(part) };
        let task = tokio::task::spawn_local(gate).abort_handle();
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.clone());
        task
    }

    /// Keeps account of a socket.
    pub fn holds(&self, socket: Weak<dyn Socket>) {
        let mut sockets = self.sockets.borrow_mut();
        if sockets.len() % 16 == 15 {
            sockets.retain(|socket| socket.strong_count() > 0);
        }
        sockets.push(socket);
    }

    /// SIGSTOP: nothing of it runs, its sockets stay open.
    pub fn freeze(&self) {
        if self.state.get() == State::Runs {
            self.state.set(State::Frozen);
        }
    }

    /// SIGCONT: it goes on as if no time had passed.
    pub fn thaw(&self, now: Duration) {
        if self.state.get() == State::Frozen {
            self.state.set(State::Runs);
            self.thawed_at.set(now);
            self.parked.take().into_iter().for_each(Waker::wake);
        }
    }

    /// SIGTERM: it is asked to leave in good order.
    pub fn terminate(&self) {
        self.terminated.notify_one();
    }

    /// Resolves when it is asked to leave.
    pub async fn until_terminated(&self) {
        self.terminated.notified().await;
    }

    /// Ends it, from inside or from outside. The first one counts.
    pub fn end(&self, exit: Exit) {
        if self.state.replace(State::Over) == State::Over {
            return;
        }
        *self.exit.borrow_mut() = Some(exit);
        self.tasks.take().iter().for_each(AbortHandle::abort);
        for socket in self.sockets.take() {
            if let Some(socket) = socket.upgrade() {
                socket.abandon(self.number);
            }
        }
        self.ended.notify_waiters();
    }

    /// How it ended, once it has.
    pub async fn until_ended(&self) -> Exit {
        loop {
            let ended = self.ended.notified();
            if let Some(exit) = self.exit.borrow().clone() {
                return exit;
            }
            ended.await;
        }
    }

    /// Whether it has not ended; it may be frozen.
    pub fn lives(&self) -> bool {
        self.state.get() != State::Over
    }

    /// Whether it is stopped.
    pub fn is_frozen(&self) -> bool {
        self.state.get() == State::Frozen
    }

    /// When it was continued last.
    pub fn thawed_at(&self) -> Duration {
        self.thawed_at.get()
    }
}

/// Lets a part of a process run only while the process does.
struct Gate {
    process: Rc<Process>,
    part: Pin<Box<dyn Future<Output = ()>>>,
}

impl Future for Gate {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.process.state.get() {
            State::Over => Poll::Ready(()),
            State::Frozen => {
                self.process.parked.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
            State::Runs => self.part.as_mut().poll(context),
        }
    }
}
