//! The writer thread: takes the jobs that wait, runs them in one transaction, commits, answers.
//!
//! While one commit waits for the disk the next jobs gather, so a busy collector flushes once for
//! many and an idle one answers at once. Each job has a savepoint: one that fails leaves nothing
//! behind and does not hurt its neighbours.

use rusqlite::{Connection, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;

/// Jobs that may wait; callers wait when it is full (chosen by hand: each caller has one job at a
/// time, and there are a dozen callers).
const QUEUE_JOBS: usize = 256;

/// Jobs in one transaction, so that the first does not wait for the last for long.
const GROUP_JOBS: usize = 64;

/// The way to the writer thread. It ends when the last of these is dropped.
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
}

trait Job: Send {
    /// Does the work inside the transaction.
    fn run(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()>;
    /// Tells the caller how it ended.
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Task<F, T> {
    work: Option<F>,
    answer: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Job for Task<F, T>
where
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.answer = Some(work(transaction)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { answer, reply, .. } = *self;
        // A caller that no longer listens has its reasons; the work is done or undone all the same.
        let _ = reply.send(outcome.and_then(|()| answer.ok_or(StoreError::Closed)));
    }
}

impl Writer {
    /// Starts the thread on its connection.
    pub(super) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(connection, queue))
            .map_err(|error| StoreError::Sqlite(format!("start the writer thread: {error}")))?;
        Ok(Self { jobs })
    }

    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (job, reply) = task(work);
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        reply.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn write_blocking<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (job, reply) = task(work);
        self.jobs
            .blocking_send(job)
            .map_err(|_| StoreError::Closed)?;
        reply.blocking_recv().map_err(|_| StoreError::Closed)?
    }
}

fn task<T, F>(work: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T, StoreError>>)
where
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    T: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let task = Task {
        work: Some(work),
        answer: None,
        reply,
    };
    (Box::new(task), answer)
}

fn run(mut connection: Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_JOBS
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        commit(&mut connection, group);
    }
}

/// Runs a group of jobs in one transaction and answers each.
fn commit(connection: &mut Connection, mut group: Vec<Box<dyn Job>>) {
    let outcomes = transact(connection, &mut group);
    match outcomes {
        Ok(outcomes) => {
            for (job, outcome) in group.into_iter().zip(outcomes) {
                job.finish(outcome.map_err(StoreError::from));
            }
        }
        Err(error) => {
            let error = StoreError::from(error);
            for job in group {
                job.finish(Err(error.clone()));
            }
        }
    }
}

fn transact(
    connection: &mut Connection,
    group: &mut [Box<dyn Job>],
) -> rusqlite::Result<Vec<rusqlite::Result<()>>> {
    let transaction = connection.transaction()?;
    let mut outcomes = Vec::with_capacity(group.len());
    for job in group {
        transaction.execute_batch("SAVEPOINT job")?;
        let outcome = job.run(&transaction);
        transaction.execute_batch(if outcome.is_ok() {
            "RELEASE job"
        } else {
            "ROLLBACK TO job; RELEASE job"
        })?;
        outcomes.push(outcome);
    }
    transaction.commit()?;
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> (tempfile::TempDir, Writer) {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("t.db")).unwrap();
        connection
            .execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY)")
            .unwrap();
        (folder, Writer::start(connection).unwrap())
    }

    fn add(value: i64) -> impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize> + Send {
        move |transaction| transaction.execute("INSERT INTO t VALUES (?1)", [value])
    }

    #[test]
    fn a_failed_job_leaves_nothing_and_spares_the_others() {
        let (_folder, writer) = writer();
        writer.write_blocking(add(1)).unwrap();
        let half = writer.write_blocking(|transaction| {
            transaction.execute("INSERT INTO t VALUES (2)", [])?;
            transaction.execute("INSERT INTO t VALUES (1)", [])
        });
        assert!(half.is_err());
        writer.write_blocking(add(3)).unwrap();
        let sum: i64 = writer
            .write_blocking(|t| t.query_row("SELECT sum(a) FROM t", [], |row| row.get(0)))
            .unwrap();
        assert_eq!(sum, 4);
    }

    #[test]
    fn a_group_shares_a_transaction_and_each_job_has_its_own_fate() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(folder.path().join("t.db")).unwrap();
        connection
            .execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY)")
            .unwrap();
        let (first, first_reply) = task(add(1));
        let (again, again_reply) = task(add(1));
        let (second, second_reply) = task(add(2));
        commit(&mut connection, vec![first, again, second]);
        assert!(first_reply.blocking_recv().unwrap().is_ok());
        assert!(again_reply.blocking_recv().unwrap().is_err());
        assert!(second_reply.blocking_recv().unwrap().is_ok());
        let rows: i64 = connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 2);
    }
}
