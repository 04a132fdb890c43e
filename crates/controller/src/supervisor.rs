//! Supervises tasks that should never end, for `run`.

use std::future::Future;

use tokio::task::JoinSet;

/// Running tasks, each with a name.
#[derive(Default)]
pub(crate) struct TaskSet {
    tasks: JoinSet<&'static str>,
}

impl TaskSet {
    /// Starts a task that should not end before the process does.
    pub(crate) fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits until a task ends, and returns its name. Propagates the task's panic.
    pub(crate) async fn wait_for_first_end(&mut self) -> &'static str {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => "a cancelled task",
            },
            None => "every task",
        }
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn wait_for_all(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_the_task_that_ends() {
        let mut tasks = TaskSet::default();
        tasks.start("stays", std::future::pending());
        tasks.start("ends", async {});
        assert_eq!(tasks.wait_for_first_end().await, "ends");
    }
}
