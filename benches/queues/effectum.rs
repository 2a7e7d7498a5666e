//! Cycles of effectum: a job is added, run, and recorded as done. Arguments: the database, how many are under way at once,
//! and how many each of those makes. Its database is set to `synchronous=NORMAL` by itself, so that a power loss may take
//! what it has confirmed; nothing allows to change that.

use std::{path::PathBuf, sync::Arc, time::Instant};

use effectum::{Job, JobRunner, Queue, RunningJob, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

#[derive(Serialize, Deserialize)]
struct Payload {
    number: u64,
}

async fn run(job: RunningJob, done: Arc<Semaphore>) -> Result<(), effectum::Error> {
    let payload: Payload = job.json_payload()?;
    std::hint::black_box(payload.number);
    done.add_permits(1);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, at_once, each] = arguments.as_slice() else { return Err("DATABASE AT_ONCE EACH".into()) };
    let (at_once, each): (u16, u64) = (at_once.parse()?, each.parse()?);
    let queue = Arc::new(Queue::new(&PathBuf::from(database)).await?);
    let done = Arc::new(Semaphore::new(0));
    let worker = Worker::builder(&queue, Arc::clone(&done))
        .max_concurrency(at_once)
        .jobs([JobRunner::builder("cycle", run).build()])
        .build()
        .await?;
    let began = Instant::now();
    let adders: Vec<_> = (0..u64::from(at_once))
        .map(|at| {
            let (queue, done) = (Arc::clone(&queue), Arc::clone(&done));
            tokio::spawn(async move {
                for number in 0..each {
                    let payload = Payload { number: at * each + number };
                    let job = Job::builder("cycle").json_payload(&payload).map_err(|error| error.to_string())?;
                    job.add_to(&queue).await.map_err(|error| error.to_string())?;
                    // Some job is run before the next is added, so that as many are under way as there are adders.
                    done.acquire().await.map_err(|error| error.to_string())?.forget();
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for adder in adders {
        adder.await??;
    }
    while worker.counts().finished < u64::from(at_once) * each {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{{\"cycles\":{},\"seconds\":{seconds}}}", u64::from(at_once) * each);
    Ok(())
}
