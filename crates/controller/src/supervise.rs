//! Tasks that are meant to run for ever, and what follows when one does not.

use std::future::Future;
use tokio::task::JoinSet;

/// Tasks by name.
#[derive(Default)]
pub(crate) struct Supervised {
    tasks: JoinSet<&'static str>,
}

impl Supervised {
    /// Starts a task that is not to end before the process does.
    pub(crate) fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// The name of the first task that ends.
    pub(crate) async fn first_to_end(&mut self) -> &'static str {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => "a cancelled task",
            },
            None => "every task",
        }
    }

    /// Waits for all to end.
    pub(crate) async fn all(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_task_that_ends_is_named() {
        let mut tasks = Supervised::default();
        tasks.start("stays", std::future::pending());
        tasks.start("ends", async {});
        assert_eq!(tasks.first_to_end().await, "ends");
    }
}
