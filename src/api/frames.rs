//! The memory of a body's frames: few of them, used again and again.
//!
//! The HTTP layer would queue some 400 KiB of a body before it writes any of it, on every connection. A body that holds
//! back its next frame until one of the last few was written keeps that at [`FRAMES`] frames, and encodes into memory
//! that is still in the processor's cache.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

/// How many frames of one body exist at once: one that is being written, one that waits, one that is being made.
pub const FRAMES: usize = 3;

/// Memory that bodies which have ended leave to those that begin: some 60 KiB each, so 2 MiB in all. Without it, half of
/// the time in which a small body is made goes into memory that the system has to clear first.
const KEPT: usize = 32;

static LEFT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn left() -> MutexGuard<'static, Vec<Vec<u8>>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory that an earlier body left, with whatever it holds, or none.
pub fn inherit() -> Vec<u8> {
    left().pop().unwrap_or_default()
}

/// Leaves memory to later bodies. It holds a part of a customer's document, as the process's memory does anyway, and is
/// written over before it is sent.
pub fn bequeath(memory: Vec<u8>) {
    let mut left = left();
    if memory.capacity() > 0 && left.len() < KEPT {
        left.push(memory);
    }
}

/// Hands out the memory for a body's frames.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    shared: Arc<Mutex<FramePool>>,
}

#[derive(Debug, Default)]
struct FramePool {
    free: Vec<Vec<u8>>,
    out: usize,
    waiting: Option<Waker>,
}

impl Drop for FramePool {
    fn drop(&mut self) {
        self.free.drain(..).for_each(bequeath);
    }
}

/// A frame that was handed over; its memory comes back when the HTTP layer drops it.
struct Lent {
    memory: Vec<u8>,
    home: Frames,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let waiting = {
            let mut shared = self.home.shared();
            shared.out = shared.out.saturating_sub(1);
            shared.free.push(std::mem::take(&mut self.memory));
            shared.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl Frames {
    fn shared(&self) -> MutexGuard<'_, FramePool> {
        // A panic cannot leave it half changed: each change is complete before anything that may panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for a frame, with whatever it held before, once fewer than [`FRAMES`] are handed over.
    pub fn poll_memory(&self, context: &mut Context<'_>) -> Poll<Vec<u8>> {
        let mut shared = self.shared();
        if shared.out >= FRAMES {
            shared.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(shared.free.pop().unwrap_or_else(inherit))
    }

    /// Makes a frame of memory that came from here.
    #[must_use]
    pub fn lend(&self, memory: Vec<u8>) -> Bytes {
        self.shared().out += 1;
        Bytes::from_owner(Lent { memory, home: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn no_more_frames_are_made_than_may_be_out_and_their_memory_is_used_again() {
        let frames = Frames::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        while let Poll::Ready(mut memory) = frames.poll_memory(&mut context) {
            memory.resize(100, 7);
            out.push(frames.lend(memory));
        }
        assert_eq!(out.len(), FRAMES);
        let address = out[0].as_ptr();
        drop(out.remove(0));
        let Poll::Ready(memory) = frames.poll_memory(&mut context) else { panic!("one is free") };
        assert_eq!((memory.as_ptr(), memory.len()), (address, 100));
    }
}
